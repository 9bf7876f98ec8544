//! Content that moves between file systems: one file, or a tree as a tar archive.
//!
//! Both ends of a transfer distrust the other, so both use this: the agent for what a client uploads, the command line
//! for what a guest sends. Reading order: [`open_regular`] opens a file for reading and nothing else, [`Staged`] is new
//! content that takes its place at once or never, [`pack`] writes a tree as an archive, and [`unpack`] makes one from an
//! archive without ever leaving its directory.
//!
//! Everything is streamed: no more is held than one piece of a file and the names of the directories on the way.
//!
//! This crate must not know sockets, protocols, or whose files they are.
#![forbid(unsafe_code)]

mod error;

mod kernel_files;
mod regular;

mod directories;
mod place;
mod staged;

mod pack;
mod unpack;

pub use directories::{make_directories, remove_directories};
pub use error::{FileError, shown};
pub use kernel_files::is_made_up;
pub use pack::{Packed, pack};
pub use place::Place;
pub use regular::open_regular;
pub use staged::{Staged, TEMPORARY_PREFIX};
pub use unpack::{Unpacked, unpack};

/// Bytes of content moved at once.
const PIECE_BYTES: usize = 64 * 1024;
