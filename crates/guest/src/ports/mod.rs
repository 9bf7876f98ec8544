//! What listens in the guest, and connections to it on behalf of the host.
//!
//! ```text
//!  List ─────▶ table (/proc/net/tcp) ─▶ owners (/proc/<pid>/fd) ─▶ Listening
//!  Connect ──▶ reach ─▶ Done ─▶ splice: the host's connection ◄──bytes──► the program's
//! ```
//!
//! A connection to a port takes the thread of the host's connection and two buffers of 64 KiB. It needs no network: a
//! guest reaches its own programs whatever it may reach outside.

mod owners;
mod reach;
mod splice;
mod table;

use std::sync::Arc;

use agent_proto::{FailureCode, LISTENING_MAX, Listening, PortReply, PortRequest, Reply};

use crate::connection::{Connection, ConnectionError, Stream};
use crate::services::failed;
use reach::{Unreached, reach};
use table::Socket;

/// Answers one request about ports without a machine around it, for tests of a host. False when the connection is over.
pub fn answer_port_request<S: Stream>(stream: S, request: PortRequest) -> bool {
    Connection::new(stream, Arc::default())
        .is_ok_and(|mut connection| answer(&mut connection, request).is_ok())
}

/// Carries out one request. A connection to a port that was made ends with it, which is an error here.
pub(crate) fn answer<S: Stream>(
    connection: &mut Connection<S>,
    request: PortRequest,
) -> Result<(), ConnectionError> {
    let port = match request {
        PortRequest::List => return connection.reply(&Reply::Port(PortReply::Listening(list()))),
        PortRequest::Connect { port } => port,
    };
    match reach(port, connection) {
        Ok(program) => {
            connection.reply(&Reply::Done)?;
            let (host, first) = connection.bare()?;
            splice::splice(host, first, &program)?;
            Err(ConnectionError::Closed)
        }
        Err(Unreached::Connection(error)) => Err(error),
        Err(error @ Unreached::Nothing { .. }) => {
            connection.reply(&failed(FailureCode::NotFound, error.to_string()))
        }
        Err(error @ Unreached::NotTaken { .. }) => {
            connection.reply(&failed(FailureCode::Busy, error.to_string()))
        }
        Err(Unreached::Io(error)) => {
            let message = format!("cannot connect to port {port}: {error}");
            connection.reply(&failed(FailureCode::Internal, message))
        }
    }
}

fn list() -> Vec<Listening> {
    let mut sockets = table::listening();
    sockets.sort_by_key(|socket| (socket.address.port(), socket.address.ip()));
    sockets.dedup_by_key(|socket| socket.address);
    sockets.truncate(LISTENING_MAX);
    let owners = owners::find(sockets.iter().map(|socket| socket.inode));
    let listening = |socket: &Socket| Listening {
        address: socket.address.ip(),
        port: socket.address.port(),
        process: owners.get(&socket.inode).cloned(),
    };
    sockets.iter().map(listening).collect()
}
