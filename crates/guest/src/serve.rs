//! Accepts connections and keeps the protocol on each of them.

use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use agent_proto::{Direction, FailureCode, HEADER_LEN, Header, Ready, Reply, Request, Welcome};
use rustix::time::{ClockId, clock_gettime};
use vsock::{VsockListener, VsockStream};

use crate::connection::{Connection, ConnectionError, Stream};
use crate::services::{Services, failed};

/// Connections served at once. More than wait in the queue, and bounded because each has a thread.
const CONNECTIONS_MAX: usize = 192;
/// Pause after a failed accept, which may be for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Deep enough for the services; most of it is never touched.
const STACK_BYTES: usize = 256 * 1024;

/// Where connections come from.
pub trait Listener: Send + 'static {
    type Stream: Stream;

    /// Waits for the next connection.
    ///
    /// # Errors
    /// Those of the operating system.
    fn accept(&self) -> io::Result<Self::Stream>;
}

impl Listener for UnixListener {
    type Stream = UnixStream;

    fn accept(&self) -> io::Result<UnixStream> {
        Self::accept(self).map(|(stream, _)| stream)
    }
}

impl Listener for VsockListener {
    type Stream = VsockStream;

    fn accept(&self) -> io::Result<VsockStream> {
        Self::accept(self).map(|(stream, _)| stream)
    }
}

/// Counts a connection for as long as it is served.
struct Served(Arc<AtomicUsize>);

impl Services {
    /// Accepts connections for ever, in a thread of its own.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn serve(self: &Arc<Self>, listener: impl Listener) -> io::Result<()> {
        let services = Arc::clone(self);
        thread::Builder::new()
            .name("accept".to_owned())
            .spawn(move || accept_for_ever(&services, &listener))
            .map(drop)
    }
}

/// Says that the agent is ready, once.
///
/// # Errors
/// When the stream does not take it.
pub fn announce(stream: &mut impl Write) -> io::Result<()> {
    let uptime = clock_gettime(ClockId::Boottime);
    let ready = Reply::Ready(Ready {
        version: agent_proto::VERSION,
        uptime_ms: u64::try_from(uptime.tv_sec * 1000 + uptime.tv_nsec / 1_000_000).unwrap_or(0),
    });
    stream.write_all(&ready.encode().map_err(io::Error::other)?)?;
    stream.flush()
}

fn accept_for_ever(services: &Arc<Services>, listener: &impl Listener) {
    let count = Arc::new(AtomicUsize::new(0));
    loop {
        let Ok(stream) = listener.accept() else {
            thread::sleep(ACCEPT_PAUSE);
            continue;
        };
        let served = Served(Arc::clone(&count));
        if count.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS_MAX {
            // Dropping both closes the connection and takes back the count.
            drop(served);
            continue;
        }
        let services = Arc::clone(services);
        let _ = thread::Builder::new()
            .name("connection".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || {
                serve_connection(&services, stream);
                drop(served);
            });
    }
}

/// Serves one connection until it ends; how it ends is the host's business, so nothing is reported.
pub(crate) fn serve_connection<S: Stream>(services: &Services, stream: S) {
    let _ended = converse(services, stream);
}

fn converse<S: Stream>(services: &Services, stream: S) -> Result<(), ConnectionError> {
    let mut connection = Connection::new(stream)?;
    greet(&mut connection)?;
    loop {
        let request = connection.receive()?;
        services.handle(&mut connection, request)?;
    }
}

fn greet<S: Stream>(connection: &mut Connection<S>) -> Result<(), ConnectionError> {
    let refusal = match connection.receive()? {
        Request::Hello {
            version: agent_proto::VERSION,
        } => {
            return connection.reply(&Reply::Welcome(Welcome {
                version: agent_proto::VERSION,
                build: env!("CARGO_PKG_VERSION").to_owned(),
            }));
        }
        Request::Hello { version } => {
            format!(
                "this agent speaks version {}, not {version}",
                agent_proto::VERSION
            )
        }
        _ => "a connection begins with hello".to_owned(),
    };
    connection.reply(&failed(FailureCode::BadRequest, refusal))?;
    Err(ConnectionError::Closed)
}

/// Reads one reply, as the host does; for the agent's own throw-away run.
pub(crate) fn read_reply(stream: &mut impl Read) -> io::Result<Reply> {
    let mut header = [0; HEADER_LEN];
    stream.read_exact(&mut header)?;
    let header = Header::decode(header, Direction::GuestToHost).map_err(io::Error::other)?;
    let mut body = vec![0; header.body_len];
    stream.read_exact(&mut body)?;
    Reply::decode(header.kind, body).map_err(io::Error::other)
}

impl Drop for Served {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
