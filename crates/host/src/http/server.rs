//! The accept loop: one task per connection, none per request.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::metrics::gauge::Gauge;
use rustix::net::sockopt;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Api;
use super::stall::StallGuard;
use crate::config::Timing;

/// After an accept that failed for want of file descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Once everything has ended, how long connections may take to send what is left.
const CLOSE_BOUND: Duration = Duration::from_secs(2);

/// Serves the API until `stop`, then takes no more connections and waits until `done` and until the rest is sent: streams end
/// when their sandboxes do.
pub async fn serve(
    listener: TcpListener,
    api: Arc<Api>,
    timing: Timing,
    stop: CancellationToken,
    done: CancellationToken,
) {
    let door = Door { api, metrics: false };
    serve_at(listener, door, timing, stop, done).await;
}

/// Serves metrics, and nothing else, to whoever reaches this address, until `stop`.
pub async fn serve_metrics(listener: TcpListener, api: Arc<Api>, timing: Timing, stop: CancellationToken) {
    let door = Door { api, metrics: true };
    serve_at(listener, door, timing, stop.clone(), stop).await;
}

/// What is behind an address.
#[derive(Clone)]
struct Door {
    api: Arc<Api>,
    /// Metrics alone.
    metrics: bool,
}

async fn serve_at(
    listener: TcpListener,
    door: Door,
    timing: Timing,
    stop: CancellationToken,
    done: CancellationToken,
) {
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        match accepted {
            Ok((stream, remote)) => {
                let connection = serve_connection((stream, remote), door.clone(), timing, stop.clone());
                connections.spawn(connection);
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    connections.close();
    done.cancelled().await;
    if timeout(CLOSE_BOUND, connections.wait()).await.is_err() {
        tracing::warn!(
            left = connections.len(),
            "closing connections whose clients do not read"
        );
    }
}

async fn serve_connection(
    (stream, remote): (TcpStream, SocketAddr),
    door: Door,
    timing: Timing,
    stop: CancellationToken,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot turn off Nagle's algorithm");
    }
    if let Err(error) = keep_alive(&stream) {
        tracing::debug!(%error, "cannot watch whether the client is there");
    }
    let http = door.api.metrics().map(|metrics| &metrics.http);
    let _open = http.map(|http| Open::new(&http.connections));
    let traffic = http.map(|http| (http.received_bytes.clone(), http.sent_bytes.clone()));
    let io = TokioIo::new(StallGuard::new(stream, timing.client_stall, traffic));
    let service = service_fn(|request| {
        let Door { api, metrics } = door.clone();
        async move {
            Ok::<_, Infallible>(if metrics {
                api.answer_metrics(request).await
            } else {
                api.answer(request, remote).await
            })
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // hyper starts this clock when it begins to wait for a request, so it bounds idleness as well.
        .header_read_timeout(timing.keep_alive)
        .serve_connection(io, service)
        // For terminals over WebSockets.
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        // Clients that go away are ordinary.
        tracing::debug!(%error, "a connection ended early");
    }
}

/// A client that is gone without a word is noticed within two minutes, also where nothing moves: on a terminal, on a
/// connection to a port.
fn keep_alive(stream: &TcpStream) -> rustix::io::Result<()> {
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, Duration::from_secs(60))?;
    sockopt::set_tcp_keepintvl(stream, Duration::from_secs(15))?;
    sockopt::set_tcp_keepcnt(stream, 4)
}

/// Counts a connection while it is open.
struct Open(Gauge);

impl Open {
    fn new(open: &Gauge) -> Self {
        open.inc();
        Self(open.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}
