//! `podflare config show`.

use std::path::PathBuf;

use ::settings::{Effective, Origin, effective};
use serde::Serialize;

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Paint, Show};

/// Instead of a secret.
const REDACTED: &str = "(secret)";

/// Show every setting that holds here, and where it comes from
///
/// These are the values that the next `podflare up` takes where no flag says otherwise.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Leave out what has its default
    #[arg(long)]
    changed: bool,
}

#[derive(Serialize)]
struct Shown {
    file: Option<PathBuf>,
    settings: Vec<Setting>,
}

#[derive(Serialize)]
struct Setting {
    section: &'static str,
    key: String,
    value: Option<String>,
    /// `default`, `file` or `environment`.
    source: &'static str,
    /// The file's line, or the variable.
    #[serde(skip_serializing_if = "Option::is_none")]
    place: Option<String>,
    /// `podflare up` decides it itself.
    set_by_up: bool,
}

pub(crate) fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let file = context.configuration()?;
    let settings = effective(file.as_ref()).into_iter();
    let settings = settings.filter(|setting| !args.changed || setting.origin != Origin::Default);
    let shown = Shown {
        settings: settings.map(Setting::from).collect(),
        file: file.map(|file| file.path),
    };
    context.printer.show(&shown)?;
    Ok(Exit::Ok)
}

impl From<Effective> for Setting {
    fn from(effective: Effective) -> Self {
        let Effective {
            section,
            setting,
            value,
            origin,
        } = effective;
        let (source, place) = match origin {
            Origin::Default => ("default", None),
            Origin::Environment(variable) => ("environment", Some(variable)),
            Origin::File(line) => ("file", Some(format!("line {line}"))),
        };
        let secret = setting.secret;
        Self {
            section,
            key: setting.key,
            value: value.map(|value| if secret { REDACTED.to_owned() } else { value }),
            source,
            place,
            set_by_up: setting.set_by_up,
        }
    }
}

impl Show for Shown {
    fn words(&self, paint: Paint) -> String {
        let mut text = match &self.file {
            Some(file) => format!("# file: {}", file.display()),
            None => "# there is no configuration file".to_owned(),
        };
        let mut section = "";
        for setting in &self.settings {
            if setting.section != section {
                section = setting.section;
                text.push_str(&format!("\n\n[{section}]"));
            }
            let value = match &setting.value {
                Some(value) => paint.bold(value),
                None => "(not set)".to_owned(),
            };
            let source = match &setting.place {
                _ if setting.set_by_up => "set by `podflare up`".to_owned(),
                Some(place) => format!("{}: {place}", setting.source),
                None => setting.source.to_owned(),
            };
            text.push_str(&format!("\n{} = {value}  # {source}", setting.key));
        }
        text
    }
}
