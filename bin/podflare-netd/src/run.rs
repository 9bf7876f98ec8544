//! From the command line to the network.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use egress::Ranges;
use net::{Network, NetworkError, Servers, Settings};
use thiserror::Error;

use crate::Cli;
use crate::rights::{self, RightsError};

/// Descriptors for wires, control and files, which are not sockets to the outside.
const OTHER_DESCRIPTORS: u64 = 8192;

const RESOLV_CONF: &str = "/etc/resolv.conf";

#[derive(Debug, Error)]
pub(crate) enum RunError {
    #[error("cannot listen on {}", .path.display())]
    Listen {
        path: PathBuf,
        #[source]
        error: io::Error,
    },
    #[error("cannot give up rights")]
    Rights(#[source] RightsError),
    #[error("the network does not work")]
    Network(#[source] NetworkError),
}

pub(crate) fn run(cli: Cli) -> Result<(), RunError> {
    let listener = listen(&cli.control).map_err(|error| RunError::Listen {
        path: cli.control.clone(),
        error,
    })?;
    let descriptors = rights::drop_all(cli.uid, cli.gid).map_err(RunError::Rights)?;
    // At least half is for the outside, however few there are.
    let outside = descriptors.saturating_sub(OTHER_DESCRIPTORS).max(descriptors / 2);
    let settings = Settings {
        servers: if cli.resolver.is_empty() {
            Servers::of_file(Path::new(RESOLV_CONF))
        } else {
            Servers::fixed(cli.resolver)
        },
        ranges: Ranges {
            never: cli.deny,
            open: cli.allow,
            ..Ranges::default()
        },
        sockets_max: usize::try_from(outside).unwrap_or(usize::MAX),
    };
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        sockets = settings.sockets_max,
        "listening on {}",
        cli.control.display()
    );
    let network = Network::new(listener, settings).map_err(RunError::Network)?;
    network.run().map_err(RunError::Network)
}

/// Only its owner may command the network.
fn listen(path: &Path) -> io::Result<UnixListener> {
    match fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    Ok(listener)
}
