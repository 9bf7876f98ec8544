//! The accept loop: one task per connection, none per request.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
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

/// Serves until `stop`, then takes no more connections and waits until `done` and until the rest is sent: streams end
/// when their sandboxes do.
pub async fn serve(
    listener: TcpListener,
    api: Arc<Api>,
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
            Ok((stream, _)) => {
                let connection = serve_connection(stream, Arc::clone(&api), timing, stop.clone());
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

async fn serve_connection(stream: TcpStream, api: Arc<Api>, timing: Timing, stop: CancellationToken) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot turn off Nagle's algorithm");
    }
    let io = TokioIo::new(StallGuard::new(stream, timing.client_stall));
    let service = service_fn(|request| {
        let api = Arc::clone(&api);
        async move { Ok::<_, Infallible>(api.answer(request).await) }
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
