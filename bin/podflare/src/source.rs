//! Code to run, as given on the command line: text, a file or standard input, and its arguments.

use std::fs;
use std::io::{self, IsTerminal, Read};
use std::path::Path;

use api::{ExecRequest, Language};
use clap::Args;

use crate::failure::Failure;

/// Which code to run, and with what.
#[derive(Args, Debug)]
pub(crate) struct SourceArgs {
    /// Code to run, instead of a file
    #[arg(short = 'c', value_name = "CODE", allow_hyphen_values = true)]
    code: Option<String>,

    /// Run it with bash instead of Python (a file named *.sh is bash anyway)
    #[arg(long)]
    bash: bool,

    /// Interrupt the run after this many milliseconds
    #[arg(long, value_name = "MS")]
    timeout_ms: Option<u64>,

    /// A file, or `-` for standard input (unless -c is given); the rest are the code's own arguments
    #[arg(
        value_name = "FILE] [ARGS",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    words: Vec<String>,
}

/// Code ready to be sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Source {
    code: String,
    language: Language,
    timeout_ms: Option<u64>,
    /// What the code sees as its name, followed by its arguments.
    argv: Vec<String>,
}

impl SourceArgs {
    /// Reads the code from where it is.
    pub(crate) fn read(self) -> Result<Source, Failure> {
        let mut words = self.words.into_iter();
        let (code, name) = match self.code {
            Some(code) => (code, "-c".to_owned()),
            None => match words.next() {
                // Everything after the file is the code's own, so clap lets this through; but no one names a file so.
                Some(option) if option.starts_with('-') && option != "-" => {
                    return Err(Failure::usage(format!("there is no option `{option}`"))
                        .hint("see --help; a file of that name is given as ./NAME"));
                }
                Some(file) if file != "-" => (read_file(&file)?, file),
                None if io::stdin().is_terminal() => {
                    return Err(Failure::new("no_code", "there is nothing to run")
                        .hint("give a file, `-c 'print(1)'`, or code on standard input"));
                }
                Some(_) | None => (read_stdin()?, "-".to_owned()),
            },
        };
        let bash = self.bash
            || Path::new(&name)
                .extension()
                .is_some_and(|extension| extension == "sh");
        Ok(Source {
            code,
            language: if bash { Language::Bash } else { Language::Python },
            timeout_ms: self.timeout_ms,
            argv: [name].into_iter().chain(words).collect(),
        })
    }
}

impl Source {
    /// What is to be run before the code so that it sees its arguments; nothing when it has none.
    ///
    /// In Python the interpreter lives on between runs, so its `sys.argv` is set by a run of its own: the code's line
    /// numbers, encoding declaration and `from __future__` imports stay where they are.
    pub(crate) fn preparation(&self) -> Option<ExecRequest> {
        if self.language != Language::Python || self.argv.len() < 2 {
            return None;
        }
        // Written in ASCII only, so that no encoding on the way matters.
        let argv = python_list(&self.argv);
        Some(ExecRequest {
            code: format!("__import__('sys').argv[:] = {argv}"),
            language: Language::Python,
            timeout_ms: None,
        })
    }

    /// The run itself. In bash, which is fresh for each run, arguments are set in front of the code's first line.
    pub(crate) fn request(self) -> ExecRequest {
        let code = match self.language {
            Language::Bash if self.argv.len() > 1 => {
                let words: Vec<String> = self.argv[1..].iter().map(|word| shell_quoted(word)).collect();
                format!("set -- {}; {}", words.join(" "), self.code)
            }
            Language::Bash | Language::Python => self.code,
        };
        ExecRequest {
            code,
            language: self.language,
            timeout_ms: self.timeout_ms,
        }
    }
}

fn read_file(path: &str) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|error| {
        let failure = Failure::while_doing("unreadable_file", &format!("cannot read `{path}`"), &error);
        match error.kind() {
            io::ErrorKind::InvalidData => failure.hint("code must be UTF-8 text"),
            io::ErrorKind::NotFound => failure.hint("code on the command line is given with -c"),
            _ => failure,
        }
    })
}

fn read_stdin() -> Result<String, Failure> {
    let mut code = String::new();
    io::stdin()
        .read_to_string(&mut code)
        .map_err(|error| Failure::while_doing("unreadable_stdin", "cannot read standard input", &error))?;
    Ok(code)
}

/// A Python list of strings, in ASCII.
fn python_list(words: &[String]) -> String {
    let mut list = String::from("[");
    for word in words {
        list.push('"');
        for character in word.chars() {
            match character {
                '"' | '\\' => list.extend(['\\', character]),
                ' '..='~' => list.push(character),
                // Python has no surrogate pairs in literals, so each character is written as one code point.
                other => list.push_str(&format!("\\U{:08x}", u32::from(other))),
            }
        }
        list.push_str("\",");
    }
    list.push(']');
    list
}

/// One word for a shell, whatever is in it.
pub(crate) fn shell_quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(language: Language, argv: &[&str]) -> Source {
        Source {
            code: "pass".into(),
            language,
            timeout_ms: Some(5),
            argv: argv.iter().map(|&word| word.to_owned()).collect(),
        }
    }

    #[test]
    fn code_without_arguments_is_sent_as_it_is() {
        for language in [Language::Python, Language::Bash] {
            let source = source(language, &["a.py"]);
            assert_eq!(source.preparation(), None);
            assert_eq!(
                source.request(),
                ExecRequest {
                    code: "pass".into(),
                    language,
                    timeout_ms: Some(5)
                }
            );
        }
    }

    #[test]
    fn python_gets_its_arguments_whatever_is_in_them() {
        let source = source(Language::Python, &["a.py", "it's", "\"q\\", "é\n😀"]);
        assert_eq!(
            source.preparation().unwrap().code,
            r#"__import__('sys').argv[:] = ["a.py","it's","\"q\\","\U000000e9\U0000000a\U0001f600",]"#
        );
        assert_eq!(source.request().code, "pass");
    }

    #[test]
    fn bash_gets_its_arguments_on_the_codes_first_line() {
        let source = source(Language::Bash, &["a.sh", "it's", "$x"]);
        assert_eq!(source.preparation(), None);
        assert_eq!(source.request().code, r"set -- 'it'\''s' '$x'; pass");
    }
}
