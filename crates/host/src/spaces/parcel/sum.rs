//! The sum of all that goes through.

use std::hash::Hasher as _;
use std::io::{self, Read, Write};

use twox_hash::XxHash64;

use super::ParcelError;

pub(super) const SUM_BYTES: usize = 8;

/// A stream, and the sum of what went through it.
pub(super) struct Summed<S> {
    stream: S,
    hash: XxHash64,
    bytes: u64,
}

impl<S> Summed<S> {
    pub(super) fn new(stream: S) -> Self {
        Self {
            stream,
            hash: XxHash64::with_seed(0),
            bytes: 0,
        }
    }

    /// How much went through it.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    fn add(&mut self, bytes: &[u8]) {
        self.hash.write(bytes);
        self.bytes += bytes.len() as u64;
    }
}

impl<W: Write> Summed<W> {
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)?;
        self.add(bytes);
        Ok(())
    }

    pub(super) fn write_sum(&mut self) -> io::Result<()> {
        self.write(&self.hash.finish().to_le_bytes())
    }
}

impl<R: Read> Summed<R> {
    pub(super) fn read(&mut self, bytes: &mut [u8]) -> Result<(), ParcelError> {
        match self.stream.read_exact(bytes) {
            Ok(()) => {
                self.add(bytes);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(ParcelError::Cut { at: self.bytes })
            }
            Err(error) => Err(ParcelError::Read(error)),
        }
    }

    pub(super) fn check_sum(&mut self) -> Result<(), ParcelError> {
        let wanted = self.hash.finish();
        let mut sum = [0; SUM_BYTES];
        self.read(&mut sum)?;
        if u64::from_le_bytes(sum) == wanted {
            Ok(())
        } else {
            Err(ParcelError::Damaged { at: self.bytes })
        }
    }

    /// Whether nothing is left.
    pub(super) fn is_at_end(&mut self) -> Result<bool, ParcelError> {
        let mut more = [0];
        loop {
            match self.stream.read(&mut more) {
                Ok(count) => return Ok(count == 0),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(ParcelError::Read(error)),
            }
        }
    }
}
