//! `podflare sandbox inspect`.

use std::time::Duration;

use api::SandboxInfo;
use pod_types::SandboxId;

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{
    Paint, Show, bytes, duration, mebibytes, since, source_name, state_name, table, time_left,
};
use crate::reach;

/// Show everything the host knows about one sandbox
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The sandbox
    #[arg(value_name = "ID")]
    id: SandboxId,
}

pub(crate) fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    context.printer.show(&context.client()?.get(args.id)?)?;
    Ok(Exit::Ok)
}

impl Show for SandboxInfo {
    fn words(&self, _: Paint) -> String {
        let seconds = |limit: Option<u64>| limit.map(|limit| duration(Duration::from_secs(limit)));
        let yes_no = |flag: bool| Some(if flag { "yes" } else { "no" }.to_owned());
        let stats = self.stats.as_ref();
        let rows = [
            ("id", Some(self.id.to_string())),
            ("state", Some(state_name(self.state).to_owned())),
            ("last error", self.last_error.clone()),
            ("template", Some(self.template.clone())),
            ("age", Some(since(self.created_at_ms))),
            ("vcpus", Some(self.vcpus.to_string())),
            ("memory", Some(mebibytes(self.ram_mib.into()))),
            (
                "memory resident",
                stats.map(|stats| mebibytes(stats.memory_resident_bytes >> 20)),
            ),
            ("root disk", Some(format!("{} GiB", self.rootfs_gb))),
            (
                "written to disk",
                stats.map(|stats| mebibytes(stats.disk_layer_bytes >> 20)),
            ),
            ("lifetime", seconds(self.timeout_seconds)),
            ("idle timeout", seconds(self.idle_timeout_seconds)),
            ("time left", Some(time_left(self))),
            (
                "last used",
                self.last_active_at_ms.map(|at| format!("{} ago", since(at))),
            ),
            ("persistent", yes_no(self.persistent)),
            ("egress", Some(reach::words(&self.egress))),
            (
                "network",
                self.network.map(|network| {
                    let (sent, received) = (bytes(network.sent_bytes), bytes(network.received_bytes));
                    format!(
                        "{sent} sent, {received} received, {} open, {} denied",
                        network.flows, network.denied
                    )
                }),
            ),
            (
                "secrets",
                (!self.secrets.is_empty()).then(|| self.secrets.join(", ")),
            ),
            ("forked from", self.parent.map(|parent| parent.to_string())),
            (
                "forked from it",
                (!self.children.is_empty()).then(|| self.children.len().to_string()),
            ),
            (
                "generation",
                (self.generation > 0).then(|| self.generation.to_string()),
            ),
            (
                "came from",
                self.source.map(|source| source_name(source).to_owned()),
            ),
            ("runs in progress", Some(self.running_execs.to_string())),
            ("vmm process", self.vmm_pid.map(|pid| pid.to_string())),
        ];
        let rows: Vec<_> = rows
            .into_iter()
            .filter_map(|(name, value)| Some([format!("{name}:"), value?]))
            .collect();
        table(&rows)
    }
}
