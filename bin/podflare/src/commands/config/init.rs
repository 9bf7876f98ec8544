//! `podflare config init`.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use serde::Serialize;

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Paint, Show};

/// Write a configuration file with every setting, commented out
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where to; podflare.toml in the state directory when not given, `-` for standard output
    file: Option<PathBuf>,

    /// Overwrite a file that is there
    #[arg(long)]
    force: bool,
}

#[derive(Serialize)]
struct Written {
    file: PathBuf,
}

pub(crate) fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let text = ::settings::reference();
    let file = match args.file {
        Some(file) if file.as_os_str() == "-" => {
            context.printer.out(text.as_bytes())?;
            return Ok(Exit::Ok);
        }
        Some(file) => file,
        None => context.directories()?.state.join("podflare.toml"),
    };
    write(&file, &text, args.force).map_err(|error| {
        let failure = Failure::while_doing("config", &format!("cannot write {}", file.display()), &error);
        match error.kind() {
            io::ErrorKind::AlreadyExists => failure.hint("--force overwrites it"),
            _ => failure,
        }
    })?;
    context.printer.show(&Written { file })?;
    Ok(Exit::Ok)
}

/// For its owner only: it may come to hold keys.
fn write(file: &PathBuf, text: &str, force: bool) -> io::Result<()> {
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    if force {
        options.create(true).truncate(true);
    } else {
        options.create_new(true);
    }
    options.open(file)?.write_all(text.as_bytes())
}

impl Show for Written {
    fn words(&self, _: Paint) -> String {
        format!(
            "wrote {}; `podflare config check` finds mistakes in it",
            self.file.display()
        )
    }
}
