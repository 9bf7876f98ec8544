//! One configuration file, read and found to be sound.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::Command;
use thiserror::Error;

use crate::check::{Problem, check};
use crate::place::Found;
use crate::section::{Section, Setting};

/// The settings in a file.
#[derive(Clone, Debug, Default)]
pub struct File {
    pub path: PathBuf,
    values: BTreeMap<(&'static str, String), Value>,
}

/// What is given for one key, as a flag or a variable would give it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Value {
    pub(crate) texts: Vec<String>,
    pub(crate) line: usize,
}

#[derive(Debug, Error)]
pub enum LoadError {
    #[error("cannot read the configuration file {}{}", path.display(), named(*named_by))]
    Read {
        path: PathBuf,
        named_by: Option<&'static str>,
        #[source]
        source: io::Error,
    },
    #[error("the configuration file is not usable:{}", list(path, problems))]
    Unsound { path: PathBuf, problems: Vec<Problem> },
}

impl File {
    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read, or something in it is wrong: all of that at once, with keys and lines.
    pub fn load(found: &Found) -> Result<Self, LoadError> {
        let path = &found.path;
        let text = fs::read_to_string(path).map_err(|source| LoadError::Read {
            path: path.clone(),
            named_by: found.named_by,
            source,
        })?;
        Self::parse(path, &text).map_err(|problems| LoadError::Unsound {
            path: path.clone(),
            problems,
        })
    }

    /// Reads the text of a file that is at `path`.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn parse(path: &Path, text: &str) -> Result<Self, Vec<Problem>> {
        let dir = path.parent().unwrap_or(Path::new(""));
        Ok(Self {
            path: path.to_owned(),
            values: check(text, dir)?,
        })
    }

    /// What is given for a setting, and in which line.
    #[must_use]
    pub fn get(&self, section: &Section, setting: &Setting) -> Option<(&[String], usize)> {
        let value = self.values.get(&(section.name, setting.key.clone()))?;
        Some((&value.texts, value.line))
    }

    /// Makes what the file says the defaults of a command line.
    #[must_use]
    pub fn apply(&self, section: &Section, command: Command) -> Command {
        let mut command = command;
        for setting in &section.settings {
            if let Some((texts, _)) = self.get(section, setting) {
                let texts = texts.to_vec();
                command = command.mut_arg(&setting.key, |arg| arg.default_values(texts).required(false));
            }
        }
        command
    }

    /// What the file says about the daemon, as variables: how it reaches one in another machine.
    #[must_use]
    pub fn hostd_variables(&self) -> Vec<(String, String)> {
        let section = Section::hostd();
        let settings = section.settings.iter().filter(|setting| !setting.set_by_up);
        let given = settings.filter_map(|setting| {
            let (texts, _) = self.get(&section, setting)?;
            Some((setting.variable.clone()?, texts.join(",")))
        });
        given.collect()
    }
}

fn named(by: Option<&'static str>) -> String {
    by.map(|by| format!(", which {by} names")).unwrap_or_default()
}

fn list(path: &Path, problems: &[Problem]) -> String {
    let lines = problems.iter();
    lines
        .map(|problem| format!("\n  {}:{problem}", path.display()))
        .collect()
}
