//! Keys to the sandbox, output from it, until the program exits or its user has had enough.
//!
//! Three threads wait where only a thread can wait (the stream, the terminal, SIGWINCH) and tell the main one. A stream
//! that breaks is opened again where it broke off: the program goes on meanwhile, and nothing is shown twice.

use std::io::{self, Write};
use std::sync::mpsc::{self, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use api::PtyEvent;
use client::{Client, ClientError, PtyStream};
use pod_types::{PtyId, SandboxId};
use signal_hook::consts::SIGWINCH;
use signal_hook::iterator::Signals;

use super::keys::{DetachKeys, Typed};
use super::tty::Tty;
use crate::failure::Failure;

/// Pieces of output that wait to be shown; more wait in the host.
const WAITING_MAX: usize = 16;
/// Keys passed on at once.
const INPUT_BYTES: usize = 16 * 1024;
/// How long a stream that broke is tried again, and how often.
const RECONNECT_FOR: Duration = Duration::from_secs(20);
const RECONNECT_PAUSE: Duration = Duration::from_millis(300);

/// A terminal that is connected.
pub(super) struct Session {
    place: Place,
    stream: std::cell::RefCell<Option<PtyStream>>,
}

/// Where the terminal is.
#[derive(Clone)]
struct Place {
    client: Client,
    id: SandboxId,
    pty: PtyId,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    Exited(i32),
    Detached,
}

enum News {
    Output(Vec<u8>),
    Ended(Ended),
    Failed(Failure),
}

impl Session {
    pub(super) fn new(client: Client, id: SandboxId, pty: PtyId, stream: PtyStream) -> Self {
        Self {
            place: Place { client, id, pty },
            stream: std::cell::RefCell::new(Some(stream)),
        }
    }

    pub(super) fn pty(&self) -> PtyId {
        self.place.pty
    }

    pub(super) fn run(&self, tty: &Tty, keys: DetachKeys) -> Result<Ended, Failure> {
        let (tell, news) = mpsc::sync_channel(WAITING_MAX);
        self.start("output", tell.clone(), {
            let stream = self.stream.take();
            move |place, tell| follow(&place, stream, &tell)
        })?;
        self.start("keys", tell.clone(), {
            let (tty, keys) = (tty.share(), Typed::new(keys));
            move |place, tell| pass_keys(&place, &tty, keys, &tell)
        })?;
        let mut resizes = Signals::new([SIGWINCH])
            .map_err(|error| Failure::while_doing("signals", "cannot watch the window", &error))?;
        self.start("window", tell, {
            let tty = tty.share();
            move |place, _| {
                // At once, because whoever attaches has a window of another size than who left.
                send_size(&place, &tty);
                for _ in resizes.forever() {
                    send_size(&place, &tty);
                }
            }
        })?;
        let mut out = io::stdout().lock();
        for news in news {
            match news {
                News::Output(bytes) => {
                    out.write_all(&bytes)?;
                    out.flush()?;
                }
                News::Ended(ended) => return Ok(ended),
                News::Failed(failure) => return Err(failure),
            }
        }
        Err(Failure::new("terminal", "nobody watches the terminal any more"))
    }

    /// The threads end with the process: each waits for something that may never come.
    fn start(
        &self,
        name: &str,
        tell: SyncSender<News>,
        work: impl FnOnce(Place, SyncSender<News>) + Send + 'static,
    ) -> Result<(), Failure> {
        let place = self.place.clone();
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || work(place, tell))
            .map(drop)
            .map_err(|error| Failure::while_doing("threads", "cannot start a thread", &error))
    }
}

/// Tells of the output and of the end.
fn follow(place: &Place, stream: Option<PtyStream>, tell: &SyncSender<News>) {
    let (mut stream, mut next) = (stream, 0);
    let news = loop {
        let Some(events) = stream.as_mut() else {
            match reconnect(place, next) {
                Ok(again) => stream = Some(again),
                Err(error) => break News::Failed(error.into()),
            }
            continue;
        };
        match events.next() {
            Some(Ok(event @ PtyEvent::PtyData { seq, .. })) => {
                let bytes = event.bytes().unwrap_or_default();
                next = seq.saturating_add(bytes.len() as u64);
                if tell.send(News::Output(bytes)).is_err() {
                    return;
                }
            }
            Some(Ok(PtyEvent::PtyExit { data })) => break News::Ended(Ended::Exited(data)),
            Some(Ok(_)) => {}
            Some(Err(error @ ClientError::Refused(_))) => break News::Failed(error.into()),
            Some(Err(_)) | None => stream = None,
        }
    };
    let _ = tell.send(news);
}

fn reconnect(place: &Place, next: u64) -> Result<PtyStream, ClientError> {
    let begun = Instant::now();
    loop {
        match place.client.pty_attach(place.id, place.pty, next) {
            Err(ClientError::Unreachable { .. } | ClientError::Broken { .. })
                if begun.elapsed() < RECONNECT_FOR =>
            {
                thread::sleep(RECONNECT_PAUSE);
            }
            attached => return attached,
        }
    }
}

/// Passes on what is typed. Keys typed while earlier ones are on their way go together.
fn pass_keys(place: &Place, tty: &Tty, mut typed: Typed, tell: &SyncSender<News>) {
    let mut buffer = vec![0; INPUT_BYTES];
    loop {
        let (bytes, detached) = match tty.read(&mut buffer) {
            // The terminal is gone, and nobody is there to type.
            Ok(0) | Err(_) => (Vec::new(), true),
            Ok(count) => typed.take(&buffer[..count]),
        };
        if !bytes.is_empty()
            && let Err(error) = place.client.pty_input(place.id, place.pty, bytes)
            && error.code() != "pty_exited"
            && error.code() != "pty_not_reading"
        {
            // Where its program has exited the stream says so.
            let _ = tell.send(News::Failed(error.into()));
            return;
        }
        if detached {
            let _ = tell.send(News::Ended(Ended::Detached));
            return;
        }
    }
}

fn send_size(place: &Place, tty: &Tty) {
    if let Some(size) = tty.size() {
        // The next change is told again, and a program that has exited needs no size.
        let _ = place.client.pty_resize(place.id, place.pty, size);
    }
}
