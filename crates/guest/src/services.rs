//! The services of one agent: what a connection can ask for.

use std::io;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use agent_proto::{
    ExecRequest, Failure, FailureCode, Identity, Language, Reply, Request, TRACEPARENT_BYTES_MAX,
};
use pod_types::ErrorChain;
use thiserror::Error;

use crate::bash::{Bash, Spares};
use crate::carried::{Carried, Follower, Unfollowed, follow};
use crate::children::{Children, Ended, Reaping};
use crate::connection::{Connection, ConnectionError, Stream};
use crate::disk_room::DiskRoom;
use crate::drain::Drain;
use crate::files;
use crate::identity::{IdentityError, System, validate, wall_clock_ns};
use crate::ports;
use crate::pty::Terminals;
use crate::queue::{Queue, QueueError};
use crate::repl::{Repl, ReplError};
use crate::run::{Limits, pump};
use crate::write_back::WriteBack;

/// How long the first REPL may take, imports included; Python's own bound is shorter.
const READY_WAIT: Duration = Duration::from_secs(270);

/// How long a template's first bash in stock is waited for.
const SPARE_WAIT: Duration = Duration::from_secs(30);

/// Where user code runs.
#[derive(Clone, Debug)]
pub struct Config {
    pub python: PathBuf,
    pub bash: PathBuf,
    /// Working directory at the start of the REPL and of every bash run.
    pub home: PathBuf,
    /// The whole environment.
    pub environment: Vec<(String, String)>,
    /// Loaded into the REPL before it is ready, each as it would follow `import`; a name is bound only with `as`.
    pub imports: Vec<String>,
    /// Python statements run after that, which leave no names.
    pub warm_up: Vec<String>,
}

/// Why the agent cannot begin to work.
#[derive(Debug, Error)]
pub enum StartError {
    #[error("cannot start the agent's threads")]
    Threads(#[source] io::Error),
    #[error("the REPL is not ready")]
    Repl(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Python, bash and identity, for any number of connections.
#[derive(Debug)]
pub struct Services {
    config: Config,
    system: Box<dyn System>,
    children: Arc<Children>,
    drain: Arc<Drain>,
    repl: Arc<Repl>,
    spares: Arc<Spares>,
    queue: Queue,
    carried: Arc<Carried>,
    terminals: Terminals,
    room: DiskRoom,
    /// Set when the host has asked for the end.
    power_off: Mutex<bool>,
    power_off_asked: Condvar,
}

impl Config {
    /// What a guest's root user has.
    #[must_use]
    pub fn guest() -> Self {
        let environment = [
            ("HOME", "/root"),
            ("USER", "root"),
            ("LOGNAME", "root"),
            ("SHELL", "/bin/bash"),
            (
                "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            ),
            ("LANG", "C.UTF-8"),
        ];
        Self {
            python: "/usr/bin/python3".into(),
            bash: "/bin/bash".into(),
            home: "/root".into(),
            environment: environment
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            imports: Vec::new(),
            warm_up: Vec::new(),
        }
    }

    /// A command in the user's environment.
    pub(crate) fn command(&self, program: &PathBuf) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(&self.home);
        command
    }
}

impl Services {
    /// Starts everything and returns when the REPL is warm.
    ///
    /// # Errors
    /// When Python cannot be started, or does not answer a first run.
    pub fn start(config: Config, system: impl System, reaping: Reaping) -> Result<Arc<Self>, StartError> {
        let children = Children::new(reaping).map_err(StartError::Threads)?;
        let services = Arc::new(Self {
            drain: Drain::start().map_err(StartError::Threads)?,
            repl: Repl::supervise(Arc::clone(&children), config.clone()).map_err(StartError::Threads)?,
            spares: Spares::supervise(Arc::clone(&children), config.clone()).map_err(StartError::Threads)?,
            queue: Queue::new(),
            carried: Arc::default(),
            terminals: Terminals::default(),
            room: DiskRoom::default(),
            config,
            system: Box::new(system),
            children,
            power_off: Mutex::new(false),
            power_off_asked: Condvar::new(),
        });
        let ready = services.repl.wait_until_ready(READY_WAIT);
        if let Err(error) = ready {
            services.stop();
            return Err(StartError::Repl(error.into()));
        }
        Ok(services)
    }

    /// Waits until the host asks for the end.
    pub fn wait_for_power_off(&self) {
        let mut asked = self.power_off.lock().unwrap_or_else(PoisonError::into_inner);
        while !*asked {
            asked = self
                .power_off_asked
                .wait(asked)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Runs a command of the agent's own and waits for it.
    ///
    /// # Errors
    /// When it cannot be started, or fails.
    pub(crate) fn run_to_end(&self, command: &mut Command) -> io::Result<()> {
        match self.children.spawn(command)?.wait() {
            Ended::Exited(0) => Ok(()),
            ended => Err(io::Error::other(ended.to_string())),
        }
    }

    /// Runs in line, the one in progress among them.
    #[must_use]
    pub fn runs(&self) -> usize {
        self.queue.len()
    }

    /// Waits until a bash is in stock, as every clone of a template should find it.
    #[must_use]
    pub fn wait_for_spare_bash(&self) -> bool {
        self.spares.wait_until_ready(SPARE_WAIT)
    }

    /// Ends the REPL and the bash in stock.
    pub fn stop(&self) {
        self.repl.stop();
        self.spares.stop();
    }

    /// Carries out one request, to its last reply.
    pub(crate) fn handle<S: Stream>(
        &self,
        connection: &mut Connection<S>,
        request: Request,
    ) -> Result<(), ConnectionError> {
        match request {
            Request::Hello { .. } => {
                connection.reply(&failed(FailureCode::BadRequest, "hello again".to_owned()))
            }
            Request::Ping => connection.reply(&Reply::Done),
            Request::Identify(identity) => connection.reply(&self.identify(&identity)),
            Request::Clock { forward_ns } => connection.reply(&self.move_clock(forward_ns)),
            Request::Exec(exec) => self.exec(connection, &exec),
            Request::Follow => {
                let followed = self.carried.follow();
                self.follow(connection, followed, |follower| {
                    Reply::Carried(follower.beginning())
                })
            }
            Request::Resume(known) => {
                let followed = self.carried.resume(&known);
                self.follow(connection, followed, |follower| {
                    Reply::Resumed(follower.resumed())
                })
            }
            // The run had just ended.
            Request::Cancel => Ok(()),
            Request::Inventory(inventory) => files::inventory(connection, &inventory),
            Request::Digests { paths } => files::digests(connection, &paths),
            Request::Room { leave_bytes } => {
                let when = match leave_bytes {
                    u64::MAX => WriteBack::Late,
                    _ => WriteBack::Soon,
                };
                // Without it the host learns later how much there is.
                let _ = self.system.write_back(when);
                connection.reply(&self.room.leave(&self.config.home, leave_bytes))
            }
            Request::Pty(request) => self
                .terminals
                .handle(&self.children, &self.config, connection, request),
            Request::File(request) => files::answer(connection, request),
            Request::Port(request) => ports::answer(connection, request),
            Request::PowerOff => {
                let replied = connection.reply(&Reply::Done);
                *self.power_off.lock().unwrap_or_else(PoisonError::into_inner) = true;
                self.power_off_asked.notify_all();
                replied
            }
        }
    }

    pub(crate) fn number_runs_from_one(&self) {
        self.repl.number_from_one();
    }

    pub(crate) fn carried(&self) -> Arc<Carried> {
        Arc::clone(&self.carried)
    }

    fn identify(&self, identity: &Identity) -> Reply {
        let bad_request = |error: IdentityError| failed(FailureCode::BadRequest, error.to_string());
        if let Err(error) = validate(identity) {
            return bad_request(error);
        }
        if let Err(error) = self.system.assume(identity) {
            return failed(FailureCode::Internal, ErrorChain(&error).to_string());
        }
        match self.repl.reseed() {
            Ok(()) => the_time(),
            Err(error) => failed(FailureCode::Internal, ErrorChain(&error).to_string()),
        }
    }

    fn move_clock(&self, forward_ns: i64) -> Reply {
        // Not to touch a clock that is only asked saves a fresh clone some pages.
        let moved = if forward_ns == 0 {
            Ok(())
        } else {
            self.system.move_clock(forward_ns)
        };
        match moved {
            Ok(()) => the_time(),
            Err(error) => failed(FailureCode::Internal, ErrorChain(&error).to_string()),
        }
    }

    fn exec<S: Stream>(
        &self,
        connection: &mut Connection<S>,
        exec: &ExecRequest,
    ) -> Result<(), ConnectionError> {
        if connection.has_surplus() {
            return Err(ConnectionError::Closed);
        }
        if !exec.traceparent.as_deref().is_none_or(is_traceparent) {
            let message = "traceparent: expected at most 55 digits and hyphens".to_owned();
            return connection.reply(&failed(FailureCode::BadRequest, message));
        }
        let turn = match self.queue.turn(connection) {
            Ok(turn) => turn,
            Err(QueueError::Gone) => return Err(ConnectionError::Closed),
            Err(error @ QueueError::Full) => {
                return connection.reply(&failed(FailureCode::Busy, error.to_string()));
            }
            Err(error @ QueueError::Io(_)) => {
                return connection.reply(&failed(FailureCode::Internal, ErrorChain(&error).to_string()));
            }
        };
        connection.begin_run(exec.run);
        let ran = match exec.language {
            Language::Python => self.python(connection, exec),
            Language::Bash => self.bash(connection, exec),
        };
        // The next run need not wait until this one's host has taken the rest of the output.
        drop(turn);
        let ended = ran.and_then(|()| connection.flush());
        connection.end_run(ended.is_ok());
        ended
    }

    fn follow<S: Stream>(
        &self,
        connection: &mut Connection<S>,
        followed: Result<Follower, Unfollowed>,
        first: impl FnOnce(&Follower) -> Reply,
    ) -> Result<(), ConnectionError> {
        match followed {
            Ok(follower) => {
                let first = first(&follower);
                follow(connection, follower, &first)
            }
            Err(Unfollowed::None) => {
                let message = "there is no run to go on with".to_owned();
                connection.reply(&failed(FailureCode::NotFound, message))
            }
            Err(Unfollowed::Busy) => {
                let message = "another connection follows the run already".to_owned();
                connection.reply(&failed(FailureCode::Busy, message))
            }
        }
    }

    fn python<S: Stream>(
        &self,
        connection: &mut Connection<S>,
        exec: &ExecRequest,
    ) -> Result<(), ConnectionError> {
        match self.repl.start(&exec.code, exec.traceparent.as_deref()) {
            Ok((mut run, output)) => {
                let ran = pump(connection, output, &mut run, Limits::of(exec), &self.drain);
                self.repl.prepare();
                ran
            }
            Err(error @ ReplError::DoesNotStart(_)) => {
                connection.push(&failed(FailureCode::Internal, error.to_string()))
            }
            Err(error) => connection.push(&failed(FailureCode::Internal, ErrorChain(&error).to_string())),
        }
    }

    fn bash<S: Stream>(
        &self,
        connection: &mut Connection<S>,
        exec: &ExecRequest,
    ) -> Result<(), ConnectionError> {
        if exec.code.contains('\0') {
            let message = "bash code cannot contain NUL characters".to_owned();
            return connection.push(&failed(FailureCode::BadRequest, message));
        }
        match Bash::start(&self.children, &self.config, &self.spares, exec) {
            Ok((mut bash, output)) => {
                let ran = pump(connection, output, &mut bash, Limits::of(exec), &self.drain);
                self.spares.prepare();
                ran
            }
            Err(error) => {
                let message = format!("cannot start bash: {error}");
                connection.push(&failed(FailureCode::Internal, message))
            }
        }
    }
}

/// Whether it can stand in an environment and on a line of its own.
fn is_traceparent(text: &str) -> bool {
    text.len() <= TRACEPARENT_BYTES_MAX
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

impl Limits {
    fn of(exec: &ExecRequest) -> Self {
        Self {
            timeout_ms: exec.timeout_ms,
        }
    }
}

/// Taken as late as can be: what it takes to send it is all that is unknown of it.
fn the_time() -> Reply {
    Reply::Time {
        wall_clock_ns: wall_clock_ns(),
    }
}

pub(crate) fn failed(code: FailureCode, message: String) -> Reply {
    Reply::Failed(Failure { code, message })
}
