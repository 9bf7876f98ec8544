//! `podflare sandbox diff`.

use api::{Diff, DiffEntry, FileKind};
use pod_types::SandboxId;

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Paint, Show};

const EXAMPLES: &str = "\
Examples:
  podflare sandbox diff ID CHILD                    what CHILD has that ID has not, and the other way round
  podflare sandbox diff ID CHILD /root /tmp         only there

+ is added, - removed, ~ modified; sizes are in bytes.";

/// Show which files differ between two sandboxes
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// What is compared with
    #[arg(value_name = "ID")]
    id: SandboxId,

    /// What is compared
    #[arg(value_name = "OTHER")]
    other: SandboxId,

    /// Absolute paths to look at and below [default: the whole root file system]
    #[arg(value_name = "PATH")]
    paths: Vec<String>,
}

pub(crate) fn run(context: &Context, args: &Args) -> Result<Exit, Failure> {
    let diff = context.client()?.diff(args.id, args.other, &args.paths)?;
    context.printer.show(&diff)?;
    if diff.truncated {
        context
            .printer
            .warn("there is more than one answer holds; name paths to see the rest");
    } else if diff.added.is_empty() && diff.removed.is_empty() && diff.modified.is_empty() {
        context.printer.hint("there is no difference");
    }
    Ok(Exit::Ok)
}

impl Show for Diff {
    fn words(&self, paint: Paint) -> String {
        let groups = [
            (paint.green("+"), &self.added),
            (paint.red("-"), &self.removed),
            (paint.yellow("~"), &self.modified),
        ];
        let mut lines: Vec<(&str, String)> = groups
            .iter()
            .flat_map(|(sign, entries)| {
                entries
                    .iter()
                    .map(move |entry| (entry.path.as_str(), format!("{sign} {}", one(entry))))
            })
            .collect();
        lines.sort();
        let lines: Vec<String> = lines.into_iter().map(|(_, line)| line).collect();
        lines.join("\n")
    }
}

/// A path, made printable, and its sizes where it is a file.
fn one(entry: &DiffEntry) -> String {
    let path: String = entry.path.escape_debug().collect();
    match (entry.kind, entry.size_before, entry.size) {
        (FileKind::File, Some(before), Some(after)) => format!("{path}  {before} -> {after}"),
        (FileKind::File, Some(size), None) | (FileKind::File, None, Some(size)) => format!("{path}  {size}"),
        (FileKind::Directory, ..) => format!("{path}/"),
        _ => path,
    }
}
