//! Accepts connections and keeps the protocol on each of them.
//!
//! Threads take turns at the door: whoever accepts a connection serves it, while another one steps up to the door. When
//! the connection ends its thread gets in line again. So a connection costs no new thread, whose every page would be
//! a fault in a fresh clone, and the thread that will serve the first connection of a clone has run before it was made.

use std::io::{self, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use agent_proto::{FailureCode, Ready, Reply, Request, Welcome};
use rustix::time::{ClockId, clock_gettime};
use vsock::{VsockListener, VsockStream};

use crate::connection::{Connection, ConnectionError, Stream};
use crate::services::{Services, failed};
use crate::warm_up::warm_up;

/// Connections served at once. More than wait in the queue, and bounded because each has a thread.
const CONNECTIONS_MAX: usize = 256;
/// Threads in line at the door from the start: one accepts, the other steps up when the first one serves.
const IN_LINE_FIRST: usize = 2;
/// Threads in line at most; more came with a rush and leave.
const IN_LINE_MAX: usize = 4;
/// Pause after a failed accept, which may be for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Deep enough for the services; most of it is never touched.
const STACK_BYTES: usize = 256 * 1024;

/// Where connections come from.
pub trait Listener: Send + Sync + 'static {
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

/// Where threads stand in line for connections.
struct Door<L> {
    services: Arc<Services>,
    listener: L,
    /// Held by the one that accepts.
    accepting: Mutex<()>,
    /// Threads in line, the one that accepts among them.
    in_line: AtomicUsize,
    served: AtomicUsize,
}

/// Counts a connection for as long as it is served, be it until a panic.
struct Served<'a>(&'a AtomicUsize);

impl Services {
    /// Accepts connections for ever, in threads of its own, each of which has done a throw-away run first.
    ///
    /// # Errors
    /// When a thread cannot be started, or the throw-away run goes wrong.
    pub fn serve(self: &Arc<Self>, listener: impl Listener) -> io::Result<()> {
        let door = Arc::new(Door {
            services: Arc::clone(self),
            listener,
            accepting: Mutex::new(()),
            in_line: AtomicUsize::new(0),
            served: AtomicUsize::new(0),
        });
        for _ in 0..IN_LINE_FIRST {
            let (host, agent) = UnixStream::pair()?;
            Door::add_thread(&door, Some(agent))?;
            warm_up(host)?;
        }
        self.number_runs_from_one();
        Ok(())
    }
}

impl<L: Listener> Door<L> {
    fn add_thread(door: &Arc<Self>, first: Option<UnixStream>) -> io::Result<()> {
        let theirs = Arc::clone(door);
        door.in_line.fetch_add(1, Ordering::Relaxed);
        thread::Builder::new()
            .name("connection".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || {
                if let Some(stream) = first {
                    serve_connection(&theirs.services, stream);
                }
                Self::attend(&theirs);
            })
            .inspect_err(|_| {
                door.in_line.fetch_sub(1, Ordering::Relaxed);
            })
            .map(drop)
    }

    fn attend(door: &Arc<Self>) {
        loop {
            let stream = door.accept();
            let was_alone = door.in_line.fetch_sub(1, Ordering::Relaxed) == 1;
            // With nobody at the door and no thread to be had, a connection refused is better than a deaf agent.
            if !was_alone || Self::add_thread(door, None).is_ok() {
                door.serve(stream);
            }
            if door.in_line.fetch_add(1, Ordering::Relaxed) >= IN_LINE_MAX {
                door.in_line.fetch_sub(1, Ordering::Relaxed);
                return;
            }
        }
    }

    fn accept(&self) -> L::Stream {
        let _turn = self.accepting.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match self.listener.accept() {
                Ok(stream) => return stream,
                Err(_) => thread::sleep(ACCEPT_PAUSE),
            }
        }
    }

    fn serve(&self, stream: L::Stream) {
        let number = self.served.fetch_add(1, Ordering::Relaxed);
        let _served = Served(&self.served);
        if number < CONNECTIONS_MAX {
            serve_connection(&self.services, stream);
        }
    }
}

impl Drop for Served<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
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

/// Serves one connection until it ends; how it ends is the host's business, so nothing is reported.
fn serve_connection<S: Stream>(services: &Services, stream: S) {
    let _ended = converse(services, stream);
}

fn converse<S: Stream>(services: &Services, stream: S) -> Result<(), ConnectionError> {
    let mut connection = Connection::new(stream, services.carried())?;
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
