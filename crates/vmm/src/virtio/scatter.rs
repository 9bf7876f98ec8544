//! Scattered memory: the pieces of guest memory that hold one request's bytes, in order.
//!
//! Files and sockets read into and write from the pieces directly, with one system call for all of them; nothing is
//! copied through a buffer of ours. The pieces are volatile slices, because the guest may change them at any time:
//! whatever must be judged is copied out first and judged as a copy.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use thiserror::Error;
use vm_memory::{Address, GuestAddress, GuestMemory as _, GuestMemoryError, Permissions, VolatileSlice};

use crate::memory::GuestMemory;

/// Most pieces one system call takes (`UIO_MAXIOV` of Linux); more are left for the next call.
const PIECES_PER_CALL_MAX: usize = 1024;

/// Pieces that are handed to a system call without memory being taken for the list of them. A network driver's frame of
/// 16 KiB has fewer.
const PIECES_FEW: usize = 24;

/// Pieces of memory that are read or written as one.
#[derive(Clone, Debug, Default)]
pub struct Scatter<'m> {
    pieces: Vec<VolatileSlice<'m>>,
    len: usize,
}

#[derive(Debug, Error)]
pub enum ScatterError {
    #[error("{len} bytes at {address:#x} are not all guest memory")]
    OutsideMemory {
        address: u64,
        len: usize,
        source: GuestMemoryError,
    },
    #[error("the pieces add up to more than an address space")]
    TooLong,
}

impl<'m> Scatter<'m> {
    /// Adds `len` bytes of guest memory at `address` to the end.
    ///
    /// # Errors
    /// The range is not wholly guest memory; nothing is added then.
    pub fn push_memory(
        &mut self,
        memory: &'m GuestMemory,
        address: GuestAddress,
        len: usize,
        access: Permissions,
    ) -> Result<(), ScatterError> {
        let outside = |source| ScatterError::OutsideMemory {
            address: address.raw_value(),
            len,
            source,
        };
        let total = self.len.checked_add(len).ok_or(ScatterError::TooLong)?;
        let before = self.pieces.len();
        for slice in memory.get_slices(address, len, access).map_err(outside)? {
            match slice {
                Ok(slice) => self.pieces.push(slice),
                Err(source) => {
                    self.pieces.truncate(before);
                    return Err(outside(source));
                }
            }
        }
        self.len = total;
        Ok(())
    }

    /// Adds all pieces of `other` to the end.
    pub fn append(&mut self, other: &Scatter<'m>) {
        self.pieces.extend_from_slice(&other.pieces);
        self.len += other.len;
    }

    /// Forgets all pieces, and keeps the room for others.
    pub fn clear(&mut self) {
        self.pieces.clear();
        self.len = 0;
    }

    /// Takes the first `count` bytes off; all when there are not so many.
    pub fn skip(&mut self, count: usize) {
        let mut left = count.min(self.len);
        self.len -= left;
        let mut gone = 0;
        for piece in &mut self.pieces {
            match piece.offset(left) {
                Ok(rest) if left < piece.len() => {
                    *piece = rest;
                    break;
                }
                _ => {
                    left -= piece.len().min(left);
                    gone += 1;
                }
            }
        }
        self.pieces.drain(..gone);
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The bytes from `offset`, at most `len` of them; fewer when there are not so many.
    #[must_use]
    pub fn part(&self, offset: usize, len: usize) -> Scatter<'m> {
        let mut part = Scatter::default();
        let (mut skip, mut wanted) = (offset, len);
        for piece in &self.pieces {
            if wanted == 0 {
                break;
            }
            if skip >= piece.len() {
                skip -= piece.len();
                continue;
            }
            let taken = wanted.min(piece.len() - skip);
            if let Ok(slice) = piece.subslice(skip, taken) {
                part.pieces.push(slice);
                part.len += taken;
            }
            skip = 0;
            wanted -= taken;
        }
        part
    }

    /// Copies out to `bytes`, as much as both have; returns how much.
    pub fn copy_to(&self, bytes: &mut [u8]) -> usize {
        let mut done = 0;
        for piece in &self.pieces {
            done += piece.copy_to(&mut bytes[done..]);
        }
        done
    }

    /// Copies in from `bytes`, as much as both have; returns how much.
    pub fn copy_from(&self, bytes: &[u8]) -> usize {
        let mut done = 0;
        for piece in &self.pieces {
            let taken = piece.len().min(bytes.len() - done);
            piece.copy_from(&bytes[done..done + taken]);
            done += taken;
        }
        done
    }

    pub fn fill_zero(&self) {
        const ZEROS: [u8; 4096] = [0; 4096];
        for piece in &self.pieces {
            let mut done = 0;
            while let Ok(rest) = piece.offset(done) {
                let taken = rest.len().min(ZEROS.len());
                if taken == 0 {
                    break;
                }
                rest.copy_from(&ZEROS[..taken]);
                done += taken;
            }
        }
    }

    /// Fills the pieces from `file` at `offset`; returns how many bytes the file had.
    ///
    /// # Errors
    /// As of preadv(2).
    pub fn read_at(&self, file: BorrowedFd<'_>, offset: u64) -> io::Result<usize> {
        self.transfer(offset, |vectors, count, at| {
            // SAFETY: each vector is a volatile slice of memory that stays mapped for 'm, valid for writes of its
            // length; nothing in this process holds a Rust reference into it. The descriptor is borrowed, so open.
            unsafe { libc::preadv(file.as_raw_fd(), vectors, count, at) }
        })
    }

    /// Writes all pieces to `file` at `offset`.
    ///
    /// # Errors
    /// As of pwritev(2); some of the bytes may have been written.
    pub fn write_all_at(&self, file: BorrowedFd<'_>, offset: u64) -> io::Result<()> {
        let written = self.transfer(offset, |vectors, count, at| {
            // SAFETY: each vector is a volatile slice of memory that stays mapped for 'm, valid for reads of its
            // length. The descriptor is borrowed, so open.
            unsafe { libc::pwritev(file.as_raw_fd(), vectors, count, at) }
        })?;
        if written == self.len {
            Ok(())
        } else {
            Err(io::ErrorKind::WriteZero.into())
        }
    }

    /// Receives what a stream socket has, at most what the pieces hold, without waiting; 0 is the end of the stream.
    ///
    /// # Errors
    /// As of recvmsg(2), `WouldBlock` when nothing is there.
    pub fn receive(&self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        self.with_vectors(|vectors| {
            let mut message = message_of(vectors);
            // SAFETY: the message names only `vectors`, which outlive the call; each is valid for writes of its
            // length as in `read_at`.
            unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT) }
        })
    }

    /// Sends as much as a stream socket takes without waiting; returns how much. A socket of messages takes all, as one.
    ///
    /// # Errors
    /// As of sendmsg(2), `WouldBlock` when it takes nothing; never a signal.
    pub fn send(&self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        self.with_vectors(|vectors| {
            let message = message_of(vectors);
            let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
            // SAFETY: the message names only `vectors`, which outlive the call; each is valid for reads of its
            // length as in `write_all_at`.
            unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, flags) }
        })
    }

    /// Repeats a positioned call until all pieces are done or it makes no progress (end of file).
    fn transfer(
        &self,
        offset: u64,
        call: impl Fn(*const libc::iovec, libc::c_int, libc::off_t) -> isize,
    ) -> io::Result<usize> {
        let mut done = 0;
        while done < self.len {
            let rest;
            let rest = if done == 0 {
                self
            } else {
                rest = self.part(done, self.len - done);
                &rest
            };
            let at = libc::off_t::try_from(offset + done as u64).map_err(io::Error::other)?;
            let moved = rest.with_vectors(|vectors| {
                // At most PIECES_PER_CALL_MAX of them.
                let count = libc::c_int::try_from(vectors.len()).unwrap_or(libc::c_int::MAX);
                call(vectors.as_ptr(), count, at)
            })?;
            match moved {
                0 => break,
                n => done += n,
            }
        }
        Ok(done)
    }

    /// Makes a system call with the pieces, as many as one takes; again when a signal came in between.
    fn with_vectors(&self, mut call: impl FnMut(&mut [libc::iovec]) -> isize) -> io::Result<usize> {
        let vector_of = |piece: &VolatileSlice<'_>| libc::iovec {
            iov_base: piece.ptr_guard_mut().as_ptr().cast(),
            iov_len: piece.len(),
        };
        if self.pieces.len() <= PIECES_FEW {
            let none = libc::iovec {
                iov_base: std::ptr::null_mut(),
                iov_len: 0,
            };
            let mut few = [none; PIECES_FEW];
            for (vector, piece) in few.iter_mut().zip(&self.pieces) {
                *vector = vector_of(piece);
            }
            let used = &mut few[..self.pieces.len()];
            return retry_interrupted(|| call(used));
        }
        let first = self.pieces.iter().take(PIECES_PER_CALL_MAX);
        let mut many: Vec<_> = first.map(vector_of).collect();
        retry_interrupted(|| call(&mut many))
    }
}

impl<'m> From<VolatileSlice<'m>> for Scatter<'m> {
    fn from(piece: VolatileSlice<'m>) -> Self {
        Self {
            len: piece.len(),
            pieces: vec![piece],
        }
    }
}

impl<'m> From<&'m mut [u8]> for Scatter<'m> {
    fn from(bytes: &'m mut [u8]) -> Self {
        VolatileSlice::from(bytes).into()
    }
}

fn message_of(vectors: &mut [libc::iovec]) -> libc::msghdr {
    // SAFETY: msghdr is plain data of integers and pointers, for which all zeros means "none".
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = vectors.as_mut_ptr();
    message.msg_iovlen = vectors.len();
    message
}

fn retry_interrupted(mut call: impl FnMut() -> isize) -> io::Result<usize> {
    loop {
        match usize::try_from(call()) {
            Ok(count) => return Ok(count),
            Err(_negative) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory() -> GuestMemory {
        // Two regions that touch in guest addresses, but not in ours.
        GuestMemory::from_ranges(&[(GuestAddress(0), 0x1000), (GuestAddress(0x1000), 0x1000)]).unwrap()
    }

    #[test]
    fn a_range_over_two_regions_is_one_range_in_two_pieces() {
        let memory = memory();
        let mut scatter = Scatter::default();
        scatter
            .push_memory(&memory, GuestAddress(0xffe), 4, Permissions::ReadWrite)
            .unwrap();
        assert_eq!(scatter.copy_from(b"abcdef"), 4);
        let mut middle = [0; 8];
        assert_eq!(scatter.part(1, 2).copy_to(&mut middle), 2);
        assert_eq!(&middle[..2], b"bc");
    }

    #[test]
    fn bytes_are_taken_off_the_front_over_pieces() {
        let memory = memory();
        for skipped in 0..12 {
            let mut scatter = Scatter::default();
            for (at, len) in [(0, 2), (2, 0), (2, 3), (0xfff, 4)] {
                scatter
                    .push_memory(&memory, GuestAddress(at), len, Permissions::ReadWrite)
                    .unwrap();
            }
            scatter.copy_from(b"abcdefghi");
            scatter.skip(skipped);
            let mut rest = [0; 9];
            let len = scatter.copy_to(&mut rest);
            assert_eq!(&rest[..len], &b"abcdefghi"[skipped.min(9)..]);
            assert_eq!(scatter.len(), len);
        }
    }

    #[test]
    fn a_range_that_leaves_memory_adds_nothing() {
        let memory = memory();
        let mut scatter = Scatter::default();
        for (address, len) in [(0x1fff, 2), (0x2000, 1), (u64::MAX, 2), (0, usize::MAX)] {
            scatter
                .push_memory(&memory, GuestAddress(address), len, Permissions::Read)
                .unwrap_err();
            assert!(scatter.is_empty() && scatter.pieces.is_empty());
        }
    }

    #[test]
    fn a_file_is_read_up_to_its_end_and_written_whole() {
        use std::os::fd::AsFd;
        let file = tempfile::tempfile().unwrap();
        let mut bytes = *b"hello world";
        Scatter::from(&mut bytes[..])
            .write_all_at(file.as_fd(), 3)
            .unwrap();
        let mut back = [b'.'; 20];
        assert_eq!(Scatter::from(&mut back[..]).read_at(file.as_fd(), 0).unwrap(), 14);
        assert_eq!(&back, b"\0\0\0hello world......");
    }
}
