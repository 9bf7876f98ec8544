//! Where the other programs of Podflare are, and whether they can do their job.
//!
//! They lie next to this one, or in the directory `PODFLARE_LIBEXEC` names. Those that run in a software host or in a
//! guest find no shared libraries there, so they must be linked statically.

use std::env;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::failure::Failure;

/// Directory of the programs when they do not lie next to this one.
const LIBEXEC_VARIABLE: &str = "PODFLARE_LIBEXEC";

/// The programs a host consists of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Binaries {
    /// The host daemon.
    pub(crate) hostd: PathBuf,
    /// One VM in one process.
    pub(crate) vmm: PathBuf,
    /// The network of all VMs.
    #[serde(default)]
    pub(crate) netd: PathBuf,
    /// The first process of a guest.
    pub(crate) agent: PathBuf,
}

/// Why the programs cannot be used.
#[derive(Debug, Error)]
pub(crate) enum BinariesError {
    #[error("cannot tell where this program lies")]
    Own(#[source] io::Error),
    #[error("{} is missing", path.display())]
    Missing { path: PathBuf },
    #[error("{} cannot be executed", path.display())]
    NotExecutable { path: PathBuf },
    #[error("cannot read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} is not a 64-bit x86 Linux program", path.display())]
    NotElf { path: PathBuf },
    #[error("{} needs shared libraries, and there are none where it has to run", path.display())]
    Dynamic { path: PathBuf },
}

impl Binaries {
    /// Where the programs should be, whether or not they are.
    ///
    /// # Errors
    /// When this program's own place is unknown.
    pub(crate) fn expected() -> Result<Self, BinariesError> {
        Ok(
            match env::var_os(LIBEXEC_VARIABLE).filter(|value| !value.is_empty()) {
                Some(directory) => Self::in_directory(Path::new(&directory)),
                None => Self::in_directory(&own_directory()?),
            },
        )
    }

    /// Finds the programs.
    ///
    /// # Errors
    /// [`BinariesError`] for the first that is missing.
    pub(crate) fn find() -> Result<Self, BinariesError> {
        let binaries = Self::expected()?;
        binaries.require_present()?;
        Ok(binaries)
    }

    fn in_directory(directory: &Path) -> Self {
        // A relative path would mean something else to the supervisor.
        let directory = std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
        let program = |name: &str| directory.join(name);
        Self {
            hostd: program("podflare-hostd"),
            vmm: program("podflare-vmm"),
            netd: program("podflare-netd"),
            agent: program("podflare-agent"),
        }
    }

    /// Checks that all of them are there and can be executed.
    ///
    /// # Errors
    /// [`BinariesError`] for the first that cannot.
    pub(crate) fn require_present(&self) -> Result<(), BinariesError> {
        [&self.hostd, &self.vmm, &self.netd, &self.agent]
            .into_iter()
            .try_for_each(|path| match fs::metadata(path) {
                Ok(data) if data.is_file() && data.permissions().mode() & 0o111 != 0 => Ok(()),
                Ok(_) => Err(BinariesError::NotExecutable { path: path.clone() }),
                Err(_) => Err(BinariesError::Missing { path: path.clone() }),
            })
    }

    /// Checks that all of them run without shared libraries, as the software host needs it.
    ///
    /// # Errors
    /// [`BinariesError`] for the first that does not.
    pub(crate) fn require_static(&self) -> Result<(), BinariesError> {
        [&self.hostd, &self.vmm, &self.netd, &self.agent]
            .into_iter()
            .try_for_each(|path| require_static(path))
    }

    /// Checks that the agent runs without shared libraries: a guest's initrd has none, whatever the host.
    ///
    /// # Errors
    /// [`BinariesError`] when it does not.
    pub(crate) fn require_static_agent(&self) -> Result<(), BinariesError> {
        require_static(&self.agent)
    }
}

impl From<BinariesError> for Failure {
    fn from(error: BinariesError) -> Self {
        let hint = match &error {
            BinariesError::Own(_) | BinariesError::Read { .. } => None,
            BinariesError::Missing { .. } | BinariesError::NotExecutable { .. } => {
                Some("install all five programs into one directory, or name it in PODFLARE_LIBEXEC")
            }
            BinariesError::NotElf { .. } | BinariesError::Dynamic { .. } => Some(
                "build it with --target x86_64-unknown-linux-gnu and RUSTFLAGS=\"-C target-feature=+crt-static\", \
                 as `cargo xtask up` does",
            ),
        };
        let failure = Self::because("binaries", &error);
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

fn own_directory() -> Result<PathBuf, BinariesError> {
    let own = env::current_exe().map_err(BinariesError::Own)?;
    Ok(own.parent().map(Path::to_owned).unwrap_or_default())
}

fn require_static(path: &Path) -> Result<(), BinariesError> {
    let image = fs::read(path).map_err(|source| BinariesError::Read {
        path: path.to_owned(),
        source,
    })?;
    match needs_interpreter(&image) {
        Some(false) => Ok(()),
        Some(true) => Err(BinariesError::Dynamic {
            path: path.to_owned(),
        }),
        None => Err(BinariesError::NotElf {
            path: path.to_owned(),
        }),
    }
}

/// Whether an ELF file names a dynamic loader (has a `PT_INTERP` program header); `None` when it is not an x86-64
/// ELF file at all. Offsets are those of the ELF-64 object file format, System V ABI, "Program Header".
fn needs_interpreter(image: &[u8]) -> Option<bool> {
    const MAGIC_64_LITTLE: &[u8] = b"\x7fELF\x02\x01";
    const MACHINE_X86_64: u16 = 62;
    const PT_INTERP: u32 = 3;

    if !image.starts_with(MAGIC_64_LITTLE) || u16_at(image, 18)? != MACHINE_X86_64 {
        return None;
    }
    let table = usize::try_from(u64::from_le_bytes(*image.get(32..)?.first_chunk()?)).ok()?;
    let entry_len = usize::from(u16_at(image, 54)?);
    let entries = u16_at(image, 56)?;
    for index in 0..usize::from(entries) {
        let entry = image.get(table.checked_add(index * entry_len)?..)?;
        if u32::from_le_bytes(*entry.first_chunk()?) == PT_INTERP {
            return Some(true);
        }
    }
    Some(false)
}

fn u16_at(image: &[u8], offset: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*image.get(offset..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An ELF header with one program header of the given type.
    fn elf(header_type: u32) -> Vec<u8> {
        let mut image = vec![0; 64 + 56];
        image[..6].copy_from_slice(b"\x7fELF\x02\x01");
        image[18] = 62;
        image[32] = 64;
        image[54] = 56;
        image[56] = 1;
        image[64..68].copy_from_slice(&header_type.to_le_bytes());
        image
    }

    #[test]
    fn a_program_with_a_loader_is_told_from_a_static_one() {
        assert_eq!(needs_interpreter(&elf(1)), Some(false));
        assert_eq!(needs_interpreter(&elf(3)), Some(true));
        assert_eq!(
            needs_interpreter(&fs::read(env::current_exe().unwrap()).unwrap()),
            Some(true)
        );
    }

    #[test]
    fn what_is_no_whole_elf_file_is_not_taken_for_one() {
        assert_eq!(needs_interpreter(b"#!/bin/sh\n"), None);
        let whole = elf(3);
        for len in 0..whole.len() - 52 {
            assert_eq!(needs_interpreter(&whole[..len]), None, "{len} bytes");
        }
        let mut far = elf(1);
        far[32..40].copy_from_slice(&u64::MAX.to_le_bytes());
        assert_eq!(needs_interpreter(&far), None);
    }

    #[test]
    fn a_program_that_is_missing_or_no_program_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let binaries = Binaries::in_directory(directory.path());
        let error = binaries.require_present().unwrap_err();
        assert!(
            matches!(&error, BinariesError::Missing { path } if *path == binaries.hostd),
            "{error}"
        );
        fs::write(&binaries.hostd, "").unwrap();
        let error = binaries.require_present().unwrap_err();
        assert!(matches!(error, BinariesError::NotExecutable { .. }), "{error}");
    }
}
