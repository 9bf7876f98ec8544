//! Connections that have been upgraded: bytes both ways, until both sides have ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, copy, split};
use tokio::time::timeout;

use crate::ports::Tunnel;

/// One direction of a tunnel may go on for as long as something moves this often. That its client has gone altogether looks
/// the same as that it has said all.
const TUNNEL_LINGER: Duration = Duration::from_secs(3600);
/// What HTTP is upgraded to has no half ends.
const UPGRADE_LINGER: Duration = Duration::from_secs(30);

/// Joins a client to a tunnel, once its connection is free for it.
pub(super) fn tunnel(client: OnUpgrade, tunnel: Tunnel) {
    tokio::spawn(async move {
        let moved = tunnel.moved();
        if let Ok(client) = client.await {
            join(TokioIo::new(client), tunnel, &moved, TUNNEL_LINGER).await;
        }
    });
}

/// Joins two connections that have both been upgraded; `moved` counts what goes through.
pub(super) fn upgraded(client: OnUpgrade, program: Upgraded, moved: Arc<AtomicU64>) {
    tokio::spawn(async move {
        if let Ok(client) = client.await {
            join(
                TokioIo::new(client),
                TokioIo::new(program),
                &moved,
                UPGRADE_LINGER,
            )
            .await;
        }
    });
}

async fn join<C, P>(client: C, program: P, moved: &AtomicU64, linger: Duration)
where
    C: AsyncRead + AsyncWrite,
    P: AsyncRead + AsyncWrite,
{
    let (mut from_client, mut to_client) = split(client);
    let (mut from_program, mut to_program) = split(program);
    // How a direction ends is told to nobody: that it ends is passed on, and the other goes on.
    let inward = async {
        drop(copy(&mut from_client, &mut to_program).await);
        drop(to_program.shutdown().await);
    };
    let outward = async {
        drop(copy(&mut from_program, &mut to_client).await);
        drop(to_client.shutdown().await);
    };
    let (mut inward, mut outward) = (std::pin::pin!(inward), std::pin::pin!(outward));
    tokio::select! {
        () = &mut inward => while_moving(outward, moved, linger).await,
        () = &mut outward => while_moving(inward, moved, linger).await,
    }
}

async fn while_moving(mut rest: impl Future<Output = ()> + Unpin, moved: &AtomicU64, linger: Duration) {
    loop {
        let before = moved.load(Ordering::Relaxed);
        if timeout(linger, &mut rest).await.is_ok() || moved.load(Ordering::Relaxed) == before {
            return;
        }
    }
}
