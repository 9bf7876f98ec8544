//! Putting a VM into files, and making one of them again.

use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::time::Duration;

use egress::Policy;
use futures_util::FutureExt as _;
use thiserror::Error;
use tokio::time::timeout;
use vmm_proto::{Command, FreezeConfig, FreezeReport, RestoreConfig, ThawConfig, VmSize};

use super::boot::BootError;
use super::control::ControlError;
use super::process::Process;
use super::standby::{REACH_BOUND, Raised, Standby};
use super::wires::connect;
use super::{Vm, VmFiles};

/// How long a VM process may take to pause its VM, or to let it go on.
const PAUSE_BOUND: Duration = Duration::from_secs(10);
/// How long it may take to write it: memory of many GiB, to a slow disk.
const FREEZE_BOUND: Duration = Duration::from_secs(180);
/// How long it may take to check files and build a VM of them.
const THAW_BOUND: Duration = Duration::from_secs(120);

/// Where a VM is frozen to.
#[derive(Debug)]
pub(crate) struct FreezeFiles {
    pub(crate) memory: File,
    pub(crate) disk: File,
    pub(crate) state: File,
    /// Nothing shall be needed to go on but these.
    pub(crate) whole: bool,
}

/// Why a VM was not frozen.
#[derive(Debug, Error)]
pub(crate) enum FreezeVmError {
    #[error("the VM was not paused")]
    Pause(#[source] ControlError),
    #[error("the VM was not written to disk")]
    Write(#[source] ControlError),
}

/// Why there is no VM of files.
#[derive(Debug, Error)]
pub(crate) enum ThawVmError {
    #[error("cannot make a directory for the VM")]
    Home(#[source] io::Error),
    #[error("cannot start a VM process")]
    Spawn(#[source] io::Error),
    #[error("the VM process does not listen within {} s", REACH_BOUND.as_secs())]
    Unreachable,
    #[error("the VM process cannot be reached")]
    Reach(#[source] BootError),
    #[error("the VM was not built")]
    Thaw(#[source] ControlError),
    #[error("the VM was not let go on")]
    GoOn(#[source] ControlError),
}

impl FreezeVmError {
    /// The VM is of no use any more, as far as this tells.
    pub(crate) fn is_fatal(&self) -> bool {
        let (Self::Pause(error) | Self::Write(error)) = self;
        !matches!(error, ControlError::Refused(_))
    }
}

/// Pauses a VM and writes it. It stays paused, also when this fails.
pub(crate) async fn freeze_vm(vm: &mut Vm, files: &FreezeFiles) -> Result<FreezeReport, FreezeVmError> {
    let paused = vm.control.run_within(PAUSE_BOUND, Command::Pause).await;
    paused.map_err(FreezeVmError::Pause)?;
    let pagemap = pagemap(&mut vm.process);
    let config = FreezeConfig {
        pagemap: pagemap.is_some(),
        whole: files.whole,
    };
    let descriptors: Vec<_> = [&files.memory, &files.disk, &files.state]
        .into_iter()
        .chain(&pagemap)
        .map(|file| file.as_fd())
        .collect();
    let frozen = timeout(FREEZE_BOUND, vm.control.freeze(config, &descriptors)).await;
    frozen
        .unwrap_or(Err(ControlError::Silent(FREEZE_BOUND)))
        .map_err(FreezeVmError::Write)
}

/// Lets a paused VM go on.
pub(crate) async fn go_on(vm: &mut Vm) -> Result<(), ControlError> {
    vm.control.run_within(PAUSE_BOUND, Command::Resume).await
}

/// Which pages the process has: it may not look itself. Nothing where this daemon may not look either.
fn pagemap(process: &mut Process) -> Option<File> {
    let file = File::open(format!("/proc/{}/pagemap", process.pid())).ok()?;
    // Looked at after it was opened: while the process has not ended, its number is its own.
    process.exited().now_or_never().is_none().then_some(file)
}

/// Builds a VM of files, in a process that is confined before any of its code runs, and lets it run.
pub(crate) async fn thaw_vm(
    files: (PathBuf, VmSize),
    restore: impl FnOnce(&VmFiles) -> RestoreConfig,
    standby: &Standby,
) -> Result<Vm, ThawVmError> {
    let mut vm = build_vm(files, restore, standby).await?;
    vm.home
        .take_wire(standby.homes().wires().make_lost(Policy::Closed));
    connect(&mut vm).await;
    go_on(&mut vm).await.map_err(ThawVmError::GoOn)?;
    Ok(vm)
}

/// The same, and its guest stands still.
pub(crate) async fn build_vm(
    (space, size): (PathBuf, VmSize),
    restore: impl FnOnce(&VmFiles) -> RestoreConfig,
    standby: &Standby,
) -> Result<Vm, ThawVmError> {
    let Raised {
        process,
        mut control,
        home,
    } = standby.take().await?;
    let config = ThawConfig {
        space,
        restore: restore(&home.files),
        size,
    };
    let thawed = control
        .run_within(THAW_BOUND, Command::Thaw(Box::new(config)))
        .await;
    thawed.map_err(ThawVmError::Thaw)?;
    Ok(Vm {
        process,
        control,
        home,
    })
}
