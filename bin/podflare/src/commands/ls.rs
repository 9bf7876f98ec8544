//! `podflare ls`: what is in a directory of a sandbox.

use std::ffi::OsString;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use api::{DirectoryListing, FileInfo, FileKind};

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::location::Location;
use crate::output::{Paint, Show, duration, table};

/// List a directory of a sandbox
///
/// The place is SANDBOX:PATH; without a path it is /root. For sandboxes see `podflare sandbox ls`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What to list
    #[arg(value_name = "SANDBOX:PATH")]
    place: OsString,
}

pub(crate) fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let Location::Sandbox { id, path } = Location::parse(&args.place)? else {
        let failure = Failure::usage("a place in a sandbox is written SANDBOX:PATH");
        return Err(failure.hint("`podflare sandbox ls` lists sandboxes"));
    };
    let listing = context.client()?.list_files(id, &path)?;
    context.printer.show(&listing)?;
    Ok(Exit::Ok)
}

impl Show for DirectoryListing {
    /// Names are a guest's: what would move the cursor is escaped.
    fn words(&self, _: Paint) -> String {
        if self.entries.is_empty() {
            return String::new();
        }
        let mut rows = vec![["MODE", "SIZE", "CHANGED", "NAME"].map(str::to_owned)];
        rows.extend(self.entries.iter().map(|entry| {
            [
                format!("{}{}", letter(entry.kind), entry.mode),
                entry.size.to_string(),
                age(entry.mtime_ms),
                name(entry),
            ]
        }));
        table(&rows)
    }
}

fn letter(kind: FileKind) -> char {
    match kind {
        FileKind::File => '-',
        FileKind::Directory => 'd',
        FileKind::Symlink => 'l',
        FileKind::Other => '?',
    }
}

fn name(entry: &FileInfo) -> String {
    let name = archive::shown(entry.name.as_bytes());
    match &entry.target {
        Some(target) => format!("{name} -> {}", archive::shown(target.as_bytes())),
        None => name,
    }
}

fn age(mtime_ms: i64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let then = Duration::from_millis(u64::try_from(mtime_ms).unwrap_or(0));
    duration(now.saturating_sub(then))
}
