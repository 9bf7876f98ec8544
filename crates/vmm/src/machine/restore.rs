//! A VM that goes on where a snapshot was taken, and the taking of one.

use std::sync::{Arc, Mutex};

use thiserror::Error;
use vmm_proto::RestoreConfig;

use super::{Frame, Hypervisor, Machine, MachineError, Origin, Prepared, VCPUS_MAX, VmState, ports, seats};
use crate::console::Console;
use crate::devices::{Devices, KvmLine};
use crate::events::EventSender;
use crate::layout;
use crate::memory::{self, GuestMemory, PageSource};
use crate::snapshot::{self, Document, Fingerprint, SnapshotError, SnapshotId, Source, Target};
use crate::state::MsrList;
use crate::vcpu::Buses;
use crate::working_set::{self, WorkingSet, WorkingSetError};

#[derive(Debug, Error)]
pub enum RestoreError {
    #[error("the snapshot is of no use")]
    Snapshot(#[source] SnapshotError),
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
        matches!(self, Self::Snapshot(_) | Self::WorkingSet(_) | Self::Rebuild(_))
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
        let document = Document {
            id: target.id,
            fingerprint: Fingerprint::new(self.vcpu_count(), self.cpuid.clone(), self.tsc_khz),
            ram_mib: memory::size_mib(&self.memory),
            vm: vm.clone(),
            serial: self.serial.state().into(),
            devices: self.devices.save(&target.disk).map_err(SnapshotError::Device)?,
        };
        target.finish(&document)
    }
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
        let Document {
            id,
            fingerprint,
            ram_mib,
            mut vm,
            serial,
            devices,
        } = document;
        let vcpus = fingerprint.vcpus;
        if usize::from(vcpus) != vm.cpus.len() || !(1..=VCPUS_MAX).contains(&vcpus) {
            let what = "the CPUs";
            return Err(RestoreError::Snapshot(SnapshotError::Inconsistent { what }));
        }
        let memory = snapshot::map_memory(memory, ram_mib, id).map_err(RestoreError::Snapshot)?;
        let working_set = working_set(config, &memory, id)?;
        let hypervisor = Hypervisor::open().map_err(RestoreError::Machine)?;
        let Frame { vm: fd, cpus } = hypervisor
            .frame(&memory, &fingerprint.cpuid, vcpus)
            .map_err(RestoreError::Rebuild)?;
        let tsc_khz = super::tsc_khz(&cpus);
        fingerprint
            .check(hypervisor.kvm(), tsc_khz)
            .map_err(RestoreError::Snapshot)?;
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
                origin: Some(Origin { id, working_set }),
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
