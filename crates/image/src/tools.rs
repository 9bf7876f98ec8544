//! Makes sure that the programs we run are installed.

use std::path::Path;

use nix::unistd::geteuid;
use thiserror::Error;

use crate::command::{CommandError, Tool, find_program};
use crate::progress::Progress;

/// A program, and the Debian package it comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Package {
    /// A program's name, or the absolute path of a file that must exist.
    pub binary: &'static str,
    pub package: &'static str,
}

/// What building images takes beyond a minimal Debian system.
pub const IMAGE_PACKAGES: &[Package] = &[
    Package {
        binary: "mmdebstrap",
        package: "mmdebstrap",
    },
    Package {
        binary: "mke2fs",
        package: "e2fsprogs",
    },
    Package {
        binary: KEYRING,
        package: "debian-archive-keyring",
    },
];

/// What an ordinary user needs besides, to have more than one user id in a user namespace.
pub(crate) const UNPRIVILEGED_PACKAGES: &[Package] = &[Package {
    binary: "newuidmap",
    package: "uidmap",
}];

/// The keys Debian's archive is signed with.
pub(crate) const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Where the output of an installation goes; only root ever installs.
const INSTALL_LOG: &str = "/var/log/podflare-install.log";

/// Why programs are missing and stay so.
#[derive(Debug, Error)]
pub enum ToolsError {
    #[error("{missing} missing; install with: sudo apt-get install -y --no-install-recommends {packages}")]
    NotRoot { missing: String, packages: String },
    #[error("{missing} missing, and this is not a Debian system; install what Debian calls {packages}")]
    NotDebian { missing: String, packages: String },
    #[error("cannot install {packages}")]
    Install { packages: String, source: CommandError },
    #[error("{packages} installed, but still {missing} missing")]
    StillMissing { missing: String, packages: String },
}

/// Installs the packages whose programs are missing, if we may; costs nothing when none is.
///
/// # Errors
/// When something is missing and cannot be installed; the text says what to do.
pub fn require_packages(wanted: &[Package], progress: &dyn Progress) -> Result<(), ToolsError> {
    let missing = missing(wanted);
    if missing.is_empty() {
        return Ok(());
    }
    let packages = joined(missing.iter().map(|package| package.package));
    let names = names_of(&missing);
    if find_program("apt-get").is_none() {
        return Err(ToolsError::NotDebian {
            missing: names,
            packages,
        });
    }
    if !geteuid().is_root() {
        return Err(ToolsError::NotRoot {
            missing: names,
            packages,
        });
    }
    progress.step(&format!("installing {packages}: {names} missing"));
    install(&missing, progress).map_err(|source| ToolsError::Install {
        packages: packages.clone(),
        source,
    })?;
    let still = self::missing(&missing);
    if !still.is_empty() {
        return Err(ToolsError::StillMissing {
            missing: names_of(&still),
            packages,
        });
    }
    progress.done(&format!("installed {packages}"));
    Ok(())
}

fn install(missing: &[Package], progress: &dyn Progress) -> Result<(), CommandError> {
    let log = Path::new(INSTALL_LOG);
    // A list that cannot be fetched in part may still be enough; the installation will tell.
    let update = Tool::new("apt-get", log)
        .arg("update")
        .run(|line| progress.detail(line));
    if let Err(error) = update {
        progress.warn(&error.to_string());
    }
    Tool::new("apt-get", log)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .args([
            "-o",
            "DPkg::Lock::Timeout=120",
            "install",
            "-y",
            "--no-install-recommends",
        ])
        .args(missing.iter().map(|package| package.package))
        .run(|line| progress.detail(line))
}

fn missing(wanted: &[Package]) -> Vec<Package> {
    wanted
        .iter()
        .copied()
        .filter(|package| !is_present(package.binary))
        .collect()
}

fn is_present(binary: &str) -> bool {
    if binary.starts_with('/') {
        Path::new(binary).exists()
    } else {
        find_program(binary).is_some()
    }
}

fn names_of(packages: &[Package]) -> String {
    let names = joined(packages.iter().map(|package| package.binary));
    if packages.len() == 1 {
        format!("{names} is")
    } else {
        format!("{names} are")
    }
}

fn joined<'a>(words: impl Iterator<Item = &'a str>) -> String {
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_not_missing() {
        let wanted = [
            Package {
                binary: "sh",
                package: "dash",
            },
            Package {
                binary: "/etc/passwd",
                package: "base-passwd",
            },
            Package {
                binary: "no-such-program-anywhere",
                package: "none",
            },
            Package {
                binary: "/no/such/file",
                package: "neither",
            },
        ];
        let missing = missing(&wanted);
        assert_eq!(missing, wanted[2..]);
        assert_eq!(names_of(&missing), "no-such-program-anywhere /no/such/file are");
    }
}
