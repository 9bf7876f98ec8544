//! One VM, from its configuration to parked vCPUs.
//!
//! The order of KVM calls is chosen for speed: memory slots come before the interrupt chips, because changing slots
//! afterwards waits for a grace period of the kernel's SRCU (7.7 ms against 0.15 ms). There is no PIT: closing a VM that
//! has one takes 15–23 ms, and a hardware-reduced ACPI kernel does not look for it.

use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::{Cap, Kvm, VmFd};
use thiserror::Error;
use vm_memory::{GuestMemoryBackend as _, GuestMemoryRegion as _};
use vmm_proto::VmConfig;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::acpi::{self, AcpiError};
use crate::arch::{self, CpuError, GuestCpuid, Topology};
use crate::boot::{self, BootError, BootSource};
use crate::bus::{Bus, OverlapError};
use crate::console::{Console, SharedConsole};
use crate::devices::{Devices, DevicesError};
use crate::events::EventSender;
use crate::layout;
use crate::legacy::{KeyboardReset, PowerRegisters, Pvpanic, SerialPort};
use crate::memory::{self, GuestMemory, MemoryError};
use crate::vcpu::{Buses, VcpuError, VcpuHandle};

/// Most vCPUs of one VM: APIC ids stay below the 8-bit limit, and no host for sandboxes gives one more.
pub const VCPUS_MAX: u8 = 64;

/// What must be there before anything is built.
const CAPABILITIES: &[(Cap, &str)] = &[
    (Cap::Irqchip, "in-kernel interrupt chips"),
    (Cap::Irqfd, "irqfd"),
    (Cap::Ioeventfd, "ioeventfd"),
    (Cap::ImmediateExit, "immediate_exit"),
    (Cap::UserMemory, "user memory slots"),
    (Cap::SetTssAddr, "KVM_SET_TSS_ADDR"),
    (Cap::TscDeadlineTimer, "the TSC deadline timer"),
];

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
    #[error("cannot make an event")]
    Event(#[source] io::Error),
    #[error("two devices claim the same addresses")]
    Overlap(#[source] OverlapError),
    #[error("cannot attach the virtio devices")]
    Devices(#[source] DevicesError),
    #[error("cannot start a vCPU")]
    Vcpu(#[source] VcpuError),
}

/// A built VM. Dropping it would leave its threads running: end it with [`Machine::finish`].
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) console: SharedConsole,
    pub(crate) devices: Devices,
    pub(crate) vcpus: Vec<VcpuHandle>,
    // Dropped after the vCPUs: KVM's VM, then the memory its slots point into.
    _vm: Arc<VmFd>,
    _memory: GuestMemory,
}

impl Machine {
    /// Builds the VM; every vCPU is parked.
    pub(crate) fn build(
        config: &VmConfig,
        events: &EventSender,
        mirror: Option<io::Stdout>,
    ) -> Result<Self, MachineError> {
        if !(1..=VCPUS_MAX).contains(&config.vcpus) {
            return Err(MachineError::VcpuCount { vcpus: config.vcpus });
        }
        let kvm = open_kvm()?;
        let memory = memory::allocate(config.ram_mib).map_err(MachineError::Memory)?;
        let vm = Arc::new(create_vm(&kvm, &memory)?);

        let console = Console::create(&config.console, mirror).map_err(|source| MachineError::Console {
            path: config.console.log.clone(),
            source,
        })?;
        let console = Arc::new(Mutex::new(console));
        let devices = Devices::open(config, &memory, &vm).map_err(MachineError::Devices)?;
        let buses = Buses {
            ports: Arc::new(port_bus(&vm, &console, events)?),
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

        let topology = Topology { cpus: config.vcpus };
        let cpuid = GuestCpuid::new(&kvm, topology).map_err(MachineError::Cpuid)?;
        let mut fds = Vec::new();
        for index in 0..config.vcpus {
            let cpu = |source| MachineError::Cpu { index, source };
            let fd = vm.create_vcpu(index.into()).map_err(kvm_error("create a vCPU"))?;
            arch::setup_any_cpu(&fd, &cpuid, index).map_err(cpu)?;
            if index == 0 {
                arch::setup_boot_cpu(&fd, entry).map_err(cpu)?;
            }
            fds.push((index, fd));
        }
        // Threads last: nothing after this can fail and leave some behind.
        let mut vcpus = Vec::new();
        for (index, fd) in fds {
            match VcpuHandle::spawn(index, fd, buses.clone(), events.clone()) {
                Ok(vcpu) => vcpus.push(vcpu),
                Err(error) => {
                    vcpus.into_iter().for_each(VcpuHandle::finish);
                    return Err(MachineError::Vcpu(error));
                }
            }
        }
        Ok(Self {
            console,
            devices,
            vcpus,
            _vm: vm,
            _memory: memory,
        })
    }

    /// Ends every thread.
    pub(crate) fn finish(&mut self) {
        self.vcpus.drain(..).for_each(VcpuHandle::finish);
        if let Ok(mut console) = self.console.lock() {
            console.flush();
        }
    }
}

fn open_kvm() -> Result<Kvm, MachineError> {
    let kvm = Kvm::new().map_err(MachineError::OpenKvm)?;
    match CAPABILITIES
        .iter()
        .find(|(capability, _)| !kvm.check_extension(*capability))
    {
        Some((_, what)) => Err(MachineError::Missing { what }),
        None => Ok(kvm),
    }
}

fn create_vm(kvm: &Kvm, memory: &GuestMemory) -> Result<VmFd, MachineError> {
    let vm = kvm.create_vm().map_err(kvm_error("create a VM"))?;
    for (slot, region) in (0..).zip(memory.iter()) {
        let region = kvm_userspace_memory_region {
            slot,
            guest_phys_addr: region.start_addr().0,
            memory_size: region.len(),
            userspace_addr: region.as_ptr() as u64,
            flags: 0,
        };
        // SAFETY: the range is one mapping of `memory`, which lives as long as the VM (see `Machine`), and regions of
        // guest memory do not overlap.
        unsafe { vm.set_user_memory_region(region) }.map_err(kvm_error("take the guest's memory"))?;
    }
    vm.set_identity_map_address(layout::KVM_IDENTITY_MAP_START)
        .map_err(kvm_error("place its identity map"))?;
    let tss =
        usize::try_from(layout::KVM_TSS_START).map_err(|_| MachineError::Missing { what: "64 bits" })?;
    vm.set_tss_address(tss).map_err(kvm_error("place its TSS"))?;
    vm.create_irq_chip()
        .map_err(kvm_error("create interrupt chips"))?;
    Ok(vm)
}

fn port_bus(vm: &VmFd, console: &SharedConsole, events: &EventSender) -> Result<Bus, MachineError> {
    let interrupt = EventFd::new(EFD_NONBLOCK).map_err(MachineError::Event)?;
    vm.register_irqfd(&interrupt, layout::SERIAL_GSI)
        .map_err(kvm_error("wire the serial port's interrupt"))?;
    let mut bus = Bus::default();
    let mut insert = |range: Range<u64>, device| bus.insert(range, device).map_err(MachineError::Overlap);
    insert(
        port_range(layout::SERIAL_PORT, layout::SERIAL_PORT_COUNT),
        Arc::new(SerialPort::new(interrupt, console)),
    )?;
    insert(
        port_range(layout::POWER_PORT, layout::POWER_PORT_COUNT),
        Arc::new(PowerRegisters::new(events.clone())),
    )?;
    insert(
        port_range(KeyboardReset::PORT, 1),
        Arc::new(KeyboardReset::new(events.clone())),
    )?;
    insert(
        port_range(layout::PVPANIC_PORT, 1),
        Arc::new(Pvpanic::new(events.clone())),
    )?;
    Ok(bus)
}

fn port_range(start: u16, count: u16) -> Range<u64> {
    u64::from(start)..u64::from(start) + u64::from(count)
}

fn kvm_error(what: &'static str) -> impl FnOnce(kvm_ioctls::Error) -> MachineError {
    move |source| MachineError::Kvm { what, source }
}
