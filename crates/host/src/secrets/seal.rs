//! Sealing values for the database, with a key that lies beside it and never leaves the host.
//!
//! It keeps values out of backups and copies of the database; whoever has the whole data directory has the key, too. A
//! sealed value is a nonce and the sealed bytes; tenant and name are sealed along, so that a row is worth nothing in
//! another's place.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use thiserror::Error;

const KEY_BYTES: usize = 32;

#[derive(Debug)]
pub(super) struct Key(LessSafeKey);

#[derive(Debug, Error)]
pub(crate) enum KeyError {
    #[error("cannot read or make its file")]
    File(#[source] io::Error),
    #[error(
        "its file is not {KEY_BYTES} bytes long; restore it from a backup, or move it away to set all secrets anew"
    )]
    Length,
    #[error("there is no randomness")]
    NoRandomness,
    #[error("it does not fit: another key was used, or it is damaged")]
    Unfit,
}

impl Key {
    /// Makes the key when there is none.
    pub(super) fn open(path: &Path) -> Result<Self, KeyError> {
        let bytes = match fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => make(path)?,
            read => read.map_err(KeyError::File)?,
        };
        if bytes.len() != KEY_BYTES {
            return Err(KeyError::Length);
        }
        let key = UnboundKey::new(&CHACHA20_POLY1305, &bytes).map_err(|_| KeyError::Length)?;
        Ok(Self(LessSafeKey::new(key)))
    }

    pub(super) fn seal(&self, tenant: i64, name: &str, value: &[u8]) -> Result<Vec<u8>, KeyError> {
        // Drawn by lot: there are a few values in the life of a key, not billions.
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce).map_err(|_| KeyError::NoRandomness)?;
        let mut sealed = value.to_vec();
        self.0
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(whose(tenant, name)),
                &mut sealed,
            )
            .map_err(|_| KeyError::Unfit)?;
        Ok([nonce.as_slice(), &sealed].concat())
    }

    pub(super) fn open_sealed(&self, tenant: i64, name: &str, sealed: &[u8]) -> Result<Vec<u8>, KeyError> {
        let (nonce, rest) = sealed.split_first_chunk::<NONCE_LEN>().ok_or(KeyError::Unfit)?;
        let mut bytes = rest.to_vec();
        let opened = self
            .0
            .open_in_place(
                Nonce::assume_unique_for_key(*nonce),
                Aad::from(whose(tenant, name)),
                &mut bytes,
            )
            .map_err(|_| KeyError::Unfit)?;
        Ok(opened.to_vec())
    }
}

fn whose(tenant: i64, name: &str) -> Vec<u8> {
    format!("{tenant} {name}").into_bytes()
}

/// Written whole before it has its name: half a key would seal what the whole one cannot open.
fn make(path: &Path) -> Result<Vec<u8>, KeyError> {
    let mut bytes = vec![0; KEY_BYTES];
    getrandom::fill(&mut bytes).map_err(|_| KeyError::NoRandomness)?;
    let new = path.with_extension("new");
    let write = || {
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&new, path)
    };
    write().map_err(KeyError::File)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn what_is_sealed_is_opened_by_the_same_key_for_the_same_secret_and_by_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secrets.key");
        let key = Key::open(&path).unwrap();
        let sealed = key.seal(1, "token", b"hunter2").unwrap();
        assert!(!sealed.windows(7).any(|window| window == b"hunter2"));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let again = Key::open(&path).unwrap();
        assert_eq!(again.open_sealed(1, "token", &sealed).unwrap(), b"hunter2");
        again.open_sealed(2, "token", &sealed).unwrap_err();
        again.open_sealed(1, "other", &sealed).unwrap_err();
        again.open_sealed(1, "token", &sealed[1..]).unwrap_err();
        again.open_sealed(1, "token", b"").unwrap_err();
        let other = Key::open(&dir.path().join("other.key")).unwrap();
        other.open_sealed(1, "token", &sealed).unwrap_err();
        fs::write(&path, b"short").unwrap();
        assert!(matches!(Key::open(&path), Err(KeyError::Length)));
    }
}
