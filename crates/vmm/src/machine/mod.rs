//! One VM, from its configuration to parked vCPUs.
//!
//! ```text
//!   Start:    boot ─────────┐
//!   Restore:  restore ──────┼──> Prepared ──(confine)──> launch ──> Machine
//!   Clone:    inherit ──────┘
//! ```
//!
//! Everything that is opened by path or made anew is there when a machine is [`Prepared`]; [`Prepared::launch`] starts
//! threads, and from then on no path is opened.

mod boot;
mod freeze;
mod inherit;
mod kvm;
mod ports;
mod restore;
mod thaw;

use std::io;
use std::os::fd::RawFd;
use std::path::Path;
use std::sync::Arc;

use kvm_ioctls::VmFd;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::acpi::AcpiError;
use crate::arch::{CpuError, GuestCpuid};
use crate::boot::BootError;
use crate::bus::OverlapError;
use crate::confine::{ConfineError, Confinement};
use crate::console::SharedConsole;
use crate::devices::{Devices, DevicesError};
use crate::events::EventSender;
use crate::freeze::Run;
use crate::legacy::SerialPort;
use crate::memory::{self, GuestMemory, MemoryError, PageSource};
use crate::snapshot::SnapshotId;
use crate::state::{ChipState, ClockState, CpuState, MsrList};
use crate::vcpu::{Buses, Seat, VcpuError, VcpuHandle};
use crate::working_set::{self, WorkingSet, WorkingSetError};
use kvm::{Frame, Hypervisor};

pub(crate) use inherit::Inheritance;
pub use restore::RestoreError;

/// Most vCPUs of one VM: APIC ids stay below the 8-bit limit, and no host for sandboxes gives one more.
pub const VCPUS_MAX: u8 = 64;

#[derive(Debug, Error)]
pub enum MachineError {
    #[error("{vcpus} vCPUs are not between 1 and {VCPUS_MAX}")]
    VcpuCount { vcpus: u8 },
    #[error("cannot open /dev/kvm")]
    OpenKvm(#[source] kvm_ioctls::Error),
    #[error("this host's KVM lacks {what}")]
    Missing { what: &'static str },
    #[error("KVM cannot {what}")]
    Kvm {
        what: &'static str,
        #[source]
        source: kvm_ioctls::Error,
    },
    #[error("cannot give the guest its memory")]
    Memory(#[source] MemoryError),
    #[error("cannot set up CPU {index}")]
    Cpu {
        index: u8,
        #[source]
        source: CpuError,
    },
    #[error("cannot describe the CPUs")]
    Cpuid(#[source] CpuError),
    #[error("cannot write the ACPI tables")]
    Acpi(#[source] AcpiError),
    #[error("cannot load what is to be booted")]
    Boot(#[source] BootError),
    #[error("cannot open the console log {}", path.display())]
    Console {
        path: std::path::PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot keep a vCPU's page out of clones")]
    KeepFromChildren(#[source] io::Error),
    #[error("the state of the interrupt controllers and the clock cannot be moved")]
    VmState(#[source] CpuError),
    #[error("cannot set up the serial port")]
    Serial(#[source] io::Error),
    #[error("two devices claim the same addresses")]
    Overlap(#[source] OverlapError),
    #[error("cannot attach the virtio devices")]
    Devices(#[source] DevicesError),
    #[error("cannot confine the process")]
    Confine(#[source] ConfineError),
    #[error("cannot start a vCPU")]
    Vcpu(#[source] VcpuError),
}

/// A built VM. Dropping it would leave its threads running: end it with [`Machine::finish`].
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) console: SharedConsole,
    pub(crate) devices: Devices,
    pub(crate) vcpus: Vec<VcpuHandle>,
    serial: Arc<SerialPort>,
    origin: Option<Origin>,
    /// Where memory, as it was restored, differs from that of the origin.
    overlay: Vec<Run>,
    cpuid: GuestCpuid,
    tsc_khz: u32,
    msrs: MsrList,
    hypervisor: Hypervisor,
    // Dropped after the vCPUs: KVM's VM, then the memory its slots point into.
    vm: Arc<VmFd>,
    memory: GuestMemory,
}

/// The snapshot a VM comes from, itself or by its ancestors.
#[derive(Debug)]
struct Origin {
    id: SnapshotId,
    /// What clones have ready before they run.
    working_set: Option<WorkingSet>,
}

/// A VM that is complete but for the threads of its vCPUs.
#[derive(Debug)]
pub(crate) struct Prepared {
    machine: Machine,
    seats: Vec<Seat>,
}

/// What of a parked VM belongs to KVM. The rest is in the memory of this process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct VmState {
    pub(crate) cpus: Vec<CpuState>,
    pub(crate) chips: ChipState,
    pub(crate) clock: ClockState,
}

impl Prepared {
    /// Confines the process, if it is to be, and starts the vCPUs' threads, parked.
    pub(crate) fn launch(
        self,
        events: &EventSender,
        confinement: &mut Confinement,
    ) -> Result<Machine, MachineError> {
        let Self { mut machine, seats } = self;
        confinement.enter().map_err(MachineError::Confine)?;
        for seat in seats {
            match VcpuHandle::spawn(seat, events.clone(), confinement.clone()) {
                Ok(vcpu) => machine.vcpus.push(vcpu),
                Err(error) => {
                    machine.finish();
                    return Err(MachineError::Vcpu(error));
                }
            }
        }
        Ok(machine)
    }
}

impl Machine {
    pub(crate) fn vcpu_count(&self) -> u8 {
        u8::try_from(self.vcpus.len()).unwrap_or(VCPUS_MAX)
    }

    /// The state of all that is not a vCPU. The vCPUs must stand still.
    pub(crate) fn chips_and_clock(&self) -> Result<(ChipState, ClockState), MachineError> {
        let chips = ChipState::capture(&self.vm).map_err(MachineError::VmState)?;
        let clock = ClockState::capture(&self.vm).map_err(MachineError::VmState)?;
        Ok((chips, clock))
    }

    /// What a clone of this VM must not close.
    pub(crate) fn kept(&self) -> Vec<RawFd> {
        let mut kept = self.devices.kept();
        kept.extend(memory::descriptors(&self.memory));
        kept.push(self.hypervisor.descriptor());
        kept
    }

    /// Writes down which pages this VM has touched since it was cloned. The vCPUs must stand still.
    pub(crate) fn record_working_set(
        &self,
        file: &Path,
        pages: PageSource<'_>,
    ) -> Result<(), WorkingSetError> {
        let origin = self.origin.as_ref().ok_or(WorkingSetError::NotRestored)?;
        working_set::record(&self.memory, pages, origin.id)?.save(file)
    }

    /// Ends every thread.
    pub(crate) fn finish(&mut self) {
        self.vcpus.drain(..).for_each(VcpuHandle::finish);
        if let Ok(mut console) = self.console.lock() {
            console.flush();
        }
    }
}

/// The frequency of the guest's time-stamp counter; 0 when KVM does not tell.
fn tsc_khz(cpus: &[kvm_ioctls::VcpuFd]) -> u32 {
    cpus.first().map_or(0, |cpu| cpu.get_tsc_khz().unwrap_or(0))
}

/// A place for each CPU.
fn seats(cpus: Vec<kvm_ioctls::VcpuFd>, buses: &Buses, msrs: &MsrList) -> Vec<Seat> {
    (0..)
        .zip(cpus)
        .map(|(index, vcpu)| Seat {
            index,
            vcpu,
            buses: buses.clone(),
            msrs: msrs.clone(),
        })
        .collect()
}
