//! A source that gives only so much between two entries of an archive.
//!
//! What the archive library reads there (long names, extended headers) it keeps in memory, as much as the archive says.
//! What lies inside an entry is streamed and unlimited.

use std::cell::Cell;
use std::io::{self, Read};
use std::rc::Rc;

/// Headers of one entry, in bytes: two of the longest paths and a good deal of extended attributes.
const HEADERS_BYTES_MAX: u64 = 1 << 20;

/// Gives and takes the allowance of a [`Metered`].
#[derive(Clone, Debug, Default)]
pub(super) struct Meter(Rc<Cell<Option<u64>>>);

#[derive(Debug)]
pub(super) struct Metered<R> {
    pub(super) source: R,
    meter: Meter,
    /// An error of the source itself, and not of the archive in it.
    pub(super) broke: Rc<Cell<bool>>,
}

impl Meter {
    pub(super) fn headers(&self) {
        self.0.set(Some(HEADERS_BYTES_MAX));
    }

    pub(super) fn content(&self) {
        self.0.set(None);
    }
}

impl<R> Metered<R> {
    pub(super) fn new(source: R, meter: Meter) -> Self {
        Self {
            source,
            meter,
            broke: Rc::default(),
        }
    }
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Self { source, meter, broke } = self;
        let Some(allowance) = meter.0.get() else {
            return source.read(buffer).inspect_err(|_| broke.set(true));
        };
        let most = usize::try_from(allowance).unwrap_or(usize::MAX).min(buffer.len());
        if most == 0 && !buffer.is_empty() {
            return Err(io::Error::other("the headers of an entry are too long"));
        }
        let count = source
            .read(&mut buffer[..most])
            .inspect_err(|_| broke.set(true))?;
        meter.0.set(Some(allowance - count as u64));
        Ok(count)
    }
}
