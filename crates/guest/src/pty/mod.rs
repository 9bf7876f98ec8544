//! Terminals: programs on pseudo-terminals that outlive the connections they are used over.
//!
//! A [session](session::Session) belongs to the agent, so it is part of the machine: a clone has its own copy of it, in
//! which the program goes on as in the original, and a host attaches to it anew. Followers are [served](serve) by the
//! threads of their connections. A machine without a session pays for none of this: the table is empty and no
//! thread waits.

mod pump;
mod ring;
mod serve;
mod session;
mod spawn;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;

use agent_proto::{
    FailureCode, PTY_LABEL_MAX, PTY_SIDE_MAX, PtyCreate, PtyName, PtyProgram, PtySession, PtySize,
};
use thiserror::Error;

use crate::children::Children;
use crate::processes::Tick;
use crate::services::Config;
use session::{Parts, Session};
use spawn::SpawnError;

/// Programs that run at once. Each has a thread, and up to 1 MiB of output kept.
const RUNNING_MAX: usize = 32;
/// Sessions that are kept after their end; the one that ended first is forgotten first.
const EXITED_MAX: usize = 32;
/// Deep enough for a thread that moves bytes.
const STACK_BYTES: usize = 128 * 1024;

/// All sessions, in the order they were created.
#[derive(Debug, Default)]
pub(crate) struct Terminals {
    sessions: Mutex<Vec<Arc<Session>>>,
}

/// Why a session is not created.
#[derive(Debug, Error)]
enum CreateError {
    #[error("{RUNNING_MAX} terminals run in this sandbox already; kill one, or wait for one to exit")]
    TooMany,
    #[error("a terminal of this name exists already")]
    NameTaken,
    #[error("{field}: expected a whole number between 1 and {PTY_SIDE_MAX}, got {got}")]
    Size { field: &'static str, got: u16 },
    #[error("the terminal does not start")]
    Spawn(#[source] SpawnError),
    #[error("no thread can be started for the terminal")]
    Thread(#[source] io::Error),
}

impl Terminals {
    /// Returns once the program has been executed.
    fn create(
        &self,
        children: &Arc<Children>,
        config: &Config,
        create: PtyCreate,
    ) -> Result<(), CreateError> {
        check(create.size)?;
        // Held over the start of the program, so that the bound holds; everybody else can wait for that.
        let mut sessions = self.lock();
        forget_oldest(&mut sessions);
        if sessions.iter().any(|session| session.name == create.name) {
            return Err(CreateError::NameTaken);
        }
        if sessions.iter().filter(|session| session.exit().is_none()).count() >= RUNNING_MAX {
            return Err(CreateError::TooMany);
        }
        let (tell, told) = mpsc::sync_channel(1);
        let (children, config) = (Arc::clone(children), config.clone());
        let thread = thread::Builder::new()
            .name("pty".to_owned())
            .stack_size(STACK_BYTES);
        let serve = move || match begin(&children, &config, &create) {
            Ok((session, slave)) => {
                if tell.send(Ok(Arc::clone(&session))).is_ok() {
                    pump::pump(&session, slave);
                }
            }
            // The one who asked waits for this, so it is there to be told.
            Err(error) => drop(tell.send(Err(error))),
        };
        thread.spawn(serve).map_err(CreateError::Thread)?;
        let began = told
            .recv()
            .map_err(|error| CreateError::Thread(io::Error::other(error)))?;
        sessions.push(began.map_err(CreateError::Spawn)?);
        Ok(())
    }

    fn list(&self) -> Vec<PtySession> {
        let mut sessions = self.lock();
        forget_oldest(&mut sessions);
        sessions.iter().map(|session| session.describe()).collect()
    }

    fn find(&self, name: PtyName) -> Option<Arc<Session>> {
        self.lock().iter().find(|session| session.name == name).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Session>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CreateError {
    fn code(&self) -> FailureCode {
        match self {
            Self::TooMany => FailureCode::Busy,
            Self::NameTaken | Self::Size { .. } => FailureCode::BadRequest,
            Self::Spawn(SpawnError::Terminal(_) | SpawnError::Thread(_)) | Self::Thread(_) => {
                FailureCode::Internal
            }
            Self::Spawn(_) => FailureCode::BadRequest,
        }
    }
}

fn check(size: PtySize) -> Result<(), CreateError> {
    for (field, got) in [("cols", size.columns), ("rows", size.rows)] {
        if !(1..=PTY_SIDE_MAX).contains(&got) {
            return Err(CreateError::Size { field, got });
        }
    }
    Ok(())
}

/// Runs on the session's own thread, which has a working directory of its own.
fn begin(
    children: &Arc<Children>,
    config: &Config,
    create: &PtyCreate,
) -> Result<(Arc<Session>, std::os::fd::OwnedFd), SpawnError> {
    spawn::unshare_directory()?;
    let started = Tick::now();
    let spawned = spawn::spawn(children, config, create)?;
    let parts = Parts {
        name: create.name,
        label: label(&create.program),
        created_at_ms: create.created_at_ms,
        child: spawned.child,
        started,
        master: spawned.master,
    };
    let session = Session::new(parts).map_err(SpawnError::Terminal)?;
    Ok((session, spawned.slave))
}

fn forget_oldest(sessions: &mut Vec<Arc<Session>>) {
    let mut exits: Vec<_> = sessions
        .iter()
        .filter_map(|session| Some((session.exit()?.at, session.name)))
        .collect();
    exits.sort_by_key(|(at, _)| *at);
    exits.truncate(exits.len().saturating_sub(EXITED_MAX));
    sessions.retain(|session| !exits.iter().any(|(_, name)| *name == session.name));
}

/// What runs, in at most so many bytes.
fn label(program: &PtyProgram) -> String {
    let mut label = match program {
        PtyProgram::Shell(command) => command.clone(),
        PtyProgram::Arguments(arguments) => arguments.join(" "),
    };
    if label.len() > PTY_LABEL_MAX {
        let end = (0..=PTY_LABEL_MAX).rev().find(|end| label.is_char_boundary(*end));
        label.truncate(end.unwrap_or(0));
    }
    label
}
