//! The network of sandboxes: each VM has a *wire* to the network process, `podflare-netd`, which serves all of them.
//!
//! ```text
//!  VM process ──frames── socket pair ──frames── podflare-netd ── ordinary sockets ──▶ the world
//!      ▲ its end: with the clone, or by `Wire`        ▲ the other end: by `Attach`
//!      └──────────────────── this daemon ─────────────┘ control socket (net-proto)
//! ```
//!
//! **What is wanted** is in memory ([`Wires`]): which wires there are, and what each may reach. Whoever changes that does
//! not wait. One [task](keeper) starts the network process, tells it what it does not know yet, and begins anew
//! when it dies: then all it had is *lost*, and whoever has a VM gives it a new wire.
//!
//! **It fails closed.** A wire that is not attached leads nowhere; one that is attached without a policy reaches nothing; and
//! when the network process cannot be told what holds from now on, it is killed, with all its connections. Sandboxes go on
//! without a network meanwhile.
//!
//! **A daemon that comes after this one** finds the network process running, and its wires by the numbers that are in
//! the records of sandboxes: connections go on. The others are detached once all sandboxes are taken over.

mod charge;
mod entry;
mod errand;
mod keeper;
mod link;
mod output;
mod pair;
mod program;
mod question;
mod wire;
mod wires;

#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

pub use program::{NetdFiles, NetdProgram, NetdSettings, NetdSpawner};

pub(crate) use question::{NetworkDown, Questions};
pub(crate) use wire::{InForce, Wire, WireLink};
pub(crate) use wires::Wires;

use crate::host::Background;
use crate::metrics::Metrics;
use keeper::Keeper;

/// How long the network process may take to be gone at the end.
const END_BOUND: Duration = Duration::from_secs(5);

/// The network as the host has it.
#[derive(Clone, Debug)]
pub(crate) struct Network {
    pub(crate) wires: Arc<Wires>,
    pub(crate) questions: Questions,
    spawner: Option<Arc<dyn NetdSpawner>>,
    files: NetdFiles,
}

impl Network {
    /// Begins to serve `wires`. Nothing is waited for. Without a spawner, or with one whose process is not wanted, there
    /// is no network process, and no wire ever leads anywhere.
    pub(crate) fn open(
        wires: Arc<Wires>,
        spawner: Option<Arc<dyn NetdSpawner>>,
        dir: &Path,
        metrics: &Arc<Metrics>,
        background: &Background,
    ) -> Self {
        let (questions, asked) = Questions::new();
        let files = NetdFiles::under(dir);
        let (spawner, unwanted) = match spawner {
            Some(spawner) if !spawner.is_wanted() => (None, Some(spawner)),
            spawner => (spawner, None),
        };
        // An earlier daemon has left it, and none of its connections may go on.
        if let Some(mut left) = unwanted.and_then(|unwanted| unwanted.running(&files)) {
            left.kill();
        }
        if let Some(spawner) = spawner.clone() {
            let keeper = Keeper::new(
                Arc::clone(&wires),
                spawner,
                asked,
                files.clone(),
                Arc::clone(metrics),
            );
            background.spawn(keeper.work());
        } else {
            wires.have_nobody();
        }
        Self {
            wires,
            questions,
            spawner,
            files,
        }
    }

    /// Ends the network process, for good. To be called when its keeper has stopped and no VM needs it.
    pub(crate) async fn end(&self) {
        let running = self
            .spawner
            .as_ref()
            .and_then(|spawner| spawner.running(&self.files));
        if let Some(mut process) = running {
            process.kill();
            if timeout(END_BOUND, process.exited()).await.is_err() {
                tracing::error!("the network process was killed and does not exit");
            }
        }
    }
}
