//! Digests: of inputs, to find artifacts by; of content, to know them by.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use nix::errno::Errno;
use nix::unistd::{Whence, lseek};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Bytes hashed at a time; the block size of the file systems we make.
const BLOCK_BYTES: usize = 4096;

/// Hexadecimal digits of a key: 128 bits, far beyond any accident.
const KEY_DIGITS: usize = 32;

/// What a file holds, whatever it is called and however it is laid out on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileDigest {
    pub(crate) bytes: u64,
    /// SHA-256 over the file: what `sha256sum` prints. Absent for disk images.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) sha256: Option<String>,
    /// For disk images, SHA-256 over each 4 KiB block that is not all zeros, preceded by its number (64 bits, little
    /// endian): holes, the greater part of such an image, cost nothing.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) sha256_of_blocks: Option<String>,
}

/// The key of an artifact: a digest of its inputs as JSON, whose fields are always in the same order.
pub(crate) fn key(inputs: &impl Serialize) -> Result<String, serde_json::Error> {
    let mut key = bytes(&serde_json::to_vec(inputs)?);
    key.truncate(KEY_DIGITS);
    Ok(key)
}

/// SHA-256 in hexadecimal.
pub(crate) fn bytes(data: &[u8]) -> String {
    hex(Sha256::digest(data).as_slice())
}

/// The digest of a file; a sparse one is taken for a disk image.
pub(crate) fn file(path: &Path) -> io::Result<FileDigest> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    // `st_blocks` counts units of 512 bytes.
    let is_sparse = metadata.blocks() * 512 < metadata.len();
    let mut digest = FileDigest {
        bytes: metadata.len(),
        sha256: None,
        sha256_of_blocks: None,
    };
    if is_sparse && metadata.len() >= BLOCK_BYTES as u64 {
        digest.sha256_of_blocks = Some(blocks(&file, metadata.len())?);
    } else {
        digest.sha256 = Some(whole(file)?);
    }
    Ok(digest)
}

fn whole(mut file: File) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 64 * BLOCK_BYTES];
    loop {
        let len = file.read(&mut buffer)?;
        if len == 0 {
            return Ok(hex(hash.finalize().as_slice()));
        }
        hash.update(&buffer[..len]);
    }
}

fn blocks(file: &File, len: u64) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut block = [0; BLOCK_BYTES];
    let mut at = 0;
    while let Some((start, end)) = next_data(file, at, len)? {
        at = start - start % BLOCK_BYTES as u64;
        while at < end {
            let part = usize::try_from(len - at).unwrap_or(BLOCK_BYTES).min(BLOCK_BYTES);
            file.read_exact_at(&mut block[..part], at)?;
            if block[..part].iter().any(|byte| *byte != 0) {
                hash.update((at / BLOCK_BYTES as u64).to_le_bytes());
                hash.update(&block[..part]);
            }
            at += BLOCK_BYTES as u64;
        }
    }
    Ok(hex(hash.finalize().as_slice()))
}

/// The next range at or after `at` that is not a hole.
fn next_data(file: &File, at: u64, len: u64) -> io::Result<Option<(u64, u64)>> {
    if at >= len {
        return Ok(None);
    }
    let seek = |at: u64, whence| {
        let at = i64::try_from(at).map_err(io::Error::other)?;
        match lseek(file, at, whence) {
            Ok(found) => u64::try_from(found).map(Some).map_err(io::Error::other),
            Err(Errno::ENXIO) => Ok(None), // only a hole is left
            Err(error) => Err(io::Error::from(error)),
        }
    };
    let Some(start) = seek(at, Whence::SeekData)? else {
        return Ok(None);
    };
    Ok(Some((start, seek(start, Whence::SeekHole)?.unwrap_or(len))))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn an_ordinary_file_has_the_usual_digest() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, "abc").unwrap();
        // The first example of FIPS 180-2, appendix B.
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(
            file(&path).unwrap(),
            FileDigest {
                bytes: 3,
                sha256: Some(expected.to_owned()),
                sha256_of_blocks: None
            }
        );
        assert_eq!(bytes(b"abc"), expected);
    }

    #[test]
    fn a_sparse_file_is_known_by_its_blocks_whatever_its_holes() {
        let directory = tempfile::tempdir().unwrap();
        let image = |name: &str, offsets: &[u64], text: &[u8], zeros_written: bool| {
            let path = directory.path().join(name);
            let file = File::create(&path).unwrap();
            file.set_len(64 << 20).unwrap();
            if zeros_written {
                file.write_all_at(&[0; 9000], 1 << 20).unwrap();
            }
            for offset in offsets {
                file.write_all_at(text, *offset).unwrap();
            }
            super::file(&path).unwrap()
        };
        let one = image("one", &[5000, 33 << 20], b"data", false);
        assert!(one.sha256_of_blocks.is_some());
        assert_eq!(one, image("zeros", &[5000, 33 << 20], b"data", true));
        assert_ne!(one, image("moved", &[5000, 34 << 20], b"data", false));
        assert_ne!(one, image("other", &[5000, 33 << 20], b"Data", false));
    }

    #[test]
    fn keys_follow_their_inputs() {
        assert_eq!(key(&("a", 1)).unwrap(), key(&("a", 1)).unwrap());
        assert_ne!(key(&("a", 1)).unwrap(), key(&("a", 2)).unwrap());
        assert_eq!(key(&"a").unwrap().len(), KEY_DIGITS);
    }
}
