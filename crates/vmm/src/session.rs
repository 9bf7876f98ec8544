//! A VM that was started: its machine, whether it runs, and how its end is judged.

use std::io;
use std::time::{Duration, Instant};

use vmm_proto::{EndCause, EndReport, Outcome, Stats, VmConfig, VmState};

use crate::events::EventSender;
use crate::machine::{Machine, MachineError};
use crate::resident;
use crate::run_state::{Action, RunState};
use crate::vcpu::VcpuHandle;
use crate::virtio::MmioDevice;

/// How long a guest that announced its panic may go on printing before it is ended. Ours reset at once (`panic=-1`).
const PANIC_PATIENCE: Duration = Duration::from_secs(2);
/// What Linux prints first when it panics.
const PANIC_LINE: &str = "Kernel panic - not syncing";

/// A reply for whoever waits under `T`.
pub(crate) type Answer<T> = (T, Outcome);

#[derive(Debug)]
pub(crate) struct Session<T> {
    machine: Machine,
    state: RunState<T>,
    started: Instant,
    /// Resident memory of this process before it had a guest, in bytes.
    resident_before: u64,
    panicked_at: Option<Instant>,
}

impl<T> Session<T> {
    /// Builds the VM and lets it run.
    pub(crate) fn start(
        config: &VmConfig,
        events: &EventSender,
        mirror: Option<io::Stdout>,
    ) -> Result<Self, MachineError> {
        let resident_before = resident::bytes();
        let machine = Machine::build(config, events, mirror)?;
        machine.vcpus.iter().for_each(VcpuHandle::resume);
        Ok(Self {
            machine,
            state: RunState::running(config.vcpus),
            started: Instant::now(),
            resident_before,
            panicked_at: None,
        })
    }

    pub(crate) fn devices(&self) -> impl Iterator<Item = &MmioDevice> {
        self.machine.devices.iter()
    }

    pub(crate) fn pause(&mut self, waiter: T) -> Vec<Answer<T>> {
        let actions = self.state.pause(waiter);
        self.act(actions)
    }

    pub(crate) fn resume(&mut self, waiter: T) -> Vec<Answer<T>> {
        let actions = self.state.resume(waiter);
        self.act(actions)
    }

    pub(crate) fn parked(&mut self, vcpu: u8) -> Vec<Answer<T>> {
        let actions = self.state.parked(vcpu);
        self.act(actions)
    }

    pub(crate) fn panicked(&mut self) {
        self.panicked_at.get_or_insert_with(Instant::now);
    }

    /// When [`Session::overdue`] has to be asked again.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.panicked_at.map(|at| at + PANIC_PATIENCE)
    }

    /// A guest that panicked and neither reset nor powered off in time.
    pub(crate) fn overdue(&self) -> Option<EndCause> {
        let due = self.due()?;
        (Instant::now() >= due).then_some(EndCause::GuestPanic)
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
    pub(crate) fn stats(session: Option<&Self>) -> Stats {
        let mut stats = Stats {
            state: VmState::Unstarted,
            uptime_ms: 0,
            memory_resident_bytes: 0,
            disk_layer_bytes: 0,
            block_reads: 0,
            block_writes: 0,
            block_flushes: 0,
            vsock_rx_bytes: 0,
            vsock_tx_bytes: 0,
            vsock_connections: 0,
            vcpu_exits: 0,
        };
        if let Some(session) = session {
            stats.state = if session.state.is_paused() {
                VmState::Paused
            } else {
                VmState::Running
            };
            stats.uptime_ms = session.uptime_ms();
            stats.memory_resident_bytes = resident::bytes().saturating_sub(session.resident_before);
            stats.vcpu_exits = session.machine.vcpus.iter().map(VcpuHandle::exits).sum();
            session.machine.devices.count(&mut stats);
        }
        stats
    }

    fn act(&mut self, actions: Vec<Action<T>>) -> Vec<Answer<T>> {
        let mut answers = Vec::new();
        for action in actions {
            match action {
                Action::ParkAll => self.machine.vcpus.iter().for_each(VcpuHandle::pause),
                Action::RunAll => self.machine.vcpus.iter().for_each(VcpuHandle::resume),
                Action::Answer(waiter) => answers.push((waiter, Outcome::Done)),
            }
        }
        answers
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
