//! Making the authority of a host, once.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use net::{AuthorityError, generate_authority};
use thiserror::Error;

const CERTIFICATE: &str = "authority.crt";
const KEY: &str = "authority.key";

#[derive(Debug, Error)]
pub(crate) enum MakeAuthorityError {
    #[error("no key or certificate comes about")]
    Generate(#[source] AuthorityError),
    #[error("cannot write {}", .path.display())]
    Write {
        path: PathBuf,
        #[source]
        error: io::Error,
    },
}

/// Writes both files. Each appears whole, the certificate last: who sees it finds its key.
pub(crate) fn make(dir: &Path) -> Result<(), MakeAuthorityError> {
    let pem = generate_authority().map_err(MakeAuthorityError::Generate)?;
    for (name, mode, text) in [(KEY, 0o600, &pem.key), (CERTIFICATE, 0o644, &pem.certificate)] {
        let path = dir.join(name);
        write(&path, mode, text).map_err(|error| MakeAuthorityError::Write { path, error })?;
    }
    Ok(())
}

fn write(path: &Path, mode: u32, text: &str) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(new, path)
}
