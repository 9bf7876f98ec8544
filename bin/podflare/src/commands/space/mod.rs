//! `podflare space`: sandboxes that were frozen to disk.

pub(crate) mod export;
pub(crate) mod import;
pub(crate) mod ls;
pub(crate) mod resume;
pub(crate) mod rm;
pub(crate) mod show;

use api::SpaceInfo;
use clap::Subcommand;

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Paint, Show, mebibytes, since};

/// List, resume, move and remove sandboxes that were frozen to disk
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[command(visible_alias = "list")]
    Ls(ls::Args),
    #[command(visible_alias = "inspect")]
    Show(show::Args),
    Resume(resume::Args),
    Export(export::Args),
    Import(import::Args),
    #[command(visible_alias = "delete")]
    Rm(rm::Args),
}

pub(crate) fn dispatch(context: &Context, command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Ls(args) => ls::run(context, args),
        Command::Show(args) => show::run(context, &args),
        Command::Resume(args) => resume::run(context, args),
        Command::Export(args) => export::run(context, &args),
        Command::Import(args) => import::run(context, &args),
        Command::Rm(args) => rm::run(context, args),
    }
}

/// One space, a line for each thing there is to say.
impl Show for SpaceInfo {
    fn words(&self, _: Paint) -> String {
        let cause = serde_json::to_value(self.cause).ok();
        let cause = cause
            .as_ref()
            .and_then(|cause| cause.as_str())
            .unwrap_or_default();
        let mib = |bytes: u64| mebibytes(bytes.div_ceil(1 << 20));
        let mut lines = vec![
            format!("space      {}", self.id),
            format!("was        {}", self.sandbox_id),
            format!("template   {}", self.template),
            format!(
                "memory     {}, of which {} are kept",
                mebibytes(self.ram_mib.into()),
                mib(self.memory_bytes)
            ),
            format!("disk       {} are kept", mib(self.disk_bytes)),
            format!("on disk    {}", mib(self.bytes)),
            format!("frozen     {} ago ({cause})", since(self.created_at_ms)),
        ];
        if self.running {
            lines.push("a run is in progress and goes on when the space is resumed".to_owned());
        }
        if self.busy {
            lines.push("it is being resumed or exported".to_owned());
        }
        lines.join("\n")
    }
}
