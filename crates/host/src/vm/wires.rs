//! Giving VMs the ends of their wires: a clone comes with its own, any other VM gets one when it is up.

use std::os::fd::AsFd as _;
use std::time::Duration;

use pod_types::ErrorChain;
use thiserror::Error;
use tokio::time::timeout;

use super::Vm;
use super::control::ControlError;

/// How long a VM process may take to take a wire.
const WIRE_BOUND: Duration = Duration::from_secs(10);

/// Why a VM has no wire. It goes on without a network.
#[derive(Debug, Error)]
pub(crate) enum WireError {
    #[error("there are no sockets for it")]
    Pair(#[source] std::io::Error),
    #[error("the VM process does not take it")]
    Vm(#[source] ControlError),
}

/// Connects a VM to the network again, or for the first time; one that cannot be stays without, which is said.
pub(crate) async fn connect(vm: &mut Vm) {
    let Some(wire) = vm.home.wire() else { return };
    let end = match wire.renew() {
        Ok(end) => end,
        Err(error) => return say(vm, WireError::Pair(error)),
    };
    let given = timeout(WIRE_BOUND, vm.control.wire(end.as_fd())).await;
    match given.unwrap_or(Err(ControlError::Silent(WIRE_BOUND))) {
        Ok(()) => {
            if let Some(wire) = vm.home.wire() {
                wire.begin(None);
            }
        }
        Err(error) => say(vm, WireError::Vm(error)),
    }
}

fn say(vm: &Vm, error: WireError) {
    tracing::warn!(pid = vm.process.pid(), error = %ErrorChain(&error), "a VM has no network");
    if let Some(wire) = vm.home.wire() {
        wire.give_up();
    }
}
