//! When the kernel writes to the disk what was written to files.
//!
//! For as long as a VM lives it may stay in memory: nothing that outlives a VM leaves its memory behind (clones, checkpoints
//! and spaces take it along), so the disk is behind with whatever nobody asks to be synchronized. Written back every
//! five seconds, as is usual, a guest would have to do all of it at once when it goes on after a while in a pool, in
//! competition with its first run. Only when the host's disk runs short it is better to know what there is to write.

use std::fs;
use std::io;

const INTERVAL: &str = "/proc/sys/vm/dirty_writeback_centisecs";
const BACKGROUND: &str = "/proc/sys/vm/dirty_background_bytes";
/// What a guest may hold back, about: the host has promised room for it.
const HELD_BACK_BYTES: u32 = 32 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteBack {
    /// After a day, unless there is much of it.
    Late,
    /// After some seconds, and now what is older.
    Soon,
}

impl WriteBack {
    pub(crate) fn set(self) -> io::Result<()> {
        let centiseconds = match self {
            Self::Late => "8640000",
            Self::Soon => "500",
        };
        fs::write(INTERVAL, centiseconds)
    }
}

/// Bounds what is held back.
pub(crate) fn bound() -> io::Result<()> {
    fs::write(BACKGROUND, HELD_BACK_BYTES.to_string())
}
