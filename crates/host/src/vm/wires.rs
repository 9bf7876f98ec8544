//! The wires of VMs: what carries the frames of a guest's network device.
//!
//! Nobody is at the other end yet, so what a guest sends vanishes. This is the place at which a wire's other end is to
//! be given to the network process: whoever makes a VM by cloning has it for each clone, and a VM that was started,
//! restored or thawed gets one by [`vmm_proto::Command::Wire`].

use std::io;
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

/// The VM's end of a new wire; the other end is closed already.
pub(super) fn dead_wire() -> io::Result<OwnedFd> {
    let (vm, _network) = socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?;
    Ok(vm)
}
