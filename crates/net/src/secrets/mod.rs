//! Secrets that guests use without having them.
//!
//! ```text
//!  guest ═ TLS, as the host ═▶ loop ─ socketpair ─▶ serve ─▶ exchange ─ TLS, verified ─▶ gate ─▶ the real host
//!              (leaf of our authority)                          │
//!                                                    placeholder ▷ value, in the head
//! ```
//!
//! A connection whose first bytes are a ClientHello for a name that a secret is for goes to a thread of its own kind: TLS
//! and HTTP are what async libraries are for, and what they cost is kept away from the loop. The loop still does
//! everything else: it judges the name, resolves it, moves the guest's bytes, and ends the connection when
//! the policy or the secrets change.
//!
//! What keeps a secret where it belongs:
//! * it is sent only over TLS to a host that has proven its name to us, and only in a request *for* that name;
//! * answers are not looked at. A host that answers with what it was sent shows its guests their secret;
//! * no value is logged, none is in a `Debug` output, and texts for guests name placeholders' connections only;
//! * one that is taken away is not sent after that was acknowledged: see `gate`.

mod authority;
mod exchange;
mod gate;
mod leaves;
mod serve;
mod set;
mod substitute;
mod upstream;

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, OnceLock};

use egress::Name;
use thiserror::Error;
use tokio::runtime::Builder;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::rustls;
use tokio_util::sync::{CancellationToken, DropGuard};

pub use authority::{Authority, AuthorityError, AuthorityPem, generate_authority};
use leaves::Leaves;
use serve::{Job, Tools};
pub(crate) use set::{Bound, SecretSet, Shared};
pub use upstream::{Trust, TrustError};

/// Longest head of a request or an answer.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// The one protocol spoken, with guests and hosts.
const ALPN: &[u8] = b"http/1.1";

/// Connections with secrets, of all wires and of one.
const CONNECTIONS_MAX: usize = 1024;
pub(crate) const CONNECTIONS_OF_WIRE_MAX: usize = 256;

#[derive(Debug, Error)]
pub enum TerminatorError {
    #[error("cannot start its thread")]
    Thread(#[source] io::Error),
    #[error("TLS does not work")]
    Tls(#[source] rustls::Error),
}

/// The thread that serves connections with secrets, as the loop sees it. It ends with this.
pub(crate) struct Terminator {
    jobs: Sender<Job>,
    places: Arc<Semaphore>,
}

/// Where a connection with secrets is to lead.
pub(crate) struct Destination {
    pub(crate) name: Name,
    pub(crate) port: u16,
    pub(crate) candidates: Vec<IpAddr>,
    pub(crate) bound: Bound,
}

/// A connection that was handed over: when this is dropped, it is no more.
#[derive(Debug)]
pub(crate) struct Via {
    pub(crate) candidates: Vec<IpAddr>,
    pub(crate) bound: Shared,
    /// Why the real host was not reached.
    pub(crate) failure: Arc<OnceLock<String>>,
    _end: DropGuard,
}

impl Terminator {
    pub(crate) fn start(authority: Authority, trust: Trust) -> Result<Self, TerminatorError> {
        let tools = Arc::new(Tools {
            leaves: Leaves::new(authority),
            connector: trust.connector().map_err(TerminatorError::Tls)?,
        });
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(TerminatorError::Thread)?;
        // Each job has a place, so there are never more than this.
        let (jobs, receiver) = mpsc::channel(CONNECTIONS_MAX);
        std::thread::Builder::new()
            .name("secrets".to_owned())
            .spawn(move || runtime.block_on(serve_all(receiver, tools)))
            .map_err(TerminatorError::Thread)?;
        Ok(Self {
            jobs,
            places: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
        })
    }

    /// Hands a connection over. What comes back is to be used like a socket to the outside.
    ///
    /// # Errors
    /// Why it cannot be, in words for the log.
    pub(crate) fn connect(
        &self,
        to: Destination,
        own_places: &Arc<Semaphore>,
    ) -> Result<(OwnedFd, Via), String> {
        let own = place(own_places, || {
            format!("more than {CONNECTIONS_OF_WIRE_MAX} connections with secrets at once")
        })?;
        let shared = place(&self.places, || {
            "this host has no room for another connection with secrets".to_owned()
        })?;
        let (loop_end, guest) = UnixStream::pair().map_err(|error| error.to_string())?;
        loop_end
            .set_nonblocking(true)
            .map_err(|error| error.to_string())?;
        let end = CancellationToken::new();
        let via = Via {
            candidates: to.candidates.clone(),
            bound: Shared::new(to.bound),
            failure: Arc::default(),
            _end: end.clone().drop_guard(),
        };
        let job = Job {
            guest,
            name: to.name,
            port: to.port,
            candidates: to.candidates,
            bound: via.bound.clone(),
            failure: via.failure.clone(),
            end,
            _permits: [own, shared],
        };
        self.jobs
            .try_send(job)
            .map_err(|_| "connections with secrets are not served".to_owned())?;
        Ok((loop_end.into(), via))
    }
}

fn place(places: &Arc<Semaphore>, why: impl Fn() -> String) -> Result<OwnedSemaphorePermit, String> {
    places.clone().try_acquire_owned().map_err(|_| why())
}

async fn serve_all(mut jobs: Receiver<Job>, tools: Arc<Tools>) {
    while let Some(job) = jobs.recv().await {
        tokio::spawn(serve::run(job, tools.clone()));
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn destination() -> Destination {
        Destination {
            name: "a.example".parse().unwrap(),
            port: 443,
            candidates: Vec::new(),
            bound: Bound::default(),
        }
    }

    #[test]
    fn a_wire_has_so_many_places_and_gets_them_back() {
        let authority = Authority::from_pem(&generate_authority().unwrap()).unwrap();
        let terminator = Terminator::start(authority, Trust::default()).unwrap();
        let places = Arc::new(Semaphore::new(1));
        let first = terminator.connect(destination(), &places).unwrap();
        let why = terminator.connect(destination(), &places).unwrap_err();
        assert!(why.contains("connections with secrets at once"), "{why}");
        drop(first);
        let end = Instant::now() + Duration::from_secs(60);
        while terminator.connect(destination(), &places).is_err() {
            assert!(Instant::now() < end, "the place was not given back");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
