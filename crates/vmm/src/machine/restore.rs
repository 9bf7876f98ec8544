//! A VM that goes on where a snapshot was taken, and the taking of one.

use std::fs::File;
use std::sync::{Arc, Mutex};

use kvm_ioctls::Kvm;
use thiserror::Error;
use vmm_proto::RestoreConfig;

use super::{Frame, Hypervisor, Machine, MachineError, Origin, Prepared, VCPUS_MAX, VmState, ports, seats};
use crate::console::Console;
use crate::devices::{Devices, KvmLine};
use crate::events::EventSender;
use crate::freeze::{Run, ThawError};
use crate::layout;
use crate::memory::{self, GuestMemory, PageSource};
use crate::snapshot::{self, Document, Fingerprint, SnapshotError, SnapshotId, Source, Target};
use crate::state::MsrList;
use crate::vcpu::Buses;
use crate::virtio::DeviceError;
use crate::working_set::{self, WorkingSet, WorkingSetError};

#[derive(Debug, Error)]
pub enum RestoreError {
    #[error("the snapshot is of no use")]
    Snapshot(#[source] SnapshotError),
    #[error("the frozen VM is of no use")]
    Thaw(#[source] ThawError),
    #[error("the working set is of no use")]
    WorkingSet(#[source] WorkingSetError),
    #[error("the VM of the snapshot cannot be built again")]
    Rebuild(#[source] MachineError),
    #[error("cannot build the VM")]
    Machine(#[source] MachineError),
}

/// The one that was recorded; without one, recording is prepared for.
fn working_set(
    config: &RestoreConfig,
    memory: &GuestMemory,
    id: SnapshotId,
) -> Result<Option<WorkingSet>, RestoreError> {
    let Some(path) = &config.working_set else {
        // It makes a recording precise, and a VM that is restored for another reason a little slower at first.
        let _ = working_set::forget_cached_pages(memory);
        return Ok(None);
    };
    let pages = u64::from(memory::size_mib(memory)) << 8;
    WorkingSet::open(path, id, pages)
        .map(Some)
        .map_err(RestoreError::WorkingSet)
}

impl RestoreError {
    /// Whether another snapshot may work where this one does not.
    pub(crate) fn is_of_the_snapshot(&self) -> bool {
        matches!(
            self,
            Self::Snapshot(_) | Self::Thaw(_) | Self::WorkingSet(_) | Self::Rebuild(_)
        )
    }
}

impl Machine {
    /// Writes the VM to files. Its vCPUs stand still, in the state given.
    pub(crate) fn save(
        &self,
        vm: &VmState,
        pages: PageSource<'_>,
        target: Target,
    ) -> Result<(), SnapshotError> {
        snapshot::write_memory(&self.memory, pages, target.id, &target.memory)
            .map_err(SnapshotError::Memory)?;
        let document = self.document(target.id, vm, &target.disk);
        target.finish(&document.map_err(SnapshotError::Device)?)
    }

    /// All of the VM but its memory and its disk's blocks, which go to `disk`.
    pub(super) fn document(
        &self,
        id: SnapshotId,
        vm: &VmState,
        disk: &File,
    ) -> Result<Document, DeviceError> {
        Ok(Document {
            id,
            fingerprint: Fingerprint::new(self.vcpu_count(), self.cpuid.clone(), self.tsc_khz),
            ram_mib: memory::size_mib(&self.memory),
            vm: vm.clone(),
            serial: self.serial.state().into(),
            devices: self.devices.save(disk)?,
        })
    }
}

/// What a VM is built again from.
pub(super) struct Parts {
    pub(super) document: Document,
    pub(super) memory: GuestMemory,
    /// Where memory differs from that of the origin.
    pub(super) overlay: Vec<Run>,
    pub(super) disk: File,
    pub(super) origin: Option<Origin>,
    /// It will run, and not only be cloned: what every guest touches first is made ready for it.
    pub(super) runs: bool,
}

impl Prepared {
    /// Builds the VM of a snapshot, and says what KVM holds of it.
    pub(crate) fn restore(
        config: &RestoreConfig,
        events: &EventSender,
    ) -> Result<(Self, VmState), RestoreError> {
        let source = Source::open(&config.snapshot).map_err(RestoreError::Snapshot)?;
        let Source {
            document,
            memory,
            disk,
        } = source;
        let id = document.id;
        let memory = snapshot::map_memory(memory, document.ram_mib, id).map_err(RestoreError::Snapshot)?;
        let mut working_set = working_set(config, &memory, id)?;
        if let Some(set) = &mut working_set {
            working_set::prepare(set, &memory);
        }
        let parts = Parts {
            document,
            memory,
            overlay: Vec::new(),
            disk,
            origin: Some(Origin { id, working_set }),
            runs: false,
        };
        Self::rebuild(config, events, parts, Fingerprint::check)
    }

    /// Builds a VM that stands where it stood. `fits` judges whether it can go on here.
    pub(super) fn rebuild(
        config: &RestoreConfig,
        events: &EventSender,
        parts: Parts,
        fits: fn(&Fingerprint, &Kvm, u32) -> Result<(), SnapshotError>,
    ) -> Result<(Self, VmState), RestoreError> {
        let Parts {
            document,
            memory,
            overlay,
            disk,
            origin,
            runs,
        } = parts;
        let Document {
            id: _,
            fingerprint,
            ram_mib: _,
            mut vm,
            serial,
            devices,
        } = document;
        let vcpus = fingerprint.vcpus;
        if usize::from(vcpus) != vm.cpus.len() || !(1..=VCPUS_MAX).contains(&vcpus) {
            let what = "the CPUs";
            return Err(RestoreError::Snapshot(SnapshotError::Inconsistent { what }));
        }
        let hypervisor = Hypervisor::open().map_err(RestoreError::Machine)?;
        let Frame { vm: fd, cpus } = hypervisor
            .frame(&memory, &fingerprint.cpuid, vcpus)
            .map_err(RestoreError::Rebuild)?;
        let tsc_khz = super::tsc_khz(&cpus);
        fits(&fingerprint, hypervisor.kvm(), tsc_khz).map_err(RestoreError::Snapshot)?;
        let cpu_error = |index| move |source| RestoreError::Rebuild(MachineError::Cpu { index, source });
        let msrs = MsrList::new(hypervisor.kvm(), cpus.first()).map_err(cpu_error(0))?;

        let state_error = |source| RestoreError::Rebuild(MachineError::VmState(source));
        vm.chips.apply(&fd).map_err(state_error)?;
        // Time goes on where it was when the snapshot was taken.
        vm.clock.stop();
        vm.clock.restart(&mut vm.cpus);
        vm.clock.apply(&fd).map_err(state_error)?;
        for ((index, cpu), state) in (0..).zip(&cpus).zip(&vm.cpus) {
            state.apply(cpu).map_err(cpu_error(index))?;
        }
        let set = origin.as_ref().and_then(|origin| origin.working_set.as_ref());
        if let (true, Some(set), Some(cpu)) = (runs, set, cpus.first()) {
            working_set::map_for_guest(set, &memory, cpu);
        }

        let console = Console::create(&config.console, None).map_err(|source| {
            RestoreError::Machine(MachineError::Console {
                path: config.console.log.clone(),
                source,
            })
        })?;
        let console = Arc::new(Mutex::new(console));
        let line = KvmLine::new(&fd, layout::SERIAL_GSI);
        let serial = ports::serial(Box::new(line), &console, Some(&serial.into()))
            .map_err(|source| RestoreError::Rebuild(MachineError::Serial(source)))?;
        let serial = Arc::new(serial);
        let devices = Devices::restore(config, &memory, &fd, disk, &devices)
            .map_err(|source| RestoreError::Rebuild(MachineError::Devices(source)))?;
        let buses = Buses {
            ports: Arc::new(ports::bus(&serial, events).map_err(RestoreError::Machine)?),
            memory: Arc::new(
                devices
                    .bus()
                    .map_err(|source| RestoreError::Machine(MachineError::Overlap(source)))?,
            ),
        };
        let prepared = Self {
            seats: seats(cpus, &buses, &msrs),
            machine: Machine {
                console,
                devices,
                vcpus: Vec::new(),
                serial,
                origin,
                overlay,
                cpuid: fingerprint.cpuid,
                tsc_khz,
                msrs,
                hypervisor,
                vm: fd,
                memory,
            },
        };
        Ok((prepared, vm))
    }
}
