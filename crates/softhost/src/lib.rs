//! Brings up the host that sandboxes run on, and keeps it up.
//!
//! Where KVM can run an ordinary guest that is the host daemon as a plain process. Where it cannot, it is the
//! *software host*: a small Debian machine under QEMU whose emulated CPU has AMD's virtualization, so that its
//! kernel offers a real `/dev/kvm` and everything inside is the same, only slower.
//!
//! Reading order: [`decide`] says which of the two; [`Plan`] is what it is made of; [`supervise`] runs it in the
//! foreground until it is stopped; [`status`], [`stop`] and [`exec_in_machine`] are for everybody else, who finds
//! it through its run directory. [`diagnose`] looks for what can be wrong. The lifecycle and the texts of `/proc`
//! are pure functions, so the rest is short.
//!
//! This crate must not know the API beyond `GET /v1/healthz`, nor what a sandbox is. It reads no environment.
#![forbid(unsafe_code)]

mod settings;

mod decide;
mod memory;
mod plan;

mod initrd;
mod qemu;

mod host;
mod lifecycle;
mod status;
mod supervisor;

mod operate;
mod restart;

mod doctor;

mod backlog;
mod capture;
mod collector;
mod console;
mod control;
mod health;
mod monitor;
mod port;
mod processes;
mod run_dir;
mod timed;

pub use capture::{Capture, CaptureError};
#[cfg(any(test, feature = "fuzzing"))]
pub use control::fuzz_answers;
pub use control::{Answer, ControlError};
pub use decide::{Verdict, decide};
pub use doctor::{Check, CheckVerdict, DoctorInput, diagnose};
pub use health::is_well;
pub use host::SpawnError;
pub use initrd::InitrdError;
pub use lifecycle::End;
pub use memory::{MEMORY_MIB_MIN, MemoryError, available_mib, machine_memory_mib};
pub use monitor::MonitorError;
pub use operate::{
    Observed, OperateError, Stopped, console_tail, exec_in_machine, machine_stats, ping_machine, status,
    stop, wait_until_up,
};
pub use plan::{HardwarePlan, Plan, SoftwareFiles, SoftwarePlan};
pub use port::{PortError, PortOwner, owner as port_owner, require_free as require_free_port};
pub use processes::ProcessId;
pub use qemu::QEMU_PACKAGES;
pub use restart::{RestartError, restart};
pub use run_dir::{RunDir, RunDirError, RunLock};
pub use settings::{DEFAULT_PORT, HostSetting, Limits, Settings};
pub use status::{HostKind, State, Status};
pub use supervisor::{SuperviseError, supervise};
