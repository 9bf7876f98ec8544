//! The command line and its environment.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{Parser, ValueEnum};

/// More VMs than any host holds.
const POOL_MAX: u32 = 10_000;

/// Runs sandboxes on this host and serves the Podflare HTTP API.
#[derive(Debug, Parser)]
#[command(version)]
pub(crate) struct Options {
    /// Address to listen on
    #[arg(long, env = "PODFLARE_HOSTD_ADDR", default_value = "127.0.0.1:7070")]
    pub(crate) addr: SocketAddr,

    /// Address that clients reach when a forwarder stands in front of --addr; decides whether API keys are required
    #[arg(long, env = "PODFLARE_EXPOSED_AS", value_name = "ADDR")]
    pub(crate) exposed_as: Option<SocketAddr>,

    /// Directory for running sandboxes; belongs to one daemon at a time
    #[arg(long, env = "PODFLARE_DATA_DIR", default_value = "/var/lib/podflare")]
    pub(crate) data_dir: PathBuf,

    /// Directory with vmlinux, default.ext4 and further templates as <name>.ext4
    #[arg(long, env = "PODFLARE_IMAGES", value_name = "DIR")]
    pub(crate) images: PathBuf,

    /// Initial RAM disk of guests, with the agent
    #[arg(long, env = "PODFLARE_GUEST_INITRD", value_name = "FILE")]
    pub(crate) guest_initrd: PathBuf,

    /// The podflare-vmm program; next to this program unless given
    #[arg(long, env = "PODFLARE_VMM", value_name = "FILE")]
    pub(crate) vmm: Option<PathBuf>,

    /// Let VM processes keep the daemon's rights, where the host does not allow them to be confined (as a user other
    /// than root without user namespaces)
    #[arg(long)]
    pub(crate) unconfined: bool,

    /// Virtual CPUs of each sandbox
    #[arg(long, env = "PODFLARE_VCPUS", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=32))]
    pub(crate) vcpus: u8,

    /// Memory of a sandbox that does not ask for an amount, in MiB
    #[arg(long, env = "PODFLARE_RAM_MIB", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(128..=65536))]
    pub(crate) ram_mib: u32,

    /// Memory that all sandboxes together may have, in MiB; what is available at the start unless given
    #[arg(long, env = "PODFLARE_MEMORY_BUDGET_MIB", value_name = "MIB")]
    pub(crate) memory_budget_mib: Option<u64>,

    /// VMs that may boot at the same time
    #[arg(long, env = "PODFLARE_BOOT_CONCURRENCY", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) boot_concurrency: u32,

    /// VMs that wait ready for the next sandboxes of a template; for templates not named it depends on the memory
    #[arg(long, env = "PODFLARE_POOL", value_parser = pool_size, value_delimiter = ',', value_name = "TEMPLATE=COUNT")]
    pub(crate) pool: Vec<(String, u32)>,

    /// Boot every sandbox, instead of cloning it from a snapshot of its template
    #[arg(long, env = "PODFLARE_BOOT_ONLY", value_parser = BoolishValueParser::new())]
    pub(crate) boot_only: bool,

    /// Seconds a VM may take to boot
    #[arg(long, env = "PODFLARE_BOOT_DEADLINE", default_value = "300", value_parser = seconds, value_name = "SECONDS")]
    pub(crate) boot_deadline: Duration,

    /// Seconds that runs may go on after a request to stop; a second request cuts them short
    #[arg(long, env = "PODFLARE_SHUTDOWN_GRACE", default_value = "5", value_parser = seconds, value_name = "SECONDS")]
    pub(crate) shutdown_grace: Duration,

    /// Another address to listen on, which has /metrics and nothing else and asks for no key; not for tenants to reach
    #[arg(long, env = "PODFLARE_METRICS_ADDR", value_name = "ADDR")]
    pub(crate) metrics_addr: Option<SocketAddr>,

    /// Key that opens /metrics on --addr, and nothing else; from the environment only
    #[arg(skip = std::env::var("PODFLARE_METRICS_KEY").ok().filter(|key| !key.trim().is_empty()))]
    pub(crate) metrics_key: Option<String>,

    #[arg(long, env = "PODFLARE_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,

    /// API keys that admit their holders, comma-separated; from the environment only, so that no process list shows them
    #[arg(skip = std::env::var("PODFLARE_API_KEYS").ok())]
    pub(crate) api_keys: Option<String>,

    /// Ask nobody for an API key
    #[arg(long, env = "PODFLARE_AUTH_DISABLED", value_parser = BoolishValueParser::new())]
    pub(crate) auth_disabled: bool,

    /// Region shown to clients
    #[arg(long, env = "PODFLARE_REGION")]
    pub(crate) region: Option<String>,

    /// Base URL of this host for clients, which the official client remembers for days
    #[arg(long, env = "PODFLARE_PUBLIC_URL", value_name = "URL")]
    pub(crate) public_url: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

impl From<LogFormat> for telemetry::Format {
    fn from(format: LogFormat) -> Self {
        match format {
            LogFormat::Text => Self::Text,
            LogFormat::Json => Self::Json,
        }
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text
        .parse()
        .map_err(|_| "expected a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

fn pool_size(text: &str) -> Result<(String, u32), String> {
    let parsed = text.trim().split_once('=').and_then(|(template, count)| {
        let count = count.parse().ok().filter(|count| *count <= POOL_MAX)?;
        (!template.is_empty()).then(|| (template.to_owned(), count))
    });
    parsed.ok_or_else(|| format!("expected a template and a count up to {POOL_MAX}, as in default=4"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_sound() {
        Options::command().debug_assert();
    }

    #[test]
    fn a_pool_size_is_a_template_and_a_count() {
        assert_eq!(pool_size("default=4"), Ok(("default".to_owned(), 4)));
        for wrong in ["", "4", "=4", "default=", "default=-1", "default=10001"] {
            assert!(pool_size(wrong).is_err(), "{wrong}");
        }
    }
}
