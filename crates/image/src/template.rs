//! Templates: what a kind of sandbox has on its disk and in its REPL, as data.
//!
//! A template is a TOML file in `guest/templates`; another one is another file.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The templates that come with the program.
const BUILT_IN: [&str; 1] = [include_str!("../../../guest/templates/default.toml")];
/// Longest name of a template, in bytes; it is part of file names and file system labels.
const NAME_BYTES_MAX: usize = 16;

/// A kind of sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Template {
    pub name: String,
    /// One line for people.
    pub description: String,
    /// Debian packages to install besides the essential ones.
    pub packages: Vec<String>,
    /// Lines of dpkg's configuration inside the sandbox.
    #[serde(default)]
    pub dpkg: Vec<String>,
    /// Shell commands, run inside the finished system.
    #[serde(default)]
    pub setup: Vec<String>,
    /// Files to add or replace.
    #[serde(default)]
    pub files: Vec<File>,
    /// Python modules the REPL imports before the template's snapshot is taken.
    #[serde(default)]
    pub imports: Vec<String>,
}

/// A file of a template, owned by root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// Absolute.
    pub path: String,
    pub content: String,
    #[serde(default)]
    pub executable: bool,
}

/// Why a template is not one.
#[derive(Debug, Error)]
pub enum TemplateError {
    #[error("the template cannot be read")]
    Toml(#[source] toml::de::Error),
    #[error("the template's {field} cannot be {value:?}")]
    Field { field: &'static str, value: String },
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// When the text is not TOML, or names what cannot be a package, a path or a module.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let template: Self = toml::from_str(text).map_err(TemplateError::Toml)?;
        let wrong = |field, value: &str| {
            Err(TemplateError::Field {
                field,
                value: value.to_owned(),
            })
        };
        if !is_name(&template.name) {
            return wrong("name", &template.name);
        }
        if let Some(package) = template.packages.iter().find(|package| !is_package(package)) {
            return wrong("package", package);
        }
        if let Some(file) = template.files.iter().find(|file| !is_plain_path(&file.path)) {
            return wrong("path", &file.path);
        }
        if let Some(line) = template
            .dpkg
            .iter()
            .chain(&template.setup)
            .find(|line| line.contains('\n'))
        {
            return wrong("line", line);
        }
        if let Some(import) = template.imports.iter().find(|import| !is_module(import)) {
            return wrong("import", import);
        }
        Ok(template)
    }

    /// The template of that name among those that come with the program.
    ///
    /// # Errors
    /// When one of those is damaged, which a test rules out.
    pub fn built_in(name: &str) -> Result<Option<Self>, TemplateError> {
        Ok(Self::all_built_in()?
            .into_iter()
            .find(|template| template.name == name))
    }

    /// All templates that come with the program.
    ///
    /// # Errors
    /// As [`built_in`](Self::built_in).
    pub fn all_built_in() -> Result<Vec<Self>, TemplateError> {
        BUILT_IN.into_iter().map(Self::parse).collect()
    }
}

fn is_name(text: &str) -> bool {
    let lower = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=NAME_BYTES_MAX).contains(&text.len()) && text.bytes().all(lower) && !text.starts_with('-')
}

/// Debian Policy, section 5.6.1: at least two of these, the first a letter or digit.
fn is_package(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+-.".contains(&byte);
    text.len() >= 2 && text.bytes().all(allowed) && !text.starts_with(['+', '-', '.'])
}

fn is_plain_path(text: &str) -> bool {
    let plain = |part: &str| !matches!(part, "" | "." | "..") && !part.contains(['\0', '\n']);
    text.strip_prefix('/')
        .is_some_and(|relative| relative.split('/').all(plain))
}

fn is_module(text: &str) -> bool {
    text.split('.').all(|part| {
        let mut characters = part.chars();
        characters
            .next()
            .is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
            && characters.all(|character| character.is_ascii_alphanumeric() || character == '_')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(fields: &str) -> Result<Template, TemplateError> {
        Template::parse(&format!(
            "name = \"x\"\ndescription = \"\"\npackages = [\"bash\"]\n{fields}"
        ))
    }

    #[test]
    fn the_templates_that_come_along_can_be_read() {
        let default = Template::built_in("default").unwrap().unwrap();
        assert!(default.packages.iter().any(|package| package == "python3"));
        assert!(default.imports.iter().any(|import| import == "json"));
        assert!(
            default
                .files
                .iter()
                .any(|file| file.path == "/etc/machine-id" && file.content.is_empty())
        );
        assert_eq!(Template::built_in("unknown").unwrap(), None);
    }

    #[test]
    fn a_template_says_what_is_wrong_with_it() {
        assert_eq!(template("imports = [\"os.path\"]").unwrap().imports, ["os.path"]);
        for (fields, word) in [
            ("imports = [\"os; print(1)\"]", "import"),
            ("imports = [\"\"]", "import"),
            ("setup = [\"a\\nb\"]", "line"),
            ("[[files]]\npath = \"/a/../b\"\ncontent = \"\"", "path"),
            ("[[files]]\npath = \"relative\"\ncontent = \"\"", "path"),
        ] {
            let error = template(fields).unwrap_err().to_string();
            assert!(error.contains(word), "{fields}: {error}");
        }
        assert!(matches!(template("colour = 1"), Err(TemplateError::Toml(_))));
        for bad in ["bash,perl", "-x", "x", "UP", "a b"] {
            assert!(!is_package(bad), "{bad}");
        }
        for bad in ["", "../x", "a/b", "-a", "A", "seventeen-letters"] {
            assert!(!is_name(bad), "{bad}");
        }
    }
}
