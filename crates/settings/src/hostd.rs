//! What the daemon of one host is told.

use std::env;
use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{CommandFactory as _, FromArgMatches as _, Parser, ValueEnum};

use pod_types::Tier;

use crate::{File, LoadError, Section, place};

/// More VMs than any host holds.
const POOL_MAX: u32 = 10_000;

/// Runs sandboxes on this host and serves the Podflare HTTP API.
#[derive(Debug, Parser)]
#[command(name = "podflare-hostd", version)]
pub struct Options {
    /// Configuration file [default: PODFLARE_CONFIG, ~/.config/podflare/podflare.toml, /etc/podflare/podflare.toml]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Address to listen on
    #[arg(long, env = "PODFLARE_HOSTD_ADDR", default_value = "127.0.0.1:7070")]
    pub addr: SocketAddr,

    /// Address that clients reach when a forwarder stands in front of --addr; decides whether API keys are required
    #[arg(long, env = "PODFLARE_EXPOSED_AS", value_name = "ADDR")]
    pub exposed_as: Option<SocketAddr>,

    /// Directory for running sandboxes; belongs to one daemon at a time
    #[arg(long, env = "PODFLARE_DATA_DIR", default_value = "/var/lib/podflare")]
    pub data_dir: PathBuf,

    /// Directory with vmlinux, default.ext4 and further templates as <name>.ext4
    #[arg(long, env = "PODFLARE_IMAGES", value_name = "DIR")]
    pub images: PathBuf,

    /// Initial RAM disk of guests, with the agent
    #[arg(long, env = "PODFLARE_GUEST_INITRD", value_name = "FILE")]
    pub guest_initrd: PathBuf,

    /// The podflare-vmm program; next to this program unless given
    #[arg(long, env = "PODFLARE_VMM", value_name = "FILE")]
    pub vmm: Option<PathBuf>,

    /// The podflare-netd program; next to this program unless given
    #[arg(long, env = "PODFLARE_NETD", value_name = "FILE")]
    pub netd: Option<PathBuf>,

    /// Start no network process: sandboxes have an interface that leads nowhere, whatever they may reach
    #[arg(long, env = "PODFLARE_NO_NETWORK", value_parser = BoolishValueParser::new())]
    pub no_network: bool,

    /// Directory with authority.crt and authority.key, which secrets need, and perhaps roots.pem, whom else the hosts of
    /// secrets may be signed by
    #[arg(long, env = "PODFLARE_AUTHORITY", value_name = "DIR")]
    pub authority: Option<PathBuf>,

    /// Networks that are not public, which sandboxes may reach all the same; those that are held to a list reach what
    /// that says
    #[arg(
        long,
        env = "PODFLARE_NETWORK_ALLOW",
        value_delimiter = ',',
        value_name = "NETWORKS"
    )]
    pub network_allow: Vec<String>,

    /// Networks that no sandbox may reach, public or not, whatever its own rules say
    #[arg(
        long,
        env = "PODFLARE_NETWORK_DENY",
        value_delimiter = ',',
        value_name = "NETWORKS"
    )]
    pub network_deny: Vec<String>,

    /// Servers that names are asked of for sandboxes; those of /etc/resolv.conf unless given
    #[arg(
        long,
        env = "PODFLARE_NETWORK_RESOLVERS",
        value_delimiter = ',',
        value_name = "ADDRESSES"
    )]
    pub network_resolvers: Vec<IpAddr>,

    /// Let VM processes keep the daemon's rights, where the host does not allow them to be confined (as a user other
    /// than root without user namespaces)
    #[arg(long, env = "PODFLARE_UNCONFINED", value_parser = BoolishValueParser::new())]
    pub unconfined: bool,

    /// Virtual CPUs of each sandbox
    #[arg(long, env = "PODFLARE_VCPUS", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=32))]
    pub vcpus: u8,

    /// Memory of a sandbox that does not ask for an amount, in MiB
    #[arg(long, env = "PODFLARE_RAM_MIB", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(128..=65536))]
    pub ram_mib: u32,

    /// Memory that all sandboxes together may have, in MiB; what is available at the start unless given
    #[arg(long, env = "PODFLARE_MEMORY_BUDGET_MIB", value_name = "MIB")]
    pub memory_budget_mib: Option<u64>,

    /// What stays free of the disk with --data-dir, in MiB: below it no sandboxes are made, and before that guests find
    /// their disks full; a twentieth of the disk, 128 to 2048 MiB, unless given
    #[arg(long, env = "PODFLARE_DISK_RESERVE_MIB", value_name = "MIB")]
    pub disk_reserve_mib: Option<u64>,

    /// Give each VM's process a control group with limits on memory and threads, where the host allows it; what that
    /// costs a creation has not been measured yet
    #[arg(long, env = "PODFLARE_VM_LIMITS", value_parser = BoolishValueParser::new())]
    pub vm_limits: bool,

    /// VMs that may boot at the same time
    #[arg(long, env = "PODFLARE_BOOT_CONCURRENCY", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub boot_concurrency: u32,

    /// Checkpoints of one sandbox; each also counts as one of its tenant's sandboxes
    #[arg(long, env = "PODFLARE_CHECKPOINTS", default_value_t = 8, value_parser = clap::value_parser!(u32).range(0..=1000), value_name = "COUNT")]
    pub checkpoints: u32,

    /// VMs that wait ready for the next sandboxes of a template; for templates not named it depends on the memory
    #[arg(long, env = "PODFLARE_POOL", value_parser = pool_size, value_delimiter = ',', value_name = "TEMPLATE=COUNT")]
    pub pool: Vec<(String, u32)>,

    /// VMs that wait ready for the next sandboxes of the default template, unless --pool names it
    #[arg(long, env = "PODFLARE_FC_POOL_SIZE", value_parser = clap::value_parser!(u32).range(..=i64::from(POOL_MAX)), value_name = "COUNT")]
    pub pool_size: Option<u32>,

    /// Boot every sandbox, instead of cloning it from a snapshot of its template
    #[arg(long, env = "PODFLARE_BOOT_ONLY", value_parser = BoolishValueParser::new())]
    pub boot_only: bool,

    /// Let clones touch page by page what they are known to need, to see what putting it in place at once is worth
    #[arg(long, env = "PODFLARE_NO_WORKING_SETS", value_parser = BoolishValueParser::new())]
    pub no_working_sets: bool,

    /// Seconds a VM may take to boot
    #[arg(long, env = "PODFLARE_BOOT_DEADLINE", default_value = "300", value_parser = seconds, value_name = "SECONDS")]
    pub boot_deadline: Duration,

    /// Seconds that runs may go on after a request to stop; a second request cuts them short
    #[arg(long, env = "PODFLARE_SHUTDOWN_GRACE", default_value = "5", value_parser = seconds, value_name = "SECONDS")]
    pub shutdown_grace: Duration,

    /// Seconds that persistent sandboxes may take to be frozen on a request to stop, all together; what is not frozen by
    /// then ends
    #[arg(long, env = "PODFLARE_SHUTDOWN_FREEZE", default_value = "20", value_parser = seconds, value_name = "SECONDS")]
    pub shutdown_freeze: Duration,

    /// Resume a frozen sandbox under its old id when somebody runs something in it, opens a terminal or asks for a file;
    /// of a tenant that is set otherwise (`podflare tenant set --wake`), what that says
    #[arg(long, env = "PODFLARE_WAKE_SPACES", value_parser = BoolishValueParser::new())]
    pub wake_spaces: bool,

    /// Days for which frozen sandboxes are kept; for ever unless given
    #[arg(long, env = "PODFLARE_SPACE_DAYS", value_parser = clap::value_parser!(u32).range(1..=36500), value_name = "DAYS")]
    pub space_days: Option<u32>,

    /// What is logged, e.g. `info,host=debug`; RUST_LOG counts when this is not set [default: info]
    #[arg(long, env = "PODFLARE_LOG", value_name = "FILTER")]
    pub log: Option<String>,

    /// Form of the log: text for people, JSON for collectors
    #[arg(long, env = "PODFLARE_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,

    /// API keys that admit their holders, comma-separated; from the environment or the configuration file, so that no
    /// process list shows them
    #[arg(
        long,
        env = "PODFLARE_API_KEYS",
        hide = true,
        hide_env_values = true,
        value_name = "KEYS"
    )]
    pub api_keys: Option<String>,

    /// Another address to listen on, which has /metrics and nothing else and asks for no key; not for tenants to reach
    #[arg(long, env = "PODFLARE_METRICS_ADDR", value_name = "ADDR")]
    pub metrics_addr: Option<SocketAddr>,

    /// Key that opens /metrics on --addr, and nothing else; from the environment or the configuration file
    #[arg(
        long,
        env = "PODFLARE_METRICS_KEY",
        hide = true,
        hide_env_values = true,
        value_name = "KEY"
    )]
    pub metrics_key: Option<String>,

    /// Ask everybody for an API key, also on a loopback address
    #[arg(long, env = "PODFLARE_REQUIRE_KEYS", value_parser = BoolishValueParser::new())]
    pub require_keys: bool,

    /// What opens /v1/admin; from the environment only, like the keys
    #[arg(skip = std::env::var("PODFLARE_OPERATOR_TOKEN").ok())]
    pub operator_token: Option<String>,

    /// Tier of tenants that are not given one: free, pro, scale or unlimited
    #[arg(
        long,
        env = "PODFLARE_DEFAULT_TIER",
        default_value = "unlimited",
        value_name = "TIER"
    )]
    pub default_tier: Tier,

    /// Days for which the audit log is kept
    #[arg(long, env = "PODFLARE_AUDIT_DAYS", default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..=3650), value_name = "DAYS")]
    pub audit_days: u32,

    /// Rows of the audit log that are kept of what tenants do
    #[arg(long, env = "PODFLARE_AUDIT_ROWS", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000), value_name = "COUNT")]
    pub audit_rows: u64,

    /// Networks or addresses that webhooks may go to although they are not public, or `none`; without it, where keys are
    /// asked for, there are none, and otherwise they are this machine and private networks
    #[arg(
        long,
        env = "PODFLARE_WEBHOOK_ALLOW",
        value_delimiter = ',',
        value_name = "NETWORKS"
    )]
    pub webhook_allow: Vec<String>,

    /// Domain below which host names mean ports of sandboxes, as in 8080-sbx-….sandboxes.example.org, or `none`; all its
    /// names have to lead here; without it, where this host is reached by a loopback address, `localhost`
    #[arg(long, env = "PODFLARE_PORTS_DOMAIN", value_name = "DOMAIN")]
    pub ports_domain: Option<String>,

    /// Ask nobody for an API key
    #[arg(long, env = "PODFLARE_AUTH_DISABLED", value_parser = BoolishValueParser::new())]
    pub auth_disabled: bool,

    /// Region shown to clients
    #[arg(long, env = "PODFLARE_REGION")]
    pub region: Option<String>,

    /// Base URL of this host for clients, which the official client remembers for days
    #[arg(long, env = "PODFLARE_PUBLIC_URL", value_name = "URL")]
    pub public_url: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

impl Options {
    /// From the command line, the environment and the configuration file, which is given, too. Ends the program with
    /// a message when the command line makes no sense.
    ///
    /// # Errors
    /// The configuration file cannot be used.
    pub fn load() -> Result<(Self, Option<File>), LoadError> {
        let named = named_file(env::args_os().skip(1));
        let file = match place::find(named.as_deref(), None) {
            Some(found) => Some(File::load(&found)?),
            None => None,
        };
        let section = Section::hostd();
        let command = match &file {
            Some(file) => file.apply(&section, Self::command()),
            None => Self::command(),
        };
        let options = Self::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit());
        Ok((options, file))
    }
}

/// The value of `--config`, which has to be known before the rest can be read.
fn named_file(arguments: impl Iterator<Item = OsString>) -> Option<PathBuf> {
    let mut arguments = arguments.skip_while(|argument| {
        argument != "--config" && !argument.to_string_lossy().starts_with("--config=")
    });
    let found = arguments.next()?;
    match found.to_string_lossy().strip_prefix("--config=") {
        Some(path) => Some(path.into()),
        None => arguments.next().map(PathBuf::from),
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

    #[test]
    fn the_command_line_is_sound() {
        Options::command().debug_assert();
    }

    #[test]
    fn the_configuration_file_is_found_in_arguments_of_either_form() {
        let named = |text: &str| named_file(text.split(' ').map(OsString::from));
        assert_eq!(named("--vcpus 1 --config a.toml"), Some("a.toml".into()));
        assert_eq!(named("--config=b.toml --vcpus 1"), Some("b.toml".into()));
        assert_eq!(named("--vcpus 1"), None);
    }

    #[test]
    fn a_pool_size_is_a_template_and_a_count() {
        assert_eq!(pool_size("default=4"), Ok(("default".to_owned(), 4)));
        for wrong in ["", "4", "=4", "default=", "default=-1", "default=10001"] {
            assert!(pool_size(wrong).is_err(), "{wrong}");
        }
    }
}
