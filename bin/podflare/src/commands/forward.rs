//! `podflare forward`: ports of a sandbox on ports of this machine.
//!
//! One thread for each port accepts, two for each connection copy. All of it ends with the process: at Ctrl-C, or when the
//! sandbox is gone.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use client::{Client, ClientError};
use pod_types::SandboxId;
use serde::Serialize;

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Paint, Printer, Show};

const EXAMPLES: &str = "\
Examples:
  podflare forward ID 8080              port 8080 of the sandbox at 127.0.0.1:8080
  podflare forward ID 8080:9090 5432    8080 at 127.0.0.1:9090, and 5432 at 127.0.0.1:5432
  podflare forward ID 8080:0            8080 at any port that is free here

Any protocol over TCP will do. It works without a network in the sandbox. Ctrl-C ends it. A URL for a
browser, without anything running here: podflare sandbox share ID 8080.";

/// Connections at once; a sandbox itself takes 64.
const CONNECTIONS_MAX: usize = 256;
/// After an accept that failed, mostly for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const STACK_BYTES: usize = 128 * 1024;

/// Reach ports of a sandbox on this machine
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The sandbox
    #[arg(value_name = "ID")]
    id: SandboxId,

    /// Ports of the sandbox, each with the one here if that is another; 0 for any that is free
    #[arg(value_name = "PORT[:LOCAL]", required = true, value_parser = parse)]
    ports: Vec<Pair>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pair {
    port: u16,
    local: u16,
}

/// What is forwarded.
#[derive(Serialize)]
struct Forwards {
    id: SandboxId,
    forwards: Vec<Forward>,
}

#[derive(Serialize)]
struct Forward {
    port: u16,
    local: u16,
}

/// Shared by all threads.
struct Works {
    client: Client,
    id: SandboxId,
    printer: Printer,
    connections: AtomicUsize,
    /// What went wrong last, which is said once.
    said: Mutex<String>,
    /// Ends the command.
    over: SyncSender<Failure>,
}

pub(crate) fn run(context: &Context, args: &Args) -> Result<Exit, Failure> {
    let client = context.client()?;
    // A sandbox that is not there is told before anything connects.
    client.get(args.id)?;
    let listeners = args.ports.iter().map(listen).collect::<Result<Vec<_>, _>>()?;
    let forwards = listeners.iter().map(|(port, listener)| {
        let local = listener.local_addr()?.port();
        Ok(Forward { port: *port, local })
    });
    context.printer.show(&Forwards {
        id: args.id,
        forwards: forwards.collect::<io::Result<_>>()?,
    })?;
    let (over, end) = mpsc::sync_channel(1);
    let works = Arc::new(Works {
        client,
        id: args.id,
        printer: context.printer,
        connections: AtomicUsize::new(0),
        said: Mutex::default(),
        over,
    });
    for (port, listener) in listeners {
        let works = Arc::clone(&works);
        start("listener", move || accept(&works, port, &listener))
            .map_err(|error| Failure::while_doing("threads", "cannot start a thread", &error))?;
    }
    // Until the sandbox is gone, or a signal ends the process.
    match end.recv() {
        Ok(failure) => Err(failure),
        Err(_) => Ok(Exit::Ok),
    }
}

fn parse(text: &str) -> Result<Pair, String> {
    let (port, local) = text.split_once(':').unwrap_or((text, text));
    match (port.parse(), local.parse()) {
        (Ok(port @ 1..), Ok(local)) => Ok(Pair { port, local }),
        _ => Err("expected a port from 1 to 65535, and after a colon the one on this machine".to_owned()),
    }
}

fn listen(pair: &Pair) -> Result<(u16, TcpListener), Failure> {
    let Pair { port, local } = *pair;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, local)).map_err(|error| {
        let failure = Failure::while_doing("listen", &format!("cannot listen on 127.0.0.1:{local}"), &error);
        match error.kind() {
            ErrorKind::AddrInUse | ErrorKind::PermissionDenied => failure.hint(format!(
                "take another port here, e.g. {port}:0 for any that is free"
            )),
            _ => failure,
        }
    })?;
    Ok((port, listener))
}

fn accept(works: &Arc<Works>, port: u16, listener: &TcpListener) {
    loop {
        let Ok((local, _)) = listener.accept() else {
            thread::sleep(ACCEPT_PAUSE);
            continue;
        };
        if works.connections.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS_MAX {
            works.connections.fetch_sub(1, Ordering::Relaxed);
            works.say(&format!(
                "{CONNECTIONS_MAX} connections are open, and no more are taken"
            ));
            continue;
        }
        let serving = Arc::clone(works);
        let started = start("connection", move || {
            serving.serve(port, &local);
            serving.connections.fetch_sub(1, Ordering::Relaxed);
        });
        if started.is_err() {
            works.connections.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Works {
    fn serve(&self, port: u16, local: &TcpStream) {
        match self.client.tunnel(self.id, port) {
            Ok(tunnel) => join(local, &tunnel),
            Err(error @ ClientError::Refused(_)) if error.is_not_found() => {
                // Somebody else may have said so already.
                let _ = self.over.try_send(error.into());
            }
            Err(error) => self.say(Failure::from(error).text()),
        }
    }

    /// Says what went wrong, unless that was the last thing said: a page asks again and again.
    fn say(&self, text: &str) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if *said != text {
            self.printer.warn(text);
            text.clone_into(&mut said);
        }
    }
}

/// Each direction ends on its own.
fn join(local: &TcpStream, tunnel: &TcpStream) {
    let _ = local.set_nodelay(true);
    thread::scope(|scope| {
        let inward = thread::Builder::new()
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, || copy(local, tunnel));
        if inward.is_ok() {
            copy(tunnel, local);
        }
    });
}

fn copy(mut from: &TcpStream, mut to: &TcpStream) {
    match io::copy(&mut from, &mut to) {
        // What is shut down already is as it should be.
        Ok(_) => drop(to.shutdown(Shutdown::Write)),
        Err(_) => {
            drop(from.shutdown(Shutdown::Both));
            drop(to.shutdown(Shutdown::Both));
        }
    }
}

fn start(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new()
        .name(name.to_owned())
        .stack_size(STACK_BYTES)
        .spawn(work)
        .map(drop)
}

impl Show for Forwards {
    fn words(&self, _: Paint) -> String {
        let line = |Forward { port, local }: &Forward| {
            format!("127.0.0.1:{local} leads to port {port} of {}", self.id)
        };
        self.forwards.iter().map(line).collect::<Vec<_>>().join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_the_same_here_unless_another_is_given() {
        assert_eq!(
            parse("8080"),
            Ok(Pair {
                port: 8080,
                local: 8080
            })
        );
        assert_eq!(
            parse("8080:9090"),
            Ok(Pair {
                port: 8080,
                local: 9090
            })
        );
        assert_eq!(parse("80:0"), Ok(Pair { port: 80, local: 0 }));
        for wrong in ["", "0", "x", "80:", ":80", "80:x", "65536", "80:90:1", "-1"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
