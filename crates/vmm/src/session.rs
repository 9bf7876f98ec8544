//! A VM that was started: its machine, whether it runs, and how its end is judged.

use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::path::Path;
use std::time::{Duration, Instant};

use thiserror::Error;
use vmm_proto::{
    CloneConfig, EndCause, EndReport, FreezeReport, RestoreConfig, Stats, ThawConfig, VmConfig,
    VmState as RunningOrPaused,
};

use crate::arch::CpuError;
use crate::clone::VmFiles;
use crate::confine::Confinement;
use crate::events::EventSender;
use crate::freeze::{Files, FreezeError};
use crate::machine::{Inheritance, Machine, MachineError, Prepared, RestoreError, VmState};
use crate::memory::PageSource;
use crate::proc::Proc;
use crate::requests::{CloneRequest, Waiter};
use crate::resident;
use crate::run_state::{Action, RunState};
use crate::snapshot::{SnapshotError, Target};
use crate::state::{ClockState, CpuState};
use crate::vcpu::VcpuHandle;
use crate::virtio::{MmioDevice, OwnFiles};
use crate::working_set::WorkingSetError;

/// How long a guest that announced its panic may go on printing before it is ended. Ours reset at once (`panic=-1`).
const PANIC_PATIENCE: Duration = Duration::from_secs(2);
/// What Linux prints first when it panics.
const PANIC_LINE: &str = "Kernel panic - not syncing";

/// What the main loop has to do next, in this order.
pub(crate) type Actions = Vec<Action<Waiter, CloneRequest>>;

#[derive(Debug)]
pub(crate) struct Session {
    machine: Machine,
    state: RunState<Waiter, CloneRequest>,
    /// Index: vCPU. What each was like when it parked, as long as it stands still.
    parked: Vec<Option<Result<Box<CpuState>, CpuError>>>,
    /// Of a VM that was restored and has not run: the time at which it stands, also for its clones. A zygote may be days
    /// old; a guest that saw days pass would have all its timers expire at once.
    still: Option<ClockState>,
    /// What KVM holds of the VM, when clones are made.
    frozen: Option<VmState>,
    started: Instant,
    /// Resident memory of this process before it had a guest, in bytes.
    resident_before: u64,
    panicked_at: Option<Instant>,
}

/// Why a VM could not be written to files.
#[derive(Debug, Error)]
pub(crate) enum SaveError {
    #[error("cannot capture the VM")]
    Capture(#[source] MachineError),
    #[error("cannot write the snapshot")]
    Write(#[source] SnapshotError),
}

impl Session {
    /// Builds the VM and lets it run.
    pub(crate) fn start(
        config: &VmConfig,
        events: &EventSender,
        mirror: Option<io::Stdout>,
        (proc, confinement): (&Proc, &mut Confinement),
    ) -> Result<Self, MachineError> {
        let resident_before = resident::bytes(proc);
        let machine = Prepared::boot(config, events, mirror)?.launch(events, confinement)?;
        let mut session = Self {
            state: RunState::running(config.vcpus),
            parked: Vec::new(),
            still: None,
            frozen: None,
            started: Instant::now(),
            resident_before,
            panicked_at: None,
            machine,
        };
        session.run_all();
        Ok(session)
    }

    /// Builds the VM of a snapshot, paused.
    pub(crate) fn restore(
        config: &RestoreConfig,
        events: &EventSender,
        (proc, confinement): (&Proc, &mut Confinement),
    ) -> Result<Self, RestoreError> {
        let resident_before = resident::bytes(proc);
        let built = Prepared::restore(config, events)?;
        Self::standing(built, resident_before, events, confinement)
    }

    /// Builds a VM that was frozen, paused.
    pub(crate) fn thaw(
        config: &ThawConfig,
        events: &EventSender,
        (proc, confinement): (&Proc, &mut Confinement),
    ) -> Result<Self, RestoreError> {
        let resident_before = resident::bytes(proc);
        let built = Prepared::thaw(config, events)?;
        Self::standing(built, resident_before, events, confinement)
    }

    /// A VM that has been built again and stands where it stood.
    fn standing(
        (prepared, vm): (Prepared, VmState),
        resident_before: u64,
        events: &EventSender,
        confinement: &mut Confinement,
    ) -> Result<Self, RestoreError> {
        let machine = prepared
            .launch(events, confinement)
            .map_err(RestoreError::Machine)?;
        Ok(Self {
            state: RunState::paused(machine.vcpu_count()),
            parked: parked(vm.cpus),
            still: Some(vm.clock),
            frozen: None,
            started: Instant::now(),
            resident_before,
            panicked_at: None,
            machine,
        })
    }

    /// Goes on as a clone of itself, in a forked child. Confinement is inherited.
    pub(crate) fn inherit(
        self,
        files: VmFiles,
        config: CloneConfig,
        events: &EventSender,
        confinement: &mut Confinement,
    ) -> Result<Self, MachineError> {
        let inheritance = Inheritance {
            files: OwnFiles {
                layer: Some(files.layer),
                vsock: Some(files.vsock),
                wire: Some(files.wire),
            },
            console: files.console,
            console_log_bytes_max: config.console_log_bytes_max,
        };
        let mut state = self.frozen.ok_or(MachineError::Missing { what: "a parent" })?;
        let machine =
            Prepared::inherit(self.machine, &mut state, inheritance, events)?.launch(events, confinement)?;
        let vcpus = machine.vcpu_count();
        let mut session = Self {
            state: RunState::paused(vcpus),
            parked: parked(state.cpus),
            still: self.still.map(|_| state.clock),
            frozen: None,
            started: Instant::now(),
            resident_before: self.resident_before,
            panicked_at: self.panicked_at,
            machine,
        };
        if config.run {
            session.state = RunState::running(vcpus);
            session.run_all();
        }
        Ok(session)
    }

    pub(crate) fn devices(&self) -> impl Iterator<Item = &MmioDevice> {
        self.machine.devices.iter()
    }

    pub(crate) fn pause(&mut self, waiter: Waiter) -> Actions {
        self.state.pause(waiter)
    }

    pub(crate) fn resume(&mut self, waiter: Waiter) -> Actions {
        self.state.resume(waiter)
    }

    pub(crate) fn clone(&mut self, request: CloneRequest) -> Actions {
        self.state.clone(request)
    }

    pub(crate) fn parked(&mut self, vcpu: u8, state: Result<Box<CpuState>, CpuError>) -> Actions {
        self.parked.resize_with(self.machine.vcpus.len(), || None);
        if let Some(place) = self.parked.get_mut(usize::from(vcpu)) {
            *place = Some(state);
        }
        self.state.parked(vcpu)
    }

    pub(crate) fn park_all(&self) {
        self.machine.vcpus.iter().for_each(VcpuHandle::pause);
    }

    pub(crate) fn run_all(&mut self) {
        self.parked.clear();
        self.still = None;
        self.machine.vcpus.iter().for_each(VcpuHandle::resume);
    }

    /// Captures what KVM holds, for clones. The vCPUs stand still.
    pub(crate) fn freeze(&mut self) -> Result<(), MachineError> {
        let mut cpus = Vec::with_capacity(self.parked.len());
        for (index, parked) in (0..).zip(&mut self.parked) {
            match parked {
                Some(Ok(state)) => cpus.push(CpuState::clone(state)),
                Some(Err(_)) => {
                    // It is told once; the next clone of a VM that stays paused finds nothing.
                    if let Some(Err(source)) = parked.take() {
                        return Err(MachineError::Cpu { index, source });
                    }
                }
                None => {}
            }
        }
        if cpus.len() != self.machine.vcpus.len() {
            return Err(MachineError::Missing {
                what: "the state of a vCPU",
            });
        }
        let (chips, clock) = self.machine.chips_and_clock()?;
        let clock = self.still.unwrap_or(clock);
        self.frozen = Some(VmState { cpus, chips, clock });
        Ok(())
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.state.is_paused()
    }

    /// Writes the VM, which must be paused, to files.
    pub(crate) fn snapshot(&mut self, dir: &Path, pages: PageSource<'_>) -> Result<(), SaveError> {
        self.freeze().map_err(SaveError::Capture)?;
        let Some(vm) = &self.frozen else {
            return Ok(());
        };
        let saved = Target::create(dir).and_then(|target| self.machine.save(vm, pages, target));
        saved.map_err(SaveError::Write)
    }

    /// Writes the VM, which must be paused, to files that outlive it.
    pub(crate) fn write_frozen(&mut self, files: &Files) -> Result<FreezeReport, FreezeError> {
        self.freeze().map_err(FreezeError::Capture)?;
        match &self.frozen {
            Some(vm) => self.machine.freeze(vm, files),
            None => Err(FreezeError::Capture(MachineError::Missing {
                what: "the state of the VM",
            })),
        }
    }

    /// See [`Machine::record_working_set`]; the VM must be paused.
    pub(crate) fn record_working_set(
        &self,
        file: &Path,
        pages: PageSource<'_>,
    ) -> Result<(), WorkingSetError> {
        self.machine.record_working_set(file, pages)
    }

    /// See [`crate::virtio::VirtioDevice::share`].
    pub(crate) fn share(&self, files: &mut OwnFiles) {
        self.machine.devices.share(files);
    }

    /// See [`crate::devices::Devices::rewire`].
    pub(crate) fn rewire(&self, wire: OwnedFd) {
        self.machine.devices.rewire(wire);
    }

    /// Descriptors a clone must not close.
    pub(crate) fn kept(&self) -> Vec<RawFd> {
        self.machine.kept()
    }

    pub(crate) fn panicked(&mut self) {
        self.panicked_at.get_or_insert_with(Instant::now);
    }

    /// When [`Session::overdue`] has to be asked again.
    pub(crate) fn due(&self) -> Option<Instant> {
        let devices = self.devices().filter_map(MmioDevice::due);
        devices.chain(self.panic_due()).min()
    }

    /// Lets devices do what is due; a guest that panicked and neither reset nor powered off in time ends.
    pub(crate) fn overdue(&self) -> Option<EndCause> {
        let due = self.due()?;
        let now = Instant::now();
        if now < due {
            return None;
        }
        self.devices().for_each(|device| device.look(now));
        self.panic_due()
            .is_some_and(|due| now >= due)
            .then_some(EndCause::GuestPanic)
    }

    fn panic_due(&self) -> Option<Instant> {
        self.panicked_at.map(|at| at + PANIC_PATIENCE)
    }

    /// What an end means, knowing all this session knows.
    pub(crate) fn judge(&self, cause: EndCause) -> EndCause {
        judge(cause, self.panicked_at.is_some(), &self.console_tail())
    }

    /// Ends the threads and says how it was.
    pub(crate) fn finish(mut self, cause: EndCause) -> EndReport {
        self.machine.finish();
        EndReport {
            cause,
            console_tail: self.console_tail(),
            uptime_ms: self.uptime_ms(),
        }
    }

    /// Also of a process that has no VM yet.
    pub(crate) fn stats(session: Option<&Self>, proc: &Proc) -> Stats {
        let mut stats = Stats {
            state: RunningOrPaused::Unstarted,
            uptime_ms: 0,
            memory_resident_bytes: 0,
            disk_layer_bytes: 0,
            block_reads: 0,
            block_writes: 0,
            block_flushes: 0,
            vsock_rx_bytes: 0,
            vsock_tx_bytes: 0,
            vsock_connections: 0,
            net_rx_packets: 0,
            net_rx_bytes: 0,
            net_rx_dropped: 0,
            net_tx_packets: 0,
            net_tx_bytes: 0,
            net_tx_dropped: 0,
            vcpu_exits: 0,
        };
        if let Some(session) = session {
            stats.state = if session.state.is_paused() {
                RunningOrPaused::Paused
            } else {
                RunningOrPaused::Running
            };
            stats.uptime_ms = session.uptime_ms();
            stats.memory_resident_bytes = resident::bytes(proc).saturating_sub(session.resident_before);
            stats.vcpu_exits = session.machine.vcpus.iter().map(VcpuHandle::exits).sum();
            session.machine.devices.count(&mut stats);
        }
        stats
    }

    fn console_tail(&self) -> String {
        self.machine
            .console
            .lock()
            .map_or_else(|_| String::new(), |console| console.tail())
    }

    fn uptime_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// What is known of vCPUs that have not run since they were in these states.
fn parked(cpus: Vec<CpuState>) -> Vec<Option<Result<Box<CpuState>, CpuError>>> {
    cpus.into_iter().map(|cpu| Some(Ok(Box::new(cpu)))).collect()
}

/// A kernel that panics resets; it has announced the panic when its pvpanic driver was loaded, and has printed it in
/// any case.
fn judge(cause: EndCause, announced: bool, console_tail: &str) -> EndCause {
    match cause {
        EndCause::PowerOff if announced => EndCause::GuestPanic,
        EndCause::Reset | EndCause::TripleFault if announced || console_tail.contains(PANIC_LINE) => {
            EndCause::GuestPanic
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRINTED: &str = "[    5.0] Kernel panic - not syncing: sysrq triggered crash\r\n";

    #[test]
    fn a_reset_after_a_panic_is_a_panic() {
        assert_eq!(judge(EndCause::Reset, false, PRINTED), EndCause::GuestPanic);
        assert_eq!(judge(EndCause::TripleFault, true, ""), EndCause::GuestPanic);
        assert_eq!(judge(EndCause::Reset, false, "bye"), EndCause::Reset);
    }

    #[test]
    fn other_ends_stay_what_they_are() {
        assert_eq!(judge(EndCause::PowerOff, false, PRINTED), EndCause::PowerOff);
        let internal = EndCause::Internal("disk on fire".to_owned());
        assert_eq!(judge(internal.clone(), true, PRINTED), internal);
    }
}
