//! The control socket: daemons connect, send requests, get replies and events (`vmm-proto`).
//!
//! Everything here is bounded: connections, what one of them may leave half sent, and what may wait for it to read. A
//! daemon that breaks the protocol or does not read loses its connection; the VM goes on.

mod connection;
mod server;

pub(crate) use server::{ConnectionId, ControlServer, Incoming};

use std::io;
use std::path::PathBuf;

use thiserror::Error;

#[derive(Debug, Error)]
pub enum ControlError {
    #[error("another process answers on {}", path.display())]
    InUse { path: PathBuf },
    #[error("cannot listen on {}", path.display())]
    Listen {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}
