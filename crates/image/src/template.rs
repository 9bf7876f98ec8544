//! Templates: what a kind of sandbox has on its disk and in its REPL, as data.
//!
//! A template is a TOML file in `guest/templates`; another one is another file. One that names a `base` is that
//! template and more: it stands on the base's system and brings no Debian packages of its own.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The templates that come with the program.
const BUILT_IN: [&str; 2] = [
    include_str!("../../../guest/templates/default.toml"),
    include_str!("../../../guest/templates/python-datasci.toml"),
];
/// Longest name of a template, in bytes; it is part of file names and file system labels.
const NAME_BYTES_MAX: usize = 16;

/// A kind of sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Template {
    pub name: String,
    /// One line for people.
    pub description: String,
    /// Name of the template this one adds to.
    #[serde(default)]
    pub base: Option<String>,
    /// Debian packages to install besides the essential ones.
    #[serde(default)]
    pub packages: Vec<String>,
    /// Lines of dpkg's configuration inside the sandbox.
    #[serde(default)]
    pub dpkg: Vec<String>,
    /// Python packages as `name==version`, each with all that it depends on.
    #[serde(default)]
    pub wheels: Vec<String>,
    /// Shell commands, run inside the finished system. With a base they see no `/proc`, and no devices.
    #[serde(default)]
    pub setup: Vec<String>,
    /// Files to add or replace.
    #[serde(default)]
    pub files: Vec<File>,
    /// Python modules the REPL loads before the template's snapshot is taken: `json` is loaded only, so that importing
    /// it takes no time, and `numpy as np` is bound to that name besides.
    #[serde(default)]
    pub imports: Vec<String>,
    /// Python statements run once after the imports, each in a function of its own: what they do for the first time is
    /// done before the snapshot, and they leave no names behind.
    #[serde(default)]
    pub warm_up: Vec<String>,
    /// Python statements as a user is likely to begin with, after `print(1)`. Every clone runs them before it waits in a
    /// pool, and the pages they touch are made ready in each clone: for what costs much the first time, not for long work.
    #[serde(default)]
    pub first_run: Vec<String>,
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
    #[error("there is no template {name:?}; there are {known}")]
    Unknown { name: String, known: String },
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
        if let Some(base) = template.base.as_ref().filter(|base| !is_name(base)) {
            return wrong("base", base);
        }
        if template.base.is_some()
            && let Some(own) = template.packages.first().or(template.dpkg.first())
        {
            return wrong("package", own); // the system is the base's
        }
        if let Some(package) = template.packages.iter().find(|package| !is_package(package)) {
            return wrong("package", package);
        }
        if let Some(wheel) = template.wheels.iter().find(|wheel| !is_pin(wheel)) {
            return wrong("wheel", wheel);
        }
        if let Some(file) = template.files.iter().find(|file| !is_plain_path(&file.path)) {
            return wrong("path", &file.path);
        }
        let lines = [
            &template.dpkg,
            &template.setup,
            &template.warm_up,
            &template.first_run,
        ];
        if let Some(line) = lines.into_iter().flatten().find(|line| line.contains('\n')) {
            return wrong("line", line);
        }
        if let Some(import) = template.imports.iter().find(|import| !is_import(import)) {
            return wrong("import", import);
        }
        Ok(template)
    }

    /// The template of that name among those that come with the program.
    ///
    /// # Errors
    /// When there is none, or one is damaged, which a test rules out.
    pub fn built_in(name: &str) -> Result<Self, TemplateError> {
        let all = Self::all_built_in()?;
        let known: Vec<_> = all.iter().map(|template| template.name.clone()).collect();
        all.into_iter()
            .find(|template| template.name == name)
            .ok_or_else(|| TemplateError::Unknown {
                name: name.to_owned(),
                known: known.join(", "),
            })
    }

    /// All templates that come with the program.
    ///
    /// # Errors
    /// When one of them is damaged, which a test rules out.
    pub fn all_built_in() -> Result<Vec<Self>, TemplateError> {
        BUILT_IN.into_iter().map(Self::parse).collect()
    }

    /// The template whose system this one stands on, when that is not its own.
    ///
    /// # Errors
    /// When there is no such template, or it stands on another one itself: one step is enough to be understood.
    pub fn base(&self) -> Result<Option<Self>, TemplateError> {
        let Some(name) = &self.base else {
            return Ok(None);
        };
        let base = Self::built_in(name)?;
        match &base.base {
            None => Ok(Some(base)),
            Some(_) => Err(TemplateError::Field {
                field: "base",
                value: name.clone(),
            }),
        }
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

/// A distribution's name and one version of it, PEP 440, section "Version matching": nothing that a later day resolves
/// in another way.
fn is_pin(text: &str) -> bool {
    let name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let version = |byte: u8| byte.is_ascii_alphanumeric() || b".+!".contains(&byte);
    text.split_once("==").is_some_and(|(left, right)| {
        !left.is_empty()
            && !left.starts_with('-')
            && left.bytes().all(name)
            && right.starts_with(|first: char| first.is_ascii_digit())
            && right.bytes().all(version)
    })
}

fn is_import(text: &str) -> bool {
    match text.split_once(" as ") {
        Some((module, name)) => is_module(module) && is_identifier(name),
        None => is_module(text),
    }
}

fn is_module(text: &str) -> bool {
    text.split('.').all(is_identifier)
}

fn is_identifier(text: &str) -> bool {
    let mut characters = text.chars();
    characters
        .next()
        .is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && characters.all(|character| character.is_ascii_alphanumeric() || character == '_')
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
        let default = Template::built_in("default").unwrap();
        assert!(default.packages.iter().any(|package| package == "python3"));
        assert!(default.imports.iter().any(|import| import == "json"));
        assert!(
            default
                .files
                .iter()
                .any(|file| file.path == "/etc/machine-id" && file.content.is_empty())
        );
        assert_eq!(default.base().unwrap(), None);
        for template in Template::all_built_in().unwrap() {
            assert!(template.base().is_ok(), "{}", template.name);
        }
        let error = Template::built_in("unknown").unwrap_err().to_string();
        assert!(error.contains("default, python-datasci"), "{error}");
    }

    #[test]
    fn the_science_template_adds_to_the_default_one() {
        let science = Template::built_in("python-datasci").unwrap();
        assert_eq!(science.base().unwrap().unwrap().name, "default");
        for binding in ["numpy as np", "pandas as pd"] {
            assert!(
                science.imports.iter().any(|import| import == binding),
                "{binding}"
            );
        }
    }

    #[test]
    fn a_template_says_what_is_wrong_with_it() {
        let imports = template("imports = [\"os.path\", \"numpy as np\"]")
            .unwrap()
            .imports;
        assert_eq!(imports, ["os.path", "numpy as np"]);
        for (fields, word) in [
            ("imports = [\"os; print(1)\"]", "import"),
            ("imports = [\"os as a.b\"]", "import"),
            ("imports = [\"\"]", "import"),
            ("setup = [\"a\\nb\"]", "line"),
            ("warm_up = [\"a\\nb\"]", "line"),
            ("first_run = [\"a\\nb\"]", "line"),
            ("base = \"default\"", "package"),
            ("base = \"../x\"", "base"),
            ("wheels = [\"numpy\"]", "wheel"),
            ("wheels = [\"numpy>=2\"]", "wheel"),
            ("wheels = [\"--index-url==1\"]", "wheel"),
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
