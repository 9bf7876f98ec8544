//! `podflare-netd`: the network of all sandboxes of one host.
//!
//! Listen, give up rights, serve. It needs none: all it does is talk to the daemon, to VM processes over descriptors it
//! is given, and to the outside through ordinary sockets.
#![forbid(unsafe_code)]

mod authority;
mod confine;
mod run;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use ipnet::IpNet;
use pod_types::ErrorChain;
use telemetry::Format;

/// The network of all sandboxes of one host.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Cli {
    /// Unix socket to listen on for the daemon; one that is left over is replaced
    #[arg(long, value_name = "PATH", required_unless_present = "make_authority")]
    control: Option<PathBuf>,
    /// Make an authority in this directory, which must exist, and end: authority.crt and authority.key
    #[arg(long, value_name = "DIR", conflicts_with = "control")]
    make_authority: Option<PathBuf>,
    /// Ask this resolver, ADDRESS:PORT, instead of those in /etc/resolv.conf; may be repeated
    #[arg(long, value_name = "ADDRESS")]
    resolver: Vec<SocketAddr>,
    /// A network that sandboxes may reach by default though it is private or this host's own; may be repeated
    #[arg(long, value_name = "NET")]
    allow: Vec<IpNet>,
    /// A network that no sandbox may reach, whatever its policy; may be repeated
    #[arg(long, value_name = "NET")]
    deny: Vec<IpNet>,
    /// Certificate of the authority that signs for the hosts of secrets; without one there can be no secrets
    #[arg(long, value_name = "FILE", requires = "ca_key")]
    ca_cert: Option<PathBuf>,
    /// Key of that authority
    #[arg(long, value_name = "FILE", requires = "ca_cert")]
    ca_key: Option<PathBuf>,
    /// Certificates of authorities that the hosts of secrets may be signed by, besides the well-known ones
    #[arg(long, value_name = "FILE")]
    roots: Option<PathBuf>,
    /// Become this user once the socket is there
    #[arg(long)]
    uid: Option<u32>,
    /// Become this group once the socket is there
    #[arg(long)]
    gid: Option<u32>,
    /// What to log, like `info` or `net=debug`
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
    /// Log lines as JSON
    #[arg(long)]
    log_json: bool,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let format = if cli.log_json { Format::Json } else { Format::Text };
    if telemetry::start(format, cli.log.as_deref(), None).is_err() {
        // Nothing else logs in this program, so there is nobody to tell either.
        return ExitCode::FAILURE;
    }
    match run::run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{}", ErrorChain(&error));
            ExitCode::FAILURE
        }
    }
}
