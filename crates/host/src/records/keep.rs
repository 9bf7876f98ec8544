//! Records on disk.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use thiserror::Error;

use super::codec::{self, BYTES_MAX, CodecError, Kept};

/// Why there is no record to be had.
#[derive(Debug, Error)]
pub(crate) enum RecordError {
    #[error("it cannot be read")]
    Io(#[source] io::Error),
    #[error("it is no record")]
    Codec(#[source] CodecError),
}

/// Writes a record, whole or not at all. What was there before stays until then.
pub(crate) fn write<R: Kept>(path: &Path, record: &R) -> io::Result<()> {
    let bytes = codec::encode(record)?;
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    // Half a first record is none, and nobody has been told of the sandbox yet.
    match options.clone().create_new(true).open(path) {
        Ok(mut file) => file.write_all(&bytes).inspect_err(|_| {
            // It would be taken for a damaged one.
            let _ = fs::remove_file(path);
        }),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let new = path.with_extension("new");
            let mut file = options.create(true).truncate(true).open(&new)?;
            file.write_all(&bytes)?;
            fs::rename(&new, path)
        }
        Err(error) => Err(error),
    }
}

/// The record at a path; `None` when there is none.
pub(crate) fn read<R: Kept>(path: &Path) -> Result<Option<R>, RecordError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(RecordError::Io(error)),
    };
    let mut bytes = Vec::new();
    let bound = BYTES_MAX as u64 + 1;
    file.take(bound)
        .read_to_end(&mut bytes)
        .map_err(RecordError::Io)?;
    // The daemon was killed between making it and writing it.
    if bytes.is_empty() {
        return Ok(None);
    }
    codec::decode(&bytes).map(Some).map_err(RecordError::Codec)
}

/// One that is gone already is fine.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::Record;
    use crate::records::codec::tests::records;
    use proptest::strategy::{Strategy as _, ValueTree as _};
    use proptest::test_runner::TestRunner;

    #[test]
    fn the_newest_record_is_read_and_none_is_no_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("record");
        let one = || records().new_tree(&mut TestRunner::default()).unwrap().current();
        assert_eq!(read::<Record>(&path).unwrap(), None);
        for _ in 0..3 {
            let record = one();
            write(&path, &record).unwrap();
            assert_eq!(read(&path).unwrap(), Some(record));
        }
        fs::write(&path, "").unwrap();
        assert_eq!(read::<Record>(&path).unwrap(), None);
        fs::write(&path, "podflare-sandbox 1 0").unwrap();
        assert!(matches!(read::<Record>(&path), Err(RecordError::Codec(_))));
        remove(&path).unwrap();
        remove(&path).unwrap();
    }
}
