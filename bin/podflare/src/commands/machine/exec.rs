//! `podflare machine exec`: a command inside the software host.

use std::time::Duration;

use serde::Serialize;

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Form, Paint, Show};
use crate::source::shell_quoted;

const EXAMPLES: &str = "\
Examples:
  podflare machine exec -- dmesg
  podflare machine exec -- 'ps; free -m'
  podflare machine exec -- ls -l /dev/kvm";

/// Run a shell command inside the software host itself, not in a sandbox
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// End the command after this many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    timeout_seconds: u64,

    /// One word is a shell line; several are a command and its arguments, which reach it as they are
    #[arg(
        value_name = "CMD",
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    words: Vec<String>,
}

/// What the command did.
#[derive(Serialize)]
struct Done<'a> {
    status: i32,
    output: std::borrow::Cow<'a, str>,
}

pub(crate) fn run(context: &Context, args: &Args) -> Result<Exit, Failure> {
    let run_dir = context.directories()?.run;
    let limit = Duration::from_secs(args.timeout_seconds);
    let answer = softhost::exec_in_machine(&run_dir, &shell_line(&args.words), limit).map_err(|error| {
        Failure::because("machine", &error)
            .hint("only a software host is a machine of its own; `podflare status` says what runs")
    })?;
    match context.printer.form() {
        Form::Words => context.printer.out(&answer.output)?,
        Form::Json => context.printer.show(&Done {
            status: answer.status,
            output: String::from_utf8_lossy(&answer.output),
        })?,
    }
    Ok(Exit::of_run(answer.status.into()))
}

impl Show for Done<'_> {
    fn words(&self, _: Paint) -> String {
        self.output.clone().into_owned()
    }
}

/// What the machine's shell is given.
fn shell_line(words: &[String]) -> String {
    match words {
        [line] => line.clone(),
        words => words
            .iter()
            .map(|word| shell_quoted(word))
            .collect::<Vec<_>>()
            .join(" "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_word_is_a_line_and_several_are_a_command_with_its_arguments() {
        let line =
            |words: &[&str]| shell_line(&words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>());
        assert_eq!(line(&["ps; free -m"]), "ps; free -m");
        assert_eq!(
            line(&["echo", "two  words", "it's"]),
            r"'echo' 'two  words' 'it'\''s'"
        );
    }
}
