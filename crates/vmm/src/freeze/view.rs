//! Reading a file where the kernel keeps it, instead of a copy.
//!
//! To look once at what is in the page cache, copying it costs more than mapping it: in the software host 100 MiB are read
//! and summed in 70 ms, and mapped and summed in 57, of which the sums are 21. Pages are asked for before they are looked
//! at, so that one that cannot be read is an error and not a signal, which would end the process; that is 9 of the 57.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd as _;
use std::ptr::NonNull;

/// A part of a file, mapped for reading.
#[derive(Debug)]
pub(super) struct View {
    place: NonNull<libc::c_void>,
    bytes: usize,
}

impl View {
    /// Of so many bytes from a place on, which is a multiple of a page. Nobody writes to the file or cuts it.
    pub(super) fn new(file: &File, at: u64, bytes: usize) -> io::Result<Self> {
        let at = libc::off_t::try_from(at).map_err(io::Error::other)?;
        // SAFETY: a new mapping at a place of the kernel's choice, of a file that is open.
        let place = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ,
                libc::MAP_PRIVATE,
                file.as_raw_fd(),
                at,
            )
        };
        let place = NonNull::new(place).filter(|_| place != libc::MAP_FAILED);
        let view = Self {
            place: place.ok_or_else(io::Error::last_os_error)?,
            bytes,
        };
        // Only a wish: what is not in memory yet is read ahead from the disk.
        let _ = view.advise(0..bytes, libc::MADV_SEQUENTIAL);
        Ok(view)
    }

    /// The bytes of a range that begins on a page, all of them in memory.
    pub(super) fn read(&self, range: Range<usize>) -> io::Result<&[u8]> {
        if range.start > range.end || range.end > self.bytes {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.advise(range.clone(), libc::MADV_POPULATE_READ)?;
        // SAFETY: the range lies in our mapping, which lives as long as the reference and is not written to: its pages are
        // those of a file that nobody writes.
        Ok(unsafe { std::slice::from_raw_parts(self.at(range.start), range.len()) })
    }

    fn at(&self, offset: usize) -> *mut u8 {
        self.place.as_ptr().cast::<u8>().wrapping_add(offset)
    }

    fn advise(&self, range: Range<usize>, advice: libc::c_int) -> io::Result<()> {
        loop {
            // SAFETY: the callers' ranges lie in our mapping, and these pieces of advice change no content.
            let done = unsafe { libc::madvise(self.at(range.start).cast(), range.len(), advice) };
            if done == 0 {
                return Ok(());
            }
            let error = io::Error::last_os_error();
            // Populating stops at a signal, and finds what is there already when it is repeated.
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
    }
}

impl Drop for View {
    fn drop(&mut self) {
        // SAFETY: nobody but this has the mapping, and references into it are gone.
        let _ = unsafe { libc::munmap(self.place.as_ptr(), self.bytes) };
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;

    use super::*;

    #[test]
    fn what_is_in_the_file_is_read_and_what_is_not_is_an_error() {
        let file = tempfile::tempfile().unwrap();
        let bytes: Vec<u8> = (0..3 * 4096_u32 + 5).map(|at| at.to_le_bytes()[0]).collect();
        file.write_all_at(&bytes, 0).unwrap();
        let view = View::new(&file, 4096, 16 << 10).unwrap();
        assert_eq!(view.read(0..2 * 4096 + 5).unwrap(), &bytes[4096..]);
        assert_eq!(view.read(4096..8192).unwrap(), &bytes[8192..3 * 4096]);
        assert_eq!(view.read(0..0).unwrap(), &[0_u8; 0]);
        // A page that the file does not have.
        view.read(3 * 4096..16 << 10).unwrap_err();
        view.read(0..(16 << 10) + 1).unwrap_err();
    }

    #[test]
    fn what_cannot_be_mapped_is_an_error() {
        let file = tempfile::tempfile().unwrap();
        View::new(&file, 0, 0).unwrap_err();
        View::new(&file, 1, 4096).unwrap_err();
    }
}
