//! The agent as PID 1: boots the machine, serves over vsock, and turns the machine off.
//!
//! PID 1 must not return: the kernel panics when it does. Whatever goes wrong is said on the console, and the
//! machine turned off, which its monitor reports.

use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use agent_proto::{AGENT_PORT, READY_PORT};
use guest::{Config, Guest, IdentityError, Reaping, Services, StartError, announce, init};
use pod_types::ErrorChain;
use thiserror::Error;
use vsock::{VMADDR_CID_ANY, VMADDR_CID_HOST, VsockListener, VsockStream};

use crate::template::{self, TemplateError};

/// How long the host may take to listen for readiness.
const ANNOUNCE_WAIT: Duration = Duration::from_secs(10);
const ANNOUNCE_PAUSE: Duration = Duration::from_millis(50);

/// Why the machine does not come up.
#[derive(Debug, Error)]
enum MachineError {
    #[error("cannot boot")]
    Boot(#[source] init::BootError),
    #[error("the template is not usable")]
    Template(#[source] TemplateError),
    #[error("cannot prepare for an identity")]
    Identity(#[source] IdentityError),
    #[error("cannot listen on vsock port {AGENT_PORT}")]
    Listen(#[source] io::Error),
    #[error("cannot start the services")]
    Services(#[source] StartError),
    #[error("cannot start the accepting thread")]
    Serve(#[source] io::Error),
    #[error("cannot tell the host on vsock port {READY_PORT} that the agent is ready")]
    Announce(#[source] io::Error),
}

pub(crate) fn run() -> ExitCode {
    match begin() {
        Ok(services) => {
            services.wait_for_power_off();
            services.stop();
            init::stop_everything();
        }
        Err(error) => init::say(&format!("{}; powering off", ErrorChain(&error))),
    }
    if let Err(error) = init::power_off() {
        init::say(&format!("cannot power off: {error}"));
    }
    loop {
        thread::park();
    }
}

fn begin() -> Result<Arc<Services>, MachineError> {
    init::boot().map_err(MachineError::Boot)?;
    let template = template::read().map_err(MachineError::Template)?;
    let mut config = Config {
        imports: template.imports,
        warm_up: template.warm_up,
        ..Config::guest()
    };
    config.environment.extend(init::environment(Path::new("/")));
    let system = Guest::new().map_err(MachineError::Identity)?;
    let services = Services::start(config, system, Reaping::Everything).map_err(MachineError::Services)?;
    let listener =
        VsockListener::bind_with_cid_port(VMADDR_CID_ANY, AGENT_PORT).map_err(MachineError::Listen)?;
    services.serve(listener).map_err(MachineError::Serve)?;
    // Before anybody is told: who asked for a larger disk shall find it.
    init::grow_root(&services);
    tell_host().map_err(MachineError::Announce)?;
    Ok(services)
}

fn tell_host() -> io::Result<()> {
    let deadline = Instant::now() + ANNOUNCE_WAIT;
    loop {
        let told = VsockStream::connect_with_cid_port(VMADDR_CID_HOST, READY_PORT)
            .and_then(|mut stream| announce(&mut stream));
        match told {
            Err(_) if Instant::now() < deadline => thread::sleep(ANNOUNCE_PAUSE),
            told => return told,
        }
    }
}
