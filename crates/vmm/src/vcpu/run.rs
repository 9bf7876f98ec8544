//! The loop of a vCPU thread: enter the guest, serve its exits, obey the main loop.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError};

use kvm_ioctls::{VcpuExit, VcpuFd};
use pod_types::ErrorChain;
use vmm_proto::EndCause;

use super::{Command, ExitFlag};
use crate::bus::Bus;
use crate::clone;
use crate::confine::ConfineError;
use crate::events::{EventSender, MachineEvent};
use crate::state::{CpuState, MsrList};

/// What a vCPU can reach.
#[derive(Clone, Debug)]
pub(crate) struct Buses {
    pub(crate) ports: Arc<Bus>,
    pub(crate) memory: Arc<Bus>,
}

/// A vCPU and what its thread needs for it.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(crate) index: u8,
    pub(crate) vcpu: VcpuFd,
    pub(crate) buses: Buses,
    pub(crate) msrs: MsrList,
}

pub(super) struct VcpuLoop {
    index: u8,
    vcpu: VcpuFd,
    exit_flag: ExitFlag,
    buses: Buses,
    events: EventSender,
    inbox: Receiver<Command>,
    exits: Arc<AtomicU64>,
    msrs: MsrList,
    /// The guest is over as far as this CPU is concerned.
    ended: bool,
}

enum State {
    Parked,
    Running,
    Finished,
}

/// What one exit leads to.
enum Next {
    Enter,
    End(EndCause),
}

impl VcpuLoop {
    pub(super) fn new(
        seat: Seat,
        (events, inbox): (EventSender, Receiver<Command>),
        exits: Arc<AtomicU64>,
    ) -> Self {
        let Seat {
            index,
            mut vcpu,
            buses,
            msrs,
        } = seat;
        let exit_flag = ExitFlag::of(&mut vcpu);
        Self {
            index,
            vcpu,
            exit_flag,
            buses,
            events,
            inbox,
            exits,
            msrs,
            ended: false,
        }
    }

    /// In place of [`Self::run`], for a thread that could not be confined: the guest must not run.
    pub(super) fn refuse(self, error: &ConfineError) -> VcpuFd {
        let why = format!("vCPU {}: {}", self.index, ErrorChain(error));
        self.report(MachineEvent::Ended(EndCause::Internal(why)));
        self.vcpu
    }

    /// Runs until told to finish. Returns the vCPU, so that it outlives the last kick.
    pub(super) fn run(mut self) -> VcpuFd {
        clone::keep_signal_stack_from_children();
        let mut state = State::Parked;
        loop {
            state = match state {
                State::Parked => self.parked(),
                State::Running => self.running(),
                State::Finished => return self.vcpu,
            };
        }
    }

    /// Waits for a command.
    fn parked(&mut self) -> State {
        match self.inbox.recv() {
            Ok(Command::Resume) if !self.ended => State::Running,
            Ok(Command::Resume) => State::Parked,
            Ok(Command::Pause) => {
                self.report_parked();
                State::Parked
            }
            // The main loop is gone: so is the VM.
            Ok(Command::Finish) | Err(_) => State::Finished,
        }
    }

    fn running(&mut self) -> State {
        loop {
            // Lowered before the commands are looked at: a command that is sent after the look raises the flag after
            // the lowering, and the guest is not entered with a command waiting.
            self.exit_flag.lower();
            match self.inbox.try_recv() {
                Ok(Command::Pause) => {
                    self.settle();
                    self.report_parked();
                    return State::Parked;
                }
                Ok(Command::Finish) | Err(TryRecvError::Disconnected) => return State::Finished,
                Ok(Command::Resume) | Err(TryRecvError::Empty) => {}
            }
            if let Next::End(cause) = self.enter() {
                self.ended = true;
                self.report(MachineEvent::Ended(cause));
                return State::Parked;
            }
        }
    }

    fn enter(&mut self) -> Next {
        let outcome = self.vcpu.run();
        // Only this thread writes the counter.
        let exits = self.exits.load(Ordering::Relaxed);
        self.exits.store(exits + 1, Ordering::Relaxed);
        let fault = match outcome {
            Ok(VcpuExit::IoIn(port, data)) => {
                self.buses.ports.read(port.into(), data);
                return Next::Enter;
            }
            Ok(VcpuExit::IoOut(port, data)) => {
                self.buses.ports.write(port.into(), data);
                return Next::Enter;
            }
            Ok(VcpuExit::MmioRead(address, data)) => {
                self.buses.memory.read(address, data);
                return Next::Enter;
            }
            Ok(VcpuExit::MmioWrite(address, data)) => {
                self.buses.memory.write(address, data);
                return Next::Enter;
            }
            Ok(VcpuExit::Intr) => return Next::Enter,
            Ok(VcpuExit::Shutdown) => return Next::End(EndCause::TripleFault),
            Ok(VcpuExit::FailEntry(reason, cpu)) => {
                format!("the hardware refused to enter the guest: reason {reason:#x} on CPU {cpu}")
            }
            Ok(VcpuExit::InternalError) => self.internal_error(),
            Ok(VcpuExit::SystemEvent(kind, _)) => format!("system event {kind}"),
            Ok(exit) => format!("an exit this monitor does not know: {exit:?}"),
            Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => return Next::Enter,
            Err(error) => format!("KVM_RUN failed: {error}"),
        };
        Next::End(EndCause::Internal(format!(
            "vCPU {}: {fault}{}",
            self.index,
            self.place()
        )))
    }

    /// Completes what the last exit left open (an I/O instruction is only finished by entering the guest again), so
    /// that the registers of a parked vCPU are whole; and tells the guest's clock that it was stopped, which keeps its
    /// lockup detector quiet.
    fn settle(&mut self) {
        self.exit_flag.raise();
        // Returns at once, with EINTR.
        let _ = self.vcpu.run().map(|_| ());
        self.exit_flag.lower();
        // Refused when the guest has not set up its clock, and then it needs no telling.
        let _ = self.vcpu.kvmclock_ctrl();
    }

    /// What KVM could not do (`KVM_INTERNAL_ERROR_*` of its API).
    fn internal_error(&mut self) -> String {
        // SAFETY: the exit reason is KVM_EXIT_INTERNAL_ERROR, for which KVM has filled this member of the union; it is
        // made of integers only.
        let details = unsafe { self.vcpu.get_kvm_run().__bindgen_anon_1.internal };
        let known = usize::try_from(details.ndata)
            .unwrap_or(usize::MAX)
            .min(details.data.len());
        format!(
            "KVM internal error {}, data {:x?}",
            details.suberror,
            &details.data[..known]
        )
    }

    /// Where the guest stands, for a report.
    fn place(&self) -> String {
        self.vcpu.get_regs().map_or_else(
            |_| String::new(),
            |registers| format!(", at {:#x}", registers.rip),
        )
    }

    fn report_parked(&self) {
        let state = CpuState::capture(&self.vcpu, &self.msrs).map(Box::new);
        self.report(MachineEvent::Parked {
            vcpu: self.index,
            state,
        });
    }

    fn report(&self, event: MachineEvent) {
        self.events.send(event);
    }
}
