//! The orderly end of the machine.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::sync;
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount_remount};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use rustix::system::{RebootCommand, reboot};

/// What processes get to end by themselves.
const GRACE: Duration = Duration::from_secs(2);
const GRACE_POLL: Duration = Duration::from_millis(10);
/// Processes killed by SIGKILL may still hold files open for a moment.
const AFTER_KILL: Duration = Duration::from_millis(500);

/// Asks all processes to end, then makes them.
pub fn stop_everything() {
    signal_everybody(Signal::TERM);
    wait_for_emptiness(GRACE);
    signal_everybody(Signal::KILL);
    wait_for_emptiness(AFTER_KILL);
}

/// Writes everything to the disk and turns the machine off.
///
/// # Errors
/// When the kernel refuses.
pub fn power_off() -> io::Result<()> {
    sync();
    // Refused while something writes; the journal then does on the next mount what was missed here.
    let _ = mount_remount("/", MountFlags::RDONLY, c"");
    sync();
    Ok(reboot(RebootCommand::PowerOff)?)
}

fn signal_everybody(signal: Signal) {
    // kill(-1), which spares PID 1. Fails only when there is nobody.
    let _ = kill_process_group(Pid::INIT, signal);
}

/// Everybody descends from PID 1, so without children there is nobody. The reaper does the reaping.
fn wait_for_emptiness(bound: Duration) {
    let deadline = Instant::now() + bound;
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    while Instant::now() < deadline && !matches!(waitid(WaitId::All, look), Err(Errno::CHILD)) {
        thread::sleep(GRACE_POLL);
    }
}
