//! A VM that goes on, in a forked child, where its parent stood still.
//!
//! Memory, disk and devices are here already; KVM's side is built anew and gets the state the parent had.

use std::fs::File;
use std::sync::{Arc, Mutex};

use super::{Frame, Machine, MachineError, Prepared, VmState, ports, seats};
use crate::console::Console;
use crate::devices::KvmLine;
use crate::events::EventSender;
use crate::layout;
use crate::vcpu::{Buses, VcpuHandle};
use crate::virtio::OwnFiles;
use crate::working_set;

/// What a clone has that its parent has not.
#[derive(Debug)]
pub(crate) struct Inheritance {
    pub(crate) files: OwnFiles,
    pub(crate) console: File,
    pub(crate) console_log_bytes_max: u64,
}

impl Prepared {
    /// WARNING: only in a forked child that has closed everything but [`Machine::kept`] and its own descriptors.
    pub(crate) fn inherit(
        parent: Machine,
        state: &mut VmState,
        inheritance: Inheritance,
        events: &EventSender,
    ) -> Result<Self, MachineError> {
        let Machine {
            console,
            devices,
            vcpus,
            serial,
            origin,
            overlay,
            cpuid,
            tsc_khz,
            msrs,
            hypervisor,
            vm,
            memory,
        } = parent;
        let Inheritance {
            mut files,
            console: log,
            console_log_bytes_max,
        } = inheritance;
        let serial_state = serial.state();
        // The descriptors in these are closed already, and their threads do not exist.
        vcpus.into_iter().for_each(VcpuHandle::forget);
        std::mem::forget((console, serial, vm));

        let working_set = origin.as_ref().and_then(|origin| origin.working_set.as_ref());
        if let Some(set) = working_set {
            working_set::populate(set, &memory);
        }
        let vcpus = u8::try_from(state.cpus.len()).unwrap_or(0);
        let Frame { vm, cpus } = hypervisor.frame(&memory, &cpuid, vcpus)?;
        state.chips.apply(&vm).map_err(MachineError::VmState)?;
        state.clock.restart(&mut state.cpus);
        state.clock.apply(&vm).map_err(MachineError::VmState)?;
        for ((index, cpu), state) in (0..).zip(&cpus).zip(&state.cpus) {
            state
                .apply(cpu)
                .map_err(|source| MachineError::Cpu { index, source })?;
        }

        if let (Some(set), Some(cpu)) = (working_set, cpus.first()) {
            working_set::map_for_guest(set, &memory, cpu);
        }

        // After the interrupt controllers: devices send again what the guest has not seen.
        let console = Arc::new(Mutex::new(Console::new(log, console_log_bytes_max)));
        let line = KvmLine::new(&vm, layout::SERIAL_GSI);
        let serial = ports::serial(Box::new(line), &console, Some(&serial_state));
        let serial = Arc::new(serial.map_err(MachineError::Serial)?);
        let devices = devices.inherit(&vm, &mut files).map_err(MachineError::Devices)?;
        let buses = Buses {
            ports: Arc::new(ports::bus(&serial, events)?),
            memory: Arc::new(devices.bus().map_err(MachineError::Overlap)?),
        };
        Ok(Self {
            seats: seats(cpus, &buses, &msrs),
            machine: Machine {
                console,
                devices,
                vcpus: Vec::new(),
                serial,
                origin,
                overlay,
                cpuid,
                tsc_khz,
                msrs,
                hypervisor,
                vm,
                memory,
            },
        })
    }
}
