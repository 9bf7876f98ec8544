//! `podflare config check`.

use std::path::PathBuf;

use ::settings::{File, Found, LoadError, Problem};
use serde::Serialize;

use crate::configuration;
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Paint, Show};

/// Find every mistake in a configuration file
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The file; the one that counts here when not given
    file: Option<PathBuf>,
}

#[derive(Serialize)]
struct Checked {
    /// Nothing when there is no file.
    file: Option<PathBuf>,
    problems: Vec<Mistake>,
}

#[derive(Serialize)]
struct Mistake {
    line: usize,
    key: String,
    problem: String,
}

pub(crate) fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let named = args.file.map(|path| Found { path, named_by: None });
    let found = match named {
        Some(found) => Some(found),
        None => context.configuration_place()?,
    };
    let problems = match found.as_ref().map(File::load) {
        None | Some(Ok(_)) => Vec::new(),
        Some(Err(LoadError::Unsound { problems, .. })) => problems,
        Some(Err(error)) => return Err(configuration::failure(error)),
    };
    let sound = problems.is_empty();
    context.printer.show(&Checked {
        file: found.map(|found| found.path),
        problems: problems.into_iter().map(Mistake::from).collect(),
    })?;
    Ok(if sound { Exit::Ok } else { Exit::Failed })
}

impl From<Problem> for Mistake {
    fn from(problem: Problem) -> Self {
        Self {
            line: problem.line,
            key: problem.key,
            problem: problem.text,
        }
    }
}

impl Show for Checked {
    fn words(&self, paint: Paint) -> String {
        let Some(file) = &self.file else {
            return "there is no configuration file; everything has its default".to_owned();
        };
        let file = file.display();
        if self.problems.is_empty() {
            return format!("{file} is sound");
        }
        let lines = self.problems.iter().map(|mistake| {
            let Mistake { line, key, problem } = mistake;
            let key = if key.is_empty() {
                String::new()
            } else {
                format!("{}: ", paint.bold(key))
            };
            format!("{file}:{line}: {key}{problem}")
        });
        lines.collect::<Vec<_>>().join("\n")
    }
}
