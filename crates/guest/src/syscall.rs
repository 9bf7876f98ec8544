//! The one system call no safe crate wraps: giving entropy to the kernel.
//!
//! Writing to `/dev/urandom` mixes bytes in but does not reseed the generator that `getrandom` reads, which by
//! itself happens only once a minute; a clone must not wait for that. See random(4).

use std::fs::File;
use std::io;

/// Randomness passed in one call, in bytes.
pub(crate) const ENTROPY_BYTES: usize = 32;

/// `struct rand_pool_info` of `linux/random.h` with its buffer.
#[repr(C)]
struct RandPoolInfo {
    entropy_bits: i32,
    buffer_bytes: i32,
    buffer: [u8; ENTROPY_BYTES],
}

/// Adds entropy to the kernel's pool, credits it, and makes the generator use it at once.
///
/// # Errors
/// Without the privilege to do so.
pub(crate) fn reseed_kernel(random: &File, entropy: [u8; ENTROPY_BYTES]) -> io::Result<()> {
    let info = RandPoolInfo {
        entropy_bits: 256,
        buffer_bytes: 32,
        buffer: entropy,
    };
    ioctls::add_entropy(random, info)?;
    ioctls::reseed(random)?;
    Ok(())
}

#[expect(
    unsafe_code,
    reason = "rustix and nix wrap these two ioctls only as unsafe functions"
)]
mod ioctls {
    use std::fs::File;

    use rustix::io::Result;
    use rustix::ioctl::{NoArg, Setter, ioctl, opcode};

    use super::RandPoolInfo;

    /// `RNDADDENTROPY`: `_IOW('R', 0x03, int[2])`.
    const ADD_ENTROPY: rustix::ioctl::Opcode = opcode::write::<[i32; 2]>(b'R', 0x03);
    /// `RNDRESEEDCRNG`: `_IO('R', 0x07)`.
    const RESEED: rustix::ioctl::Opcode = opcode::none(b'R', 0x07);

    pub(super) fn add_entropy(random: &File, info: RandPoolInfo) -> Result<()> {
        // SAFETY: RNDADDENTROPY reads a `rand_pool_info` and, behind it, as many bytes as its `buf_size` says; both
        // are in `RandPoolInfo`, whose layout is C's, and the kernel writes nothing back.
        unsafe { ioctl(random, Setter::<ADD_ENTROPY, RandPoolInfo>::new(info)) }
    }

    pub(super) fn reseed(random: &File) -> Result<()> {
        // SAFETY: RNDRESEEDCRNG takes no argument and touches no user memory.
        unsafe { ioctl(random, NoArg::<RESEED>::new()) }
    }
}
