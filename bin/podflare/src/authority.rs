//! The authority of this machine's host: signs for hosts of secrets, towards its own sandboxes only.
//!
//! `up` has it made once, in a directory of the state directory that only its owner can read. Its certificate goes into
//! the sandboxes, its key to the host's network process.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::settings::Directories;

const DIR: &str = "authority";
const CERTIFICATE: &str = "authority.crt";
/// Whom else the hosts of secrets may be signed by.
const ROOTS: &str = "roots.pem";

/// Where it is.
pub(crate) fn directory(directories: &Directories) -> PathBuf {
    directories.state.join(DIR)
}

/// The certificate of the one there is, which the network program makes when there is none. `roots` are the certificates
/// that sandboxes of this host trust besides the well-known ones; all is PEM.
pub(crate) fn ensure(directories: &Directories, netd: &Path, roots: &str) -> io::Result<String> {
    let dir = directory(directories);
    DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
    let certificate = dir.join(CERTIFICATE);
    if !certificate.exists() {
        make(netd, &dir)?;
    }
    let path = dir.join(ROOTS);
    if roots.is_empty() {
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    } else {
        fs::write(&path, roots)?;
    }
    fs::read_to_string(certificate)
}

fn make(netd: &Path, dir: &Path) -> io::Result<()> {
    let mut command = Command::new(netd);
    let made = command
        .arg("--make-authority")
        .arg(dir)
        .stdin(Stdio::null())
        .output()?;
    if made.status.success() {
        Ok(())
    } else {
        Err(io::Error::other(
            String::from_utf8_lossy(&made.stderr).trim().to_owned(),
        ))
    }
}
