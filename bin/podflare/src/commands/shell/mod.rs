//! `podflare shell`: somebody's terminal, connected to one in a sandbox.

mod keys;
mod list;
mod session;
mod tty;

use std::sync::{Arc, Mutex, PoisonError};

use api::{CreateRequest, PtyCreateRequest, PtyProgram};
use client::Client;
use pod_types::{PtyId, SandboxId};

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use keys::DetachKeys;
use session::{Ended, Session};
use tty::{RawMode, Tty};

const EXAMPLES: &str = "\
Examples:
  podflare shell                        a shell in a fresh sandbox that is removed at the end
  podflare shell ID                     a shell in a sandbox
  podflare shell ID -- python3 -i       another program instead of the shell
  podflare shell ID --list              terminals of a sandbox, those that have exited among them
  podflare shell ID --attach PTY        go on with one of them

ctrl-p ctrl-q detaches: the program goes on, and --attach finds it again, here or on another machine.
The exit code is that of the program; 125 means that Podflare could not connect it.";

/// Open a terminal in a sandbox
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The sandbox; a fresh one without it
    #[arg(value_name = "ID")]
    id: Option<SandboxId>,

    /// Program to run instead of a login shell, and its arguments
    #[arg(last = true, value_name = "PROGRAM")]
    program: Vec<String>,

    /// Go on with a terminal that exists
    #[arg(long, value_name = "PTY", requires = "id", conflicts_with = "program")]
    attach: Option<PtyId>,

    /// List the sandbox's terminals instead
    #[arg(long, requires = "id", conflicts_with_all = ["attach", "program"])]
    list: bool,

    /// Do not remove the fresh sandbox at the end
    #[arg(long, conflicts_with = "id")]
    keep: bool,

    /// Keys that detach, e.g. `ctrl-a,d`; `none` for none
    #[arg(
        long,
        value_name = "KEYS",
        default_value = "ctrl-p,ctrl-q",
        env = "PODFLARE_DETACH_KEYS",
        hide_env = true
    )]
    detach_keys: DetachKeys,

    #[command(flatten)]
    shape: super::sandbox::ShapeArgs,
}

/// A fresh sandbox that is to be removed when all is over.
type Fresh = Arc<Mutex<Option<SandboxId>>>;

pub(crate) fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let client = context.client()?;
    if args.list {
        // clap requires the id with it.
        let id = args
            .id
            .ok_or_else(|| Failure::usage("--list needs the id of a sandbox"))?;
        return list::run(context, &client, id);
    }
    let tty = Tty::of_stdin().ok_or_else(|| {
        Failure::new(
            "not_a_terminal",
            "`podflare shell` connects a terminal, and standard input is none",
        )
        .hint("for programs there are `podflare run` and `podflare sandbox exec`")
    })?;
    let fresh = Fresh::default();
    let raw = RawMode::prepare(&tty)?;
    let armed = context.interrupts.on_interrupt({
        let (fresh, remover, restorer) = (Arc::clone(&fresh), client.clone(), raw.restorer());
        move || {
            restorer.restore();
            remove(&fresh, &remover);
        }
    });
    let id = match args.id {
        Some(id) => id,
        None => {
            let id = create(context, &client, args.shape.request())?;
            if !args.keep {
                *fresh.lock().unwrap_or_else(PoisonError::into_inner) = Some(id);
            }
            id
        }
    };
    let outcome = connect(&client, id, args.attach, args.program, &tty).and_then(|session| {
        let raw = raw.begin()?;
        let ended = session.run(&tty, args.detach_keys);
        drop(raw);
        Ok((session.pty(), ended?))
    });
    drop(armed);
    let exit = match outcome {
        Ok((_, Ended::Exited(code))) => Ok(Exit::of_run(code.into())),
        Ok((pty, Ended::Detached)) => {
            // What goes on needs its sandbox.
            fresh.lock().unwrap_or_else(PoisonError::into_inner).take();
            let note = format!("detached; go on with `podflare shell {id} --attach {pty}`");
            context.printer.note(&note);
            Ok(Exit::Ok)
        }
        Err(failure) => Err(failure),
    };
    remove(&fresh, &client);
    if args.keep {
        let note = format!("kept {id}; remove it with `podflare sandbox rm {id}`");
        context.printer.note(&note);
    }
    exit
}

fn create(context: &Context, client: &Client, request: CreateRequest) -> Result<SandboxId, Failure> {
    let id = client.create(&request)?.id;
    context.printer.hint(&format!("sandbox {id}"));
    Ok(id)
}

fn connect(
    client: &Client,
    id: SandboxId,
    attach: Option<PtyId>,
    program: Vec<String>,
    tty: &Tty,
) -> Result<Session, Failure> {
    let client = client.clone();
    if let Some(pty) = attach {
        let stream = client.pty_attach(id, pty, 0)?;
        return Ok(Session::new(client, id, pty, stream));
    }
    let program = if program.is_empty() {
        vec!["/bin/bash".to_owned(), "-l".to_owned()]
    } else {
        program
    };
    let mut request = PtyCreateRequest::new(PtyProgram::Arguments(program));
    if let Some(size) = tty.size() {
        (request.cols, request.rows) = (size.cols, size.rows);
    }
    let (pty, stream) = client.pty_create(id, &request)?;
    Ok(Session::new(client, id, pty, stream))
}

/// The sandbox's own limits remove what cannot be removed now.
fn remove(fresh: &Fresh, client: &Client) {
    let id = fresh.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(id) = id {
        let _ = client.delete(id);
    }
}
