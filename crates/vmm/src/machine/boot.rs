//! A VM that starts with its kernel's first instruction.

use std::io;
use std::sync::{Arc, Mutex};

use vmm_proto::VmConfig;

use super::{Frame, Hypervisor, Machine, MachineError, Prepared, VCPUS_MAX, ports, seats, tsc_khz};
use crate::acpi;
use crate::arch::{self, GuestCpuid, Topology};
use crate::boot::{self, BootSource};
use crate::console::Console;
use crate::devices::{Devices, KvmLine};
use crate::events::EventSender;
use crate::layout;
use crate::memory;
use crate::state::MsrList;
use crate::vcpu::Buses;

impl Prepared {
    /// Builds the VM a configuration describes.
    pub(crate) fn boot(
        config: &VmConfig,
        events: &EventSender,
        mirror: Option<io::Stdout>,
    ) -> Result<Self, MachineError> {
        if !(1..=VCPUS_MAX).contains(&config.vcpus) {
            return Err(MachineError::VcpuCount { vcpus: config.vcpus });
        }
        let hypervisor = Hypervisor::open()?;
        let memory = memory::allocate(config.ram_mib).map_err(MachineError::Memory)?;
        let topology = Topology { cpus: config.vcpus };
        let cpuid = GuestCpuid::new(hypervisor.kvm(), topology).map_err(MachineError::Cpuid)?;
        let Frame { vm, cpus } = hypervisor.frame(&memory, &cpuid, config.vcpus)?;
        let msrs = MsrList::new(hypervisor.kvm(), cpus.first()).map_err(MachineError::Cpuid)?;

        let console = Console::create(&config.console, mirror).map_err(|source| MachineError::Console {
            path: config.console.log.clone(),
            source,
        })?;
        let console = Arc::new(Mutex::new(console));
        let line = KvmLine::new(&vm, layout::SERIAL_GSI);
        let serial = ports::serial(Box::new(line), &console, None).map_err(MachineError::Serial)?;
        let serial = Arc::new(serial);
        let devices = Devices::open(config, &memory, &vm).map_err(MachineError::Devices)?;
        let buses = Buses {
            ports: Arc::new(ports::bus(&serial, events)?),
            memory: Arc::new(devices.bus().map_err(MachineError::Overlap)?),
        };

        let rsdp = acpi::write(&memory, config.vcpus, &devices.windows()).map_err(MachineError::Acpi)?;
        let source = BootSource {
            kernel: &config.kernel,
            initrd: &config.initrd,
            kernel_arguments: &config.kernel_arguments,
            rsdp,
        };
        let entry = boot::load(&memory, &source).map_err(MachineError::Boot)?;
        arch::write_boot_tables(&memory).map_err(MachineError::Cpuid)?;
        for (index, cpu) in (0..).zip(&cpus) {
            let failed = |source| MachineError::Cpu { index, source };
            arch::setup_any_cpu(cpu, &cpuid).map_err(failed)?;
            if index == 0 {
                arch::setup_boot_cpu(cpu, entry).map_err(failed)?;
            }
        }
        let tsc_khz = tsc_khz(&cpus);
        Ok(Self {
            seats: seats(cpus, &buses, &msrs),
            machine: Machine {
                console,
                devices,
                vcpus: Vec::new(),
                serial,
                origin: None,
                overlay: Vec::new(),
                tsc_khz,
                cpuid,
                msrs,
                hypervisor,
                vm,
                memory,
            },
        })
    }
}
