//! What a file says, held against the settings there are.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::fmt;
use std::path::Path;

use clap::Command;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::file::Value;
use crate::section::{Kind, Section, Setting};

/// A name that is at least so much like another may have been meant.
const LIKENESS: f64 = 0.7;

/// Something in a file that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub line: usize,
    /// With its table in front; empty where the file is no TOML.
    pub key: String,
    pub text: String,
}

type Values = BTreeMap<(&'static str, String), Value>;

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, key, text } = self;
        if key.is_empty() {
            write!(f, "{line}: {text}")
        } else {
            write!(f, "{line}: {key}: {text}")
        }
    }
}

/// Reads a file whose relative paths begin at `dir`.
pub(crate) fn check(text: &str, dir: &Path) -> Result<Values, Vec<Problem>> {
    let line_of = |at: usize| {
        text.get(..at)
            .map_or(1, |before| before.matches('\n').count() + 1)
    };
    let document = DeTable::parse(text).map_err(|error| {
        let line = line_of(error.span().map_or(0, |span| span.start));
        let text = error.message().to_owned();
        vec![Problem {
            line,
            key: String::new(),
            text,
        }]
    })?;
    let sections = Section::all();
    let (mut values, mut problems) = (Values::new(), Vec::new());
    for (name, table) in document.get_ref() {
        let line = line_of(name.span().start);
        let section = sections.iter().find(|section| section.name == name.get_ref());
        let (Some(section), DeValue::Table(table)) = (section, table.get_ref()) else {
            problems.push(Problem {
                line,
                key: name.get_ref().to_string(),
                text: stranger(name.get_ref(), &sections),
            });
            continue;
        };
        for (key, value) in table {
            let line = line_of(key.span().start);
            match read(section, key.get_ref(), value, dir) {
                Ok(texts) => {
                    values.insert((section.name, key.get_ref().to_string()), Value { texts, line });
                }
                Err(text) => problems.push(Problem {
                    line,
                    key: format!("{}.{}", section.name, key.get_ref()),
                    text,
                }),
            }
        }
    }
    if problems.is_empty() {
        return Ok(values);
    }
    problems.sort_by_key(|problem| problem.line);
    Err(problems)
}

fn read(
    section: &Section,
    key: &str,
    value: &Spanned<DeValue<'_>>,
    dir: &Path,
) -> Result<Vec<String>, String> {
    let Some(setting) = section.setting(key) else {
        let names = section.settings.iter().map(|setting| setting.key.as_str());
        return Err(match (elsewhere(section, key), nearest(key, names)) {
            (Some(other), _) => format!("this setting belongs into [{other}]"),
            (None, Some(name)) => format!("there is no such setting; did you mean {name}?"),
            (None, None) => {
                "there is no such setting; `podflare config init` writes a file with all of them".to_owned()
            }
        });
    };
    let texts = texts(setting.kind, value.get_ref(), dir).ok_or_else(|| {
        format!(
            "expected {}, got {}",
            setting.kind.words(),
            describe(value.get_ref())
        )
    })?;
    judge(setting, &texts)?;
    Ok(texts)
}

/// A name at the top that is no table we know.
fn stranger(name: &str, sections: &[Section]) -> String {
    let home = sections.iter().find(|section| section.setting(name).is_some());
    if let Some(home) = home {
        return format!("this setting belongs into [{}]", home.name);
    }
    match nearest(name, sections.iter().map(|section| section.name)) {
        Some(near) => format!("there is no such table; did you mean [{near}]?"),
        None => "there is no such table; known: [up], [hostd]".to_owned(),
    }
}

fn elsewhere(section: &Section, key: &str) -> Option<&'static str> {
    let sections = Section::all();
    let mut others = sections.iter().filter(|other| other.name != section.name);
    others
        .find(|other| other.setting(key).is_some())
        .map(|other| other.name)
}

fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let rated = known.map(|known| (strsim::jaro_winkler(name, known), known));
    let best = rated.max_by(|a, b| a.0.total_cmp(&b.0))?;
    (best.0 >= LIKENESS).then_some(best.1)
}

/// A value as flags give it; `None` when it is of another type.
fn texts(kind: Kind, value: &DeValue<'_>, dir: &Path) -> Option<Vec<String>> {
    let path = |text: &str| dir.join(text).to_string_lossy().into_owned();
    let one = match (kind, value) {
        (Kind::Flag, DeValue::Boolean(flag)) => flag.to_string(),
        (Kind::Integer | Kind::Seconds, DeValue::Integer(number)) => {
            i64::from_str_radix(number.as_str(), number.radix())
                .ok()?
                .to_string()
        }
        (Kind::Seconds, DeValue::Float(number)) => number.as_str().replace('_', ""),
        (Kind::Text, DeValue::String(text)) => text.to_string(),
        (Kind::Path, DeValue::String(text)) => path(text),
        (Kind::List, DeValue::Array(items)) => {
            let items = items.iter().map(|item| match item.get_ref() {
                DeValue::String(text) => Some(text.to_string()),
                _ => None,
            });
            return items.collect();
        }
        _ => return None,
    };
    Some(vec![one])
}

fn describe(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("the text {text:?}"),
        DeValue::Integer(number) => format!("the number {number}"),
        DeValue::Float(number) => format!("the number {number}"),
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::Datetime(_) => "a date".to_owned(),
        DeValue::Array(_) => "a list that holds something else".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

/// Lets the command line's own parser look at values.
fn judge(setting: &Setting, texts: &[String]) -> Result<(), String> {
    if setting.kind == Kind::Flag {
        return Ok(());
    }
    let arg = setting
        .arg
        .clone()
        .required(false)
        .env(None::<&str>)
        .long("value");
    let arguments = texts.iter().map(|text| format!("--value={text}"));
    let command = Command::new("file").no_binary_name(true).arg(arg);
    match command.try_get_matches_from(arguments) {
        Ok(_) => Ok(()),
        Err(error) => Err(match error.source() {
            Some(why) => why.to_string(),
            None if setting.words.is_empty() => format!("expected {}", setting.kind.words()),
            None => format!("expected one of {}", setting.words.join(", ")),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        let problems = check(text, Path::new("/etc/podflare")).unwrap_err();
        problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_is_wrong_is_told_all_at_once_with_key_line_and_the_nearest_name() {
        let text = "\
[up]
prot = 7171
kind = \"hard\"

[hostd]
ram_mib = \"much\"
vcpus = 99
port = 1
pool = [\"default\"]
nonsense_beyond_recognition = 1
";
        assert_eq!(
            problems(text),
            [
                "2: up.prot: there is no such setting; did you mean port?",
                "3: up.kind: expected one of auto, hardware, software",
                "6: hostd.ram_mib: expected a whole number, got the text \"much\"",
                "7: hostd.vcpus: 99 is not in 1..=32",
                "8: hostd.port: this setting belongs into [up]",
                "9: hostd.pool: expected a template and a count up to 10000, as in default=4",
                "10: hostd.nonsense_beyond_recognition: there is no such setting; `podflare config init` writes a \
                 file with all of them",
            ]
        );
        assert_eq!(
            problems("region = \"eu\""),
            ["1: region: this setting belongs into [hostd]"]
        );
        assert_eq!(
            problems("[hosted]"),
            ["1: hosted: there is no such table; did you mean [hostd]?"]
        );
        assert!(
            problems("[up]\nport = = 1")[0].starts_with("2: "),
            "{:?}",
            problems("[up]\nport = = 1")
        );
    }

    #[test]
    fn paths_begin_where_the_file_is_and_numbers_may_be_written_in_any_way() {
        let text = "[hostd]\nimages = \"images\"\nram_mib = 0x400\nboot_deadline = 2.5\nboot_only = true\n";
        let values = check(text, Path::new("/etc/podflare")).unwrap();
        let value = |key: &str| values[&("hostd", key.to_owned())].texts.clone();
        assert_eq!(value("images"), ["/etc/podflare/images"]);
        assert_eq!(value("ram_mib"), ["1024"]);
        assert_eq!(value("boot_deadline"), ["2.5"]);
        assert_eq!(value("boot_only"), ["true"]);
    }
}
