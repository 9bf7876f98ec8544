//! What a snapshot depends on, as one name: with any of it changed, the snapshot is another.
//!
//! What only the VM process can judge (the CPU, the format) is judged by it when the snapshot is restored.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::time::UNIX_EPOCH;

use sha2::{Digest as _, Sha256};

use crate::storage::{Shape, Template};

/// Raise it when snapshots are made differently.
const RECIPE: u32 = 1;

/// Hexadecimal digits of a key.
pub(super) const KEY_DIGITS: usize = 32;

/// A file up to this size is read whole. Larger ones are kernels and disk images, which are put in place whole with
/// their time of writing; reading one takes longer than booting it.
const WHOLE_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// Of larger files so many pieces are read, evenly spread.
const SAMPLES: u64 = 64;
const SAMPLE_BYTES: u64 = 4096;

/// The key of a template's snapshot. Reads files.
pub(super) fn key(template: &Template, shape: Shape, program: Option<&Path>) -> io::Result<String> {
    let mut hash = Sha256::new();
    hash.update(RECIPE.to_le_bytes());
    hash.update([shape.vcpus]);
    hash.update(shape.ram_mib.to_le_bytes());
    hash.update(shape.rootfs_gb.to_le_bytes());
    hash.update(Sha256::digest(template.warm_code()));
    for path in template.sources().into_iter().chain(program) {
        hash.update(digest(path)?);
    }
    let digest = hash.finalize();
    let digits = digest.iter().take(KEY_DIGITS / 2);
    Ok(digits.map(|byte| format!("{byte:02x}")).collect())
}

fn digest(path: &Path) -> io::Result<[u8; 32]> {
    let mut file = File::open(path)?;
    let metadata = file.metadata()?;
    let len = metadata.len();
    let mut hash = Sha256::new();
    hash.update(len.to_le_bytes());
    if len <= WHOLE_BYTES_MAX {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match file.read(&mut buffer)? {
                0 => break,
                count => hash.update(&buffer[..count]),
            }
        }
    } else {
        let written = metadata
            .modified()?
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        hash.update(written.as_nanos().to_le_bytes());
        let mut sample = Vec::new();
        for number in 0..SAMPLES {
            file.seek(SeekFrom::Start(len / SAMPLES * number))?;
            sample.clear();
            file.by_ref().take(SAMPLE_BYTES).read_to_end(&mut sample)?;
            hash.update(&sample);
        }
    }
    Ok(hash.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn small_files_count_by_content_and_large_ones_by_samples_and_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "one").unwrap();
        let one = digest(&path).unwrap();
        fs::write(&path, "two").unwrap();
        assert_ne!(digest(&path).unwrap(), one);
        fs::write(&path, "one").unwrap();
        assert_eq!(digest(&path).unwrap(), one);
        let large = File::create(&path).unwrap();
        large.set_len(WHOLE_BYTES_MAX + 1).unwrap();
        let before = digest(&path).unwrap();
        assert_eq!(digest(&path).unwrap(), before);
        large.set_modified(UNIX_EPOCH).unwrap();
        assert_ne!(digest(&path).unwrap(), before);
    }
}
