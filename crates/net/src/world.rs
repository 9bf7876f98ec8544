//! What all wires share.

use std::time::Instant;

use egress::Ranges;
use net_proto::Counters;

use crate::dns::Resolver;
use crate::poll::Poll;
use crate::secrets::Terminator;
use crate::stack::Clock;
use crate::timers::Timers;

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
    /// Taken by the buffers of connections, and what they may take.
    pub(crate) buffer_bytes: usize,
    pub(crate) buffer_bytes_max: usize,
    /// Sockets to the outside that may still be opened.
    pub(crate) sockets_left: usize,
    serial: u64,
    seed: u64,
}

/// What all wires together may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    /// To the outside.
    pub(crate) sockets: usize,
    pub(crate) buffer_bytes: usize,
}

impl World {
    pub(crate) fn new(poll: Poll, resolver: Resolver, ranges: Ranges, room: Room) -> Self {
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
            buffer_bytes_max: room.buffer_bytes,
            sockets_left: room.sockets,
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
}
