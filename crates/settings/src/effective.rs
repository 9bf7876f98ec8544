//! What holds, and why.

use std::env;

use crate::file::File;
use crate::section::{Section, Setting};

/// A setting's value and where it comes from.
#[derive(Clone, Debug)]
pub struct Effective {
    pub section: &'static str,
    pub setting: Setting,
    /// As text; `None` when nothing is set.
    pub value: Option<String>,
    pub origin: Origin,
}

/// Where a value comes from. A flag goes before all of these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// This variable.
    Environment(String),
    /// This line of the file.
    File(usize),
    Default,
}

/// Every setting as a command without flags would have it.
#[must_use]
pub fn effective(file: Option<&File>) -> Vec<Effective> {
    let sections = Section::all();
    let all = sections.iter().flat_map(|section| {
        let one = |setting: &Setting| {
            let (value, origin) = value_of(section, setting, file);
            Effective {
                section: section.name,
                setting: setting.clone(),
                value,
                origin,
            }
        };
        section.settings.iter().map(one).collect::<Vec<_>>()
    });
    all.collect()
}

fn value_of(section: &Section, setting: &Setting, file: Option<&File>) -> (Option<String>, Origin) {
    if let Some(variable) = &setting.variable
        && let Ok(value) = env::var(variable)
    {
        return (Some(value), Origin::Environment(variable.clone()));
    }
    if let Some((texts, line)) = file.and_then(|file| file.get(section, setting)) {
        return (Some(texts.join(",")), Origin::File(line));
    }
    let default = (!setting.default.is_empty()).then(|| setting.default.join(","));
    (default, Origin::Default)
}
