//! One stream between the guest and the host, as a state machine without input or output.
//!
//! ```text
//!   host connects:   Asking ──RESPONSE──> Open            guest connects:   Open (RESPONSE goes out)
//!   any violation, or both sides have shut down:   ──> Ending ──RST goes out──> Over
//!   RST comes in:    Over
//! ```
//!
//! Each side tells the other how much it can buffer (`buf_alloc`) and how much it has taken out of its buffer so far
//! (`fwd_cnt`, modulo 2^32); what is under way must fit in between. A guest that sends more is reset. We tell the
//! guest of freed space in every packet we send, and in one of its own when it would otherwise run low.
//!
//! Each direction is shut down on its own. What the guest has sent is delivered before the host sees the end.

use super::packet::{Header, Op, SHUTDOWN_RECEIVE, SHUTDOWN_SEND, TYPE_STREAM};

/// Bytes buffered for the host side of a connection when it does not read.
pub const BUFFER_BYTES: u32 = 256 * 1024;

/// The guest is told of freed space when it knows of less than this: early enough that it need not stop.
const CREDIT_LOW_BYTES: u32 = BUFFER_BYTES / 2;

/// A fwd_cnt further ahead of what was sent than this is one that lies (or is far behind).
const COUNTER_HALF: u32 = 1 << 31;

#[derive(Clone, Debug)]
pub struct Connection {
    phase: Phase,
    /// From the guest, modulo 2^32.
    received: u32,
    /// Of these, passed on to the host.
    forwarded: u32,
    /// The count of forwarded bytes the guest knows.
    forwarded_told: u32,
    /// To the guest, modulo 2^32.
    sent: u32,
    guest_forwarded: u32,
    guest_buffer: u32,
    /// SHUTDOWN flags of the guest.
    guest_shutdown: u32,
    /// SHUTDOWN flags of the host, and those the guest knows.
    host_shutdown: u32,
    host_shutdown_told: u32,
    due: Due,
    credit_asked: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The host wants to connect; the guest has not said yes.
    Asking,
    Open,
    /// Only a reset is left to send.
    Ending,
    /// The guest knows of it no more.
    Over,
}

/// Packets to send.
#[derive(Clone, Copy, Debug, Default)]
struct Due {
    request: bool,
    response: bool,
    credit_update: bool,
    credit_request: bool,
}

/// What a packet of the guest means for the host side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// The guest has accepted the connection.
    Accepted,
    /// The payload is to be passed on.
    Data,
    /// The guest has shut down a direction, see [`Connection::guest_sends_no_more`] and
    /// [`Connection::guest_receives_no_more`].
    Shutdown,
    /// There may be room for more data now.
    Credit,
    /// The connection is over.
    Reset,
    /// The guest broke the rules; the connection ends with a reset.
    Violation,
}

impl Connection {
    /// A connection the host asks for.
    #[must_use]
    pub fn asked_by_host() -> Self {
        let due = Due {
            request: true,
            ..Due::default()
        };
        Self::new(Phase::Asking, due)
    }

    /// A connection the guest has asked for with this packet, and gets.
    #[must_use]
    pub fn asked_by_guest(request: &Header) -> Self {
        let due = Due {
            response: true,
            ..Due::default()
        };
        Self {
            guest_buffer: request.buf_alloc,
            ..Self::new(Phase::Open, due)
        }
    }

    fn new(phase: Phase, due: Due) -> Self {
        Self {
            phase,
            received: 0,
            forwarded: 0,
            forwarded_told: 0,
            sent: 0,
            guest_forwarded: 0,
            guest_buffer: 0,
            guest_shutdown: 0,
            host_shutdown: 0,
            host_shutdown_told: 0,
            due,
            credit_asked: false,
        }
    }

    /// Takes a packet of the guest on this connection.
    pub fn receive(&mut self, header: &Header) -> Received {
        let received = match Op::from_wire(header.op) {
            Some(Op::Reset) => {
                self.phase = Phase::Over;
                return Received::Reset;
            }
            _ if matches!(self.phase, Phase::Ending | Phase::Over) => return Received::Violation,
            Some(op) if self.take_credit(header) => self.receive_op(op, header),
            _ => Received::Violation,
        };
        if received == Received::Violation {
            self.abort();
        }
        received
    }

    fn receive_op(&mut self, op: Op, header: &Header) -> Received {
        match (op, self.phase) {
            (Op::Response, Phase::Asking) if !self.due.request => {
                self.phase = Phase::Open;
                Received::Accepted
            }
            (Op::Data, Phase::Open) => self.receive_data(header.len),
            (Op::Shutdown, Phase::Open) => {
                self.guest_shutdown |= header.flags & (SHUTDOWN_RECEIVE | SHUTDOWN_SEND);
                Received::Shutdown
            }
            (Op::CreditUpdate, Phase::Open) => Received::Credit,
            (Op::CreditRequest, Phase::Open) => {
                self.due.credit_update = true;
                Received::Credit
            }
            _ => Received::Violation,
        }
    }

    fn receive_data(&mut self, len: u32) -> Received {
        let room = BUFFER_BYTES - self.unforwarded();
        if self.guest_sends_no_more() || len > room {
            return Received::Violation;
        }
        self.received = self.received.wrapping_add(len);
        Received::Data
    }

    /// Notes what the guest says of its buffer. False when it says it took more than was sent.
    fn take_credit(&mut self, header: &Header) -> bool {
        if self.sent.wrapping_sub(header.fwd_cnt) >= COUNTER_HALF {
            return false;
        }
        // Packets of a guest with several CPUs may overtake each other by a little; the newest count holds.
        if header.fwd_cnt.wrapping_sub(self.guest_forwarded) < COUNTER_HALF {
            self.guest_forwarded = header.fwd_cnt;
        }
        self.guest_buffer = header.buf_alloc;
        self.credit_asked = false;
        true
    }

    /// Bytes from the guest that have not been passed on to the host.
    #[must_use]
    pub fn unforwarded(&self) -> u32 {
        self.received.wrapping_sub(self.forwarded)
    }

    /// `len` of the bytes from the guest have been passed on to the host, or dropped because it takes no more.
    pub fn forward(&mut self, len: u32) {
        self.forwarded = self.forwarded.wrapping_add(len.min(self.unforwarded()));
        let credit_known = BUFFER_BYTES.saturating_sub(self.received.wrapping_sub(self.forwarded_told));
        if credit_known < CREDIT_LOW_BYTES && self.forwarded != self.forwarded_told {
            self.due.credit_update = true;
        }
    }

    /// How many bytes may be sent to the guest now.
    #[must_use]
    pub fn room(&self) -> u32 {
        if !self.may_send() {
            return 0;
        }
        self.guest_buffer
            .saturating_sub(self.sent.wrapping_sub(self.guest_forwarded))
    }

    /// Whether only the guest's buffer can stand in the way of data to it.
    fn may_send(&self) -> bool {
        let open = self.phase == Phase::Open && !self.due.response;
        open && !self.guest_receives_no_more() && self.host_shutdown & SHUTDOWN_SEND == 0
    }

    /// The host has data to send: when there is no room, asks the guest to tell once there is.
    pub fn ask_for_room(&mut self) {
        if self.may_send() && self.room() == 0 && !self.credit_asked {
            self.credit_asked = true;
            self.due.credit_request = true;
        }
    }

    /// `len` bytes, at most [`Connection::room`], go to the guest.
    pub fn send(&mut self, len: u32) {
        self.sent = self.sent.wrapping_add(len);
    }

    /// The host sends no more.
    pub fn host_sends_no_more(&mut self) {
        self.host_shutdown |= SHUTDOWN_SEND;
    }

    /// The host receives no more.
    pub fn host_receives_no_more(&mut self) {
        self.host_shutdown |= SHUTDOWN_RECEIVE;
    }

    /// Ends the connection with a reset.
    pub fn abort(&mut self) {
        if self.phase != Phase::Over {
            self.phase = Phase::Ending;
        }
    }

    /// The guest has not said yes yet.
    #[must_use]
    pub fn is_asking(&self) -> bool {
        self.phase == Phase::Asking
    }

    #[must_use]
    pub fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    #[must_use]
    pub fn guest_sends_no_more(&self) -> bool {
        self.guest_shutdown & SHUTDOWN_SEND != 0
    }

    #[must_use]
    pub fn guest_receives_no_more(&self) -> bool {
        self.guest_shutdown & SHUTDOWN_RECEIVE != 0
    }

    /// Nothing of it has reached the guest yet.
    #[must_use]
    pub fn is_unknown_to_guest(&self) -> bool {
        self.due.request
    }

    /// Whether [`Connection::next_control`] has a packet.
    #[must_use]
    pub fn has_control(&self) -> bool {
        self.clone().next_control().is_some()
    }

    /// The next packet without payload to send, as operation and flags.
    pub fn next_control(&mut self) -> Option<(Op, u32)> {
        if self.phase == Phase::Over {
            return None;
        }
        // A guest that has shut down both directions waits for the reset, which comes after its last byte is out.
        let finished = self.guest_sends_no_more() && self.guest_receives_no_more() && self.unforwarded() == 0;
        if self.phase == Phase::Ending || finished {
            self.phase = Phase::Ending;
            return Some((Op::Reset, 0));
        }
        if std::mem::take(&mut self.due.request) {
            return Some((Op::Request, 0));
        }
        if std::mem::take(&mut self.due.response) {
            return Some((Op::Response, 0));
        }
        if self.phase == Phase::Open && self.host_shutdown != self.host_shutdown_told {
            self.host_shutdown_told = self.host_shutdown;
            return Some((Op::Shutdown, self.host_shutdown));
        }
        if std::mem::take(&mut self.due.credit_update) {
            return Some((Op::CreditUpdate, 0));
        }
        if std::mem::take(&mut self.due.credit_request) {
            return Some((Op::CreditRequest, 0));
        }
        None
    }

    /// Completes the header of a packet to the guest: it tells of our buffer.
    pub fn stamp(&mut self, header: &mut Header) {
        header.kind = TYPE_STREAM;
        header.buf_alloc = BUFFER_BYTES;
        header.fwd_cnt = self.forwarded;
        self.forwarded_told = self.forwarded;
        self.due.credit_update = false;
    }
}

#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
#[cfg(test)]
mod tests;
