//! The task that keeps a network process running and tells it what is wanted.
//!
//! ```text
//!  one is running? ─▶ it ─┐
//!  otherwise: start one ──┴─▶ Hello ─▶ tell, ask, count … ─▶ it died, or is of no use any more
//!       ▲                                                        │
//!       └──── pause, longer each time ◀── all wires are lost ◀── kill it, and see it dead
//! ```
//!
//! A process that cannot be talked to is never left running: what it was told last may not hold any more.

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pod_types::ErrorChain;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::link::{Link, LinkError, within};
use super::output::Output;
use super::program::{NetdFiles, NetdSpawner};
use super::question::Question;
use super::wires::Wires;
use crate::events;
use crate::metrics::Metrics;
use crate::vm::VmmProcess;

/// How long a process may take from its start until it answers.
const START_BOUND: Duration = Duration::from_secs(10);
/// How long one that was killed may take to be gone. It is killed again then.
const END_BOUND: Duration = Duration::from_secs(5);
/// How long one that closed its socket may take to exit.
const LAST_WORD_BOUND: Duration = Duration::from_millis(200);
/// After an end: doubles from the first to the last.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// A process that lived this long did not die of how it was started.
const SOUND_AFTER: Duration = Duration::from_secs(30);
/// How often what it says is read.
const OUTPUT: Duration = Duration::from_secs(1);

pub(super) struct Keeper {
    wires: Arc<Wires>,
    spawner: Arc<dyn NetdSpawner>,
    asked: mpsc::Receiver<Question>,
    files: NetdFiles,
    output: Output,
    metrics: Arc<Metrics>,
}

impl Keeper {
    pub(super) fn new(
        wires: Arc<Wires>,
        spawner: Arc<dyn NetdSpawner>,
        asked: mpsc::Receiver<Question>,
        files: NetdFiles,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            output: Output::new(files.output.clone()),
            wires,
            spawner,
            asked,
            files,
            metrics,
        }
    }

    /// Never ends.
    pub(super) async fn work(mut self) {
        let mut pause = PAUSE_MIN;
        let found = self.spawner.running(&self.files);
        let mut found =
            found.inspect(|_| tracing::info!("the network process of the daemon before this one goes on"));
        loop {
            let began = Instant::now();
            let why = match self.process(found.take()) {
                Ok(mut process) => {
                    let why = self.serve(&mut *process).await;
                    self.wires.disconnected();
                    end(&mut *process).await;
                    why
                }
                Err(error) => format!("it cannot be started: {error}"),
            };
            self.wires.dead();
            self.output.forward();
            self.metrics.network.ended();
            if began.elapsed() >= SOUND_AFTER {
                pause = PAUSE_MIN;
            }
            tracing::error!(
                event = events::NETD_ENDED,
                why,
                milliseconds = pause.as_millis(),
                "the network process is gone, and sandboxes reach nothing; it is started again"
            );
            self.refuse_for(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    fn process(&self, found: Option<Box<dyn VmmProcess>>) -> std::io::Result<Box<dyn VmmProcess>> {
        if let Some(process) = found {
            return Ok(process);
        }
        match std::fs::remove_file(&self.files.socket) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        self.spawner.spawn(&self.files)
    }

    /// Works with one process until it is of no use any more, and says why.
    async fn serve(&mut self, process: &mut dyn VmmProcess) -> String {
        let talking = talk(
            (&self.files.socket, process.name().pid),
            &self.wires,
            &mut self.asked,
            &self.metrics,
        );
        let error = tokio::select! {
            error = talking => error,
            how = process.exited() => return format!("it {how}"),
            never = forward(&mut self.output) => match never {},
        };
        // How a process exits that closes its socket says more.
        match timeout(LAST_WORD_BOUND, process.exited()).await {
            Ok(how) => format!("it {how}"),
            Err(_) => ErrorChain(&error).to_string(),
        }
    }

    /// Tells whoever asks meanwhile that nobody answers.
    async fn refuse_for(&mut self, pause: Duration) {
        let over = sleep(pause);
        tokio::pin!(over);
        loop {
            tokio::select! {
                () = &mut over => return,
                question = self.asked.recv() => if question.is_none() {
                    return over.await;
                },
            }
        }
    }
}

/// From the first connection to the last word.
async fn talk(
    (socket, pid): (&Path, u32),
    wires: &Wires,
    asked: &mut mpsc::Receiver<Question>,
    metrics: &Metrics,
) -> LinkError {
    let (link, theirs) = match within(START_BOUND, Link::open(socket)).await {
        Ok(opened) => opened,
        Err(error) => return error,
    };
    wires.connected(&theirs);
    tracing::info!(
        event = events::NETD_READY,
        pid,
        wires = theirs.len(),
        "the network process is ready"
    );
    link.work(wires, asked, metrics).await
}

async fn forward(output: &mut Output) -> Infallible {
    let mut look = interval(OUTPUT);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        output.forward();
    }
}

/// Ends a process, however long it takes: nothing else may be done while it could still serve.
async fn end(process: &mut dyn VmmProcess) {
    loop {
        process.kill();
        if timeout(END_BOUND, process.exited()).await.is_ok() {
            return;
        }
        let pid = process.name().pid;
        tracing::error!(pid, "the network process was killed and does not exit");
    }
}
