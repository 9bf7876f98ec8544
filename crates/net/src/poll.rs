//! What the one thread waits for.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::{self, Errno};

/// Events taken at a time: enough that a busy turn needs few calls, few enough that none waits long.
const EVENTS_MAX: usize = 256;

/// Whose descriptor is ready. An index may have been given to another since: being told too much does no harm, since all
/// descriptors are non-blocking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    Listener,
    Control(u32),
    Wire(u32),
    /// A connection to the outside: wire and flow.
    Flow(u32, u32),
    Udp(u32, u32),
    /// A question to one of the host's resolvers.
    Question(u32),
}

pub(crate) struct Event {
    pub(crate) token: Token,
    pub(crate) readable: bool,
    pub(crate) writable: bool,
}

pub(crate) struct Poll {
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
}

impl Poll {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            events: Vec::with_capacity(EVENTS_MAX),
        })
    }

    /// Tells of each change, once, for as long as the descriptor is open.
    pub(crate) fn add(&self, fd: impl AsFd, token: Token) -> io::Result<()> {
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(&self.epoll, fd, EventData::new_u64(token.encode()), flags)
    }

    /// Waits for something, at most so long.
    pub(crate) fn wait(&mut self, bound: Option<Duration>, mut each: impl FnMut(Event)) -> io::Result<()> {
        let timeout = bound.and_then(|bound| Timespec::try_from(bound).ok());
        self.events.clear();
        match epoll::wait(
            &self.epoll,
            rustix::buffer::spare_capacity(&mut self.events),
            timeout.as_ref(),
        ) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
        let over = EventFlags::HUP | EventFlags::ERR | EventFlags::RDHUP;
        for event in &self.events {
            let (flags, data) = (event.flags, event.data.u64());
            if let Some(token) = Token::decode(data) {
                each(Event {
                    token,
                    readable: flags.intersects(EventFlags::IN | over),
                    writable: flags.intersects(EventFlags::OUT | EventFlags::HUP | EventFlags::ERR),
                });
            }
        }
        Ok(())
    }
}

/// Of the 64 bits the upper four say what it is, the next 28 the wire, the lower 32 the rest.
const WIRE_BITS: u64 = 28;

impl Token {
    fn encode(self) -> u64 {
        let (kind, wire, rest) = match self {
            Self::Listener => (0, 0, 0),
            Self::Control(index) => (1, 0, index),
            Self::Wire(wire) => (2, wire, 0),
            Self::Flow(wire, flow) => (3, wire, flow),
            Self::Udp(wire, flow) => (4, wire, flow),
            Self::Question(index) => (5, 0, index),
        };
        (kind << (32 + WIRE_BITS)) | (u64::from(wire) << 32) | u64::from(rest)
    }

    fn decode(bits: u64) -> Option<Self> {
        let rest = u32::try_from(bits & 0xffff_ffff).ok()?;
        let wire = u32::try_from((bits >> 32) & ((1 << WIRE_BITS) - 1)).ok()?;
        match bits >> (32 + WIRE_BITS) {
            0 => Some(Self::Listener),
            1 => Some(Self::Control(rest)),
            2 => Some(Self::Wire(wire)),
            3 => Some(Self::Flow(wire, rest)),
            4 => Some(Self::Udp(wire, rest)),
            5 => Some(Self::Question(rest)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_what_it_was() {
        let last_wire = (1 << WIRE_BITS) - 1;
        for token in [
            Token::Listener,
            Token::Control(u32::MAX),
            Token::Wire(last_wire),
            Token::Flow(last_wire, u32::MAX),
            Token::Udp(1, 2),
            Token::Question(7),
        ] {
            assert_eq!(Token::decode(token.encode()), Some(token));
        }
    }
}
