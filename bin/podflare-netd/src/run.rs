//! From the command line to the network.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use egress::Ranges;
use net::{
    Authority, AuthorityError, AuthorityPem, BUFFER_BYTES_MAX, Network, NetworkError, Servers, Settings,
    Trust, TrustError,
};
use thiserror::Error;

use crate::Cli;
use crate::authority::{self, MakeAuthorityError};
use crate::confine::{self, ConfineError};

/// Descriptors for wires, control and files, which are not sockets to the outside.
const OTHER_DESCRIPTORS: u64 = 8192;

const RESOLV_CONF: &str = "/etc/resolv.conf";
const HOSTS: &str = "/etc/hosts";

#[derive(Debug, Error)]
pub(crate) enum RunError {
    #[error("--control is missing")]
    NoControl,
    #[error("cannot make an authority")]
    Make(#[source] MakeAuthorityError),
    #[error("cannot listen on {}", .path.display())]
    Listen {
        path: PathBuf,
        #[source]
        error: io::Error,
    },
    #[error("cannot read {}", .path.display())]
    Read {
        path: PathBuf,
        #[source]
        error: io::Error,
    },
    #[error("the authority for the hosts of secrets cannot be used")]
    Authority(#[source] AuthorityError),
    #[error("cannot use {}", .path.display())]
    Trust {
        path: PathBuf,
        #[source]
        error: TrustError,
    },
    #[error("cannot confine this process")]
    Confine(#[source] ConfineError),
    #[error("the network does not work")]
    Network(#[source] NetworkError),
}

pub(crate) fn run(cli: Cli) -> Result<(), RunError> {
    if let Some(dir) = &cli.make_authority {
        return authority::make(dir).map_err(RunError::Make);
    }
    let control = cli.control.clone().ok_or(RunError::NoControl)?;
    let listener = listen(&control).map_err(|error| RunError::Listen {
        path: control.clone(),
        error,
    })?;
    // Files that only this user may read.
    let authority = read_authority(&cli)?;
    let trust = trust(cli.roots.as_deref())?;
    let readable = [RESOLV_CONF, HOSTS].map(Path::new);
    let descriptors = confine::give_up_rights(cli.uid, cli.gid, &readable).map_err(RunError::Confine)?;
    // At least half is for the outside, however few there are.
    let outside = descriptors.saturating_sub(OTHER_DESCRIPTORS).max(descriptors / 2);
    let settings = Settings {
        servers: if cli.resolver.is_empty() {
            Servers::of_file(Path::new(RESOLV_CONF))
        } else {
            Servers::fixed(cli.resolver)
        },
        hosts: Some(HOSTS.into()),
        ranges: Ranges {
            never: cli.deny,
            open: cli.allow,
            ..Ranges::default()
        },
        sockets_max: usize::try_from(outside).unwrap_or(usize::MAX),
        buffer_bytes_max: BUFFER_BYTES_MAX,
        authority,
        trust,
    };
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        sockets = settings.sockets_max,
        "listening on {}",
        control.display()
    );
    let network = Network::new(listener, settings).map_err(RunError::Network)?;
    confine::give_up_system_calls().map_err(RunError::Confine)?;
    network.run().map_err(RunError::Network)
}

fn read_authority(cli: &Cli) -> Result<Option<Authority>, RunError> {
    let (Some(certificate), Some(key)) = (&cli.ca_cert, &cli.ca_key) else {
        return Ok(None);
    };
    let pem = AuthorityPem {
        certificate: read(certificate)?,
        key: read(key)?,
    };
    Authority::from_pem(&pem).map(Some).map_err(RunError::Authority)
}

fn trust(roots: Option<&Path>) -> Result<Trust, RunError> {
    let Some(path) = roots else {
        return Ok(Trust::default());
    };
    let pem = read(path)?;
    Trust::default()
        .with_pem(pem.as_bytes())
        .map_err(|error| RunError::Trust {
            path: path.to_owned(),
            error,
        })
}

fn read(path: &Path) -> Result<String, RunError> {
    fs::read_to_string(path).map_err(|error| RunError::Read {
        path: path.to_owned(),
        error,
    })
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
