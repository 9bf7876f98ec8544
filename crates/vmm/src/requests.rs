//! What daemons ask for, on its way through the main loop.

use std::time::Instant;

use crate::clone::Order;
use crate::control::ConnectionId;

/// Who waits for a reply.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiter {
    pub(crate) connection: ConnectionId,
    /// The request's number.
    pub(crate) request: u64,
}

/// Clones, and who waits for them.
#[derive(Debug)]
pub(crate) struct CloneRequest {
    pub(crate) waiter: Waiter,
    pub(crate) order: Order,
    pub(crate) since: Instant,
}
