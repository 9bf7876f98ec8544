//! One connection: TLS with the guest as the host that it means, TLS with that host, and requests from one to the other.

use std::io;
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::pin::{Pin, pin};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use egress::Name;
use hyper::service::service_fn;
use hyper::{client, server};
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::io::copy_bidirectional;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_util::sync::CancellationToken;

use super::HEAD_BYTES_MAX;
use super::exchange::Exchange;
use super::gate::Activity;
use super::leaves::{LeafError, Leaves};
use super::set::Shared;
use super::upstream::{self, Stream, UpstreamError};

/// How long a guest may take to shake hands.
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(10);

/// Some hosts think for minutes before they answer.
const IDLE_MAX: Duration = Duration::from_mins(15);

/// What all connections use.
pub(super) struct Tools {
    pub(super) leaves: Leaves,
    pub(super) connector: TlsConnector,
}

/// A connection to be served.
pub(super) struct Job {
    /// Behind it are the guest's bytes.
    pub(super) guest: UnixStream,
    pub(super) name: Name,
    pub(super) port: u16,
    /// Of the real host.
    pub(super) candidates: Vec<IpAddr>,
    pub(super) bound: Shared,
    /// Why the host was not reached, for the log.
    pub(super) failure: Arc<OnceLock<String>>,
    /// Cancelled when the connection is no more.
    pub(super) end: CancellationToken,
    /// Given back when the job is done.
    pub(super) _permits: [OwnedSemaphorePermit; 2],
}

#[derive(Debug, Error)]
enum ServeError {
    #[error("its socket cannot be used")]
    Socket(#[source] io::Error),
    #[error("there is no certificate for the name")]
    Leaf(#[source] LeafError),
    #[error("the guest does not speak TLS with us")]
    Handshake(#[source] io::Error),
    #[error("the guest took too long")]
    Slow,
    #[error("two readers of the guest's first message see two names")]
    OtherName,
    #[error("requests and answers went wrong")]
    Http(#[source] hyper::Error),
    #[error("what was spoken instead of HTTP was broken off")]
    Upgraded(#[source] io::Error),
    #[error("nothing moved for a long time")]
    Idle,
}

type Client = Pin<Box<dyn Future<Output = ()> + Send>>;

pub(super) async fn run(job: Job, tools: Arc<Tools>) {
    let (end, name) = (job.end.clone(), job.name.clone());
    tokio::select! {
        () = end.cancelled() => {}
        served = serve(job, &tools) => if let Err(error) = served {
            tracing::debug!(%name, "a connection with secrets ended: {}", pod_types::ErrorChain(&error));
        }
    }
}

async fn serve(job: Job, tools: &Tools) -> Result<(), ServeError> {
    let activity = Activity::start();
    let config = tools.leaves.config_for(&job.name).map_err(ServeError::Leaf)?;
    job.guest.set_nonblocking(true).map_err(ServeError::Socket)?;
    let guest = tokio::net::UnixStream::from_std(job.guest).map_err(ServeError::Socket)?;
    let accept = timeout(HANDSHAKE_PATIENCE, TlsAcceptor::from(config).accept(guest));
    let to = (&job.candidates[..], job.port);
    let connect = upstream::connect(&tools.connector, &job.name, to, (&job.end, &activity));
    let (guest, host) = tokio::join!(accept, connect);
    if let Err(error) = &host {
        let _ = job.failure.set(pod_types::ErrorChain(error).to_string());
    }
    let guest = guest
        .map_err(|_| ServeError::Slow)?
        .map_err(ServeError::Handshake)?;
    let said = guest.get_ref().1.server_name();
    if said.map(|said| Name::from_ascii(said.as_bytes())) != Some(Ok(job.name.clone())) {
        return Err(ServeError::OtherName);
    }
    let (sender, client) = speak_to_host(host).await?;
    let exchange = Arc::new(Exchange {
        name: job.name,
        port: job.port,
        bound: job.bound,
        upstream: sender,
        used: AtomicBool::new(false),
        upgrade: Mutex::default(),
    });
    tokio::select! {
        done = exchange_all(TokioIo::new(guest), client, exchange) => done,
        () = activity.idle(IDLE_MAX) => Err(ServeError::Idle),
    }
}

type Sender =
    Result<tokio::sync::Mutex<client::conn::http1::SendRequest<hyper::body::Incoming>>, UpstreamError>;

/// What requests are sent with, and what has to be polled for that.
async fn speak_to_host(host: Result<Stream, UpstreamError>) -> Result<(Sender, Client), ServeError> {
    let stream = match host {
        Ok(stream) => stream,
        Err(error) => return Ok((Err(error), Box::pin(std::future::pending()))),
    };
    let (sender, connection) = client::conn::http1::Builder::new()
        .preserve_header_case(true)
        .max_buf_size(HEAD_BYTES_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(ServeError::Http)?;
    let client = async {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!("a connection to a real host ended: {error}");
        }
    };
    Ok((Ok(tokio::sync::Mutex::new(sender)), Box::pin(client)))
}

async fn exchange_all(
    guest: TokioIo<tokio_rustls::server::TlsStream<tokio::net::UnixStream>>,
    mut client: Client,
    exchange: Arc<Exchange>,
) -> Result<(), ServeError> {
    let service = {
        let exchange = exchange.clone();
        service_fn(move |request| {
            let exchange = exchange.clone();
            async move { exchange.answer(request).await }
        })
    };
    // No time for heads: what is slow takes a place of its own guest's, and all places are given back when idle.
    let server = server::conn::http1::Builder::new()
        .preserve_header_case(true)
        .header_read_timeout(None)
        .auto_date_header(false)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(guest, service)
        .with_upgrades();
    let mut server = pin!(server);
    let mut client_ended = false;
    let served = loop {
        tokio::select! {
            served = server.as_mut() => break served,
            () = client.as_mut(), if !client_ended => {
                client_ended = true;
                if !exchange.is_upgrading() {
                    server.as_mut().graceful_shutdown();
                }
            }
        }
    };
    served.map_err(ServeError::Http)?;
    let Some((guest, host)) = exchange.take_upgrade() else {
        return Ok(());
    };
    let client = async {
        if !client_ended {
            client.await;
        }
    };
    let (guest, host, ()) = tokio::join!(guest, host, client);
    let mut guest = TokioIo::new(guest.map_err(ServeError::Http)?);
    let mut host = TokioIo::new(host.map_err(ServeError::Http)?);
    copy_bidirectional(&mut guest, &mut host)
        .await
        .map(drop)
        .map_err(ServeError::Upgraded)
}
