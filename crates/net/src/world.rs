//! What all wires share.

use std::time::Instant;

use egress::Ranges;
use net_proto::Counters;

use crate::dns::Resolver;
use crate::poll::Poll;
use crate::secrets::Terminator;
use crate::stack::{Buffers, Clock};
use crate::timers::Timers;

/// Bytes that the buffers of all connections may take. When half is taken, new connections get the smallest; when all is,
/// none are made.
const BUFFER_BYTES_MAX: usize = 512 * 1024 * 1024;

/// Below this number of connections on one wire, each new one gets these buffers. Guests send segments of nearly
/// 16 KiB, so less than twice that costs speed; it is only for those who have a thousand connections.
const SIZES: [(usize, Buffers); 4] = [
    (32, Buffers::kib(128, 256)),
    (256, Buffers::kib(64, 64)),
    (1024, Buffers::kib(32, 32)),
    (usize::MAX, SMALLEST),
];
const SMALLEST: Buffers = Buffers::kib(16, 16);

pub(crate) struct World {
    pub(crate) poll: Poll,
    pub(crate) timers: Timers,
    pub(crate) resolver: Resolver,
    pub(crate) ranges: Ranges,
    /// For connections with secrets, if there may be any.
    pub(crate) terminator: Option<Terminator>,
    pub(crate) clock: Clock,
    /// When this turn of the loop began.
    pub(crate) now: Instant,
    /// Of wires that are no more.
    pub(crate) past: Counters,
    /// Taken by the buffers of connections.
    pub(crate) buffer_bytes: usize,
    /// Sockets to the outside that may still be opened.
    pub(crate) sockets_left: usize,
    serial: u64,
    seed: u64,
}

impl World {
    pub(crate) fn new(poll: Poll, resolver: Resolver, ranges: Ranges, sockets_max: usize) -> Self {
        let now = Instant::now();
        Self {
            poll,
            timers: Timers::default(),
            resolver,
            ranges,
            terminator: None,
            clock: Clock::start(now),
            now,
            past: Counters::default(),
            buffer_bytes: 0,
            sockets_left: sockets_max,
            serial: 0,
            seed: getrandom::u64().unwrap_or(0),
        }
    }

    /// A number that nothing had before.
    pub(crate) fn serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    /// For the first sequence number of a connection; only its own guest sees it.
    pub(crate) fn seed(&mut self) -> u64 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.seed ^ self.seed.rotate_left(31)
    }

    /// Buffers for one more connection of a wire that has so many.
    pub(crate) fn buffers(&self, connections: usize) -> Option<Buffers> {
        if self.buffer_bytes + SMALLEST.bytes() > BUFFER_BYTES_MAX {
            return None;
        }
        if self.buffer_bytes > BUFFER_BYTES_MAX / 2 {
            return Some(SMALLEST);
        }
        let size = SIZES.iter().find(|(below, _)| connections < *below);
        Some(size.map_or(SMALLEST, |(_, size)| *size))
    }
}
