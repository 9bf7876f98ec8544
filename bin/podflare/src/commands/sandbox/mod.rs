//! `podflare sandbox`: sandboxes that stay until they are removed.

pub(crate) mod checkpoint;
pub(crate) mod checkpoints;
pub(crate) mod create;
pub(crate) mod diff;
pub(crate) mod egress;
pub(crate) mod exec;
pub(crate) mod extend;
pub(crate) mod fork;
pub(crate) mod freeze;
pub(crate) mod inspect;
pub(crate) mod ls;
pub(crate) mod merge;
pub(crate) mod ports;
pub(crate) mod rm;
pub(crate) mod rollback;
pub(crate) mod set;
pub(crate) mod share;
pub(crate) mod tree;

use ::egress::Policy;
use api::CreateRequest;
use clap::Subcommand;

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;

/// Make, use, list and remove sandboxes that stay
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[command(visible_alias = "list")]
    Ls(ls::Args),
    Create(create::Args),
    Exec(exec::Args),
    #[command(visible_alias = "delete")]
    Rm(rm::Args),
    Inspect(inspect::Args),
    Set(set::Args),
    Extend(extend::Args),
    Egress(egress::Args),
    Fork(fork::Args),
    Freeze(freeze::Args),
    Merge(merge::Args),
    Diff(diff::Args),
    Checkpoint(checkpoint::Args),
    Rollback(rollback::Args),
    Checkpoints(checkpoints::Args),
    Tree(tree::Args),
    Ports(ports::Args),
    Share(share::Args),
}

/// What a new sandbox is made of.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct ShapeArgs {
    /// Template to start from [default: default]
    #[arg(long, value_name = "NAME")]
    template: Option<String>,

    /// Memory of the sandbox, in MiB [default: the host's]
    #[arg(long, value_name = "MIB")]
    ram_mib: Option<u32>,

    /// What it may reach: `on` is everything public, `off` nothing, `allow=RULE,…;deny=RULE,…` only what rules
    /// allow [default: on]
    #[arg(long, value_name = "REACH", value_parser = crate::reach::policy)]
    egress: Option<Policy>,

    /// A secret that it may use, by name; may be given several times
    #[arg(long = "secret", value_name = "NAME")]
    secrets: Vec<String>,
}

impl ShapeArgs {
    pub(crate) fn request(self) -> CreateRequest {
        CreateRequest {
            template: self.template,
            ram_mib: self.ram_mib,
            egress: self.egress.unwrap_or_default(),
            secrets: self.secrets,
            ..CreateRequest::default()
        }
    }
}

pub(crate) fn dispatch(context: &Context, command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Ls(args) => ls::run(context, args),
        Command::Create(args) => create::run(context, args),
        Command::Exec(args) => exec::run(context, args),
        Command::Rm(args) => rm::run(context, args),
        Command::Inspect(args) => inspect::run(context, args),
        Command::Freeze(args) => freeze::run(context, args),
        Command::Set(args) => set::run(context, args),
        Command::Extend(args) => extend::run(context, args),
        Command::Egress(args) => egress::run(context, args),
        Command::Fork(args) => fork::run(context, args),
        Command::Merge(args) => merge::run(context, args),
        Command::Diff(args) => diff::run(context, &args),
        Command::Checkpoint(args) => checkpoint::run(context, args),
        Command::Rollback(args) => rollback::run(context, args),
        Command::Checkpoints(args) => checkpoints::run(context, args),
        Command::Tree(args) => tree::run(context, &args),
        Command::Ports(args) => ports::run(context, &args),
        Command::Share(args) => share::run(context, &args),
    }
}
