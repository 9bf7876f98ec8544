//! KVM's side of a VM: the VM itself and its CPUs.
//!
//! The order of calls is chosen for speed: memory slots come before the interrupt chips, because changing slots
//! afterwards waits for a grace period of the kernel's SRCU (7.7 ms against 0.15 ms). There is no PIT: closing a VM that
//! has one takes 15–23 ms, and a hardware-reduced ACPI kernel does not look for it.

use std::os::fd::{AsRawFd as _, RawFd};
use std::ptr::NonNull;
use std::sync::Arc;

use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::{Cap, Kvm, VcpuFd, VmFd};
use vm_memory::{GuestMemoryBackend as _, GuestMemoryRegion as _};

use super::MachineError;
use crate::arch::GuestCpuid;
use crate::clone;
use crate::layout;
use crate::memory::GuestMemory;

/// What must be there before anything is built.
const CAPABILITIES: &[(Cap, &str)] = &[
    (Cap::Irqchip, "in-kernel interrupt chips"),
    (Cap::Ioeventfd, "ioeventfd"),
    (Cap::ImmediateExit, "immediate_exit"),
    (Cap::UserMemory, "user memory slots"),
    (Cap::SetTssAddr, "KVM_SET_TSS_ADDR"),
    (Cap::TscDeadlineTimer, "the TSC deadline timer"),
    (Cap::VcpuEvents, "events of a vCPU"),
    (Cap::Debugregs, "debug registers"),
    (Cap::Xsave, "extended state"),
    (Cap::AdjustClock, "the guest's clock"),
];

/// `/dev/kvm`, held open for as long as the process lives: clones build their VMs with it.
#[derive(Debug)]
pub(crate) struct Hypervisor {
    kvm: Kvm,
}

/// A VM with its memory, interrupt controllers and CPUs; the CPUs know what they are and nothing else.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) vm: Arc<VmFd>,
    pub(crate) cpus: Vec<VcpuFd>,
}

impl Hypervisor {
    pub(crate) fn open() -> Result<Self, MachineError> {
        let kvm = Kvm::new().map_err(MachineError::OpenKvm)?;
        match CAPABILITIES
            .iter()
            .find(|(capability, _)| !kvm.check_extension(*capability))
        {
            Some((_, what)) => Err(MachineError::Missing { what }),
            None => Ok(Self { kvm }),
        }
    }

    pub(crate) fn kvm(&self) -> &Kvm {
        &self.kvm
    }

    pub(crate) fn descriptor(&self) -> RawFd {
        self.kvm.as_raw_fd()
    }

    /// A VM over this memory.
    pub(crate) fn frame(
        &self,
        memory: &GuestMemory,
        cpuid: &GuestCpuid,
        vcpus: u8,
    ) -> Result<Frame, MachineError> {
        let vm = self.create_vm(memory)?;
        let cpus = (0..vcpus)
            .map(|index| create_vcpu(&vm, cpuid, index))
            .collect::<Result<_, _>>()?;
        Ok(Frame {
            vm: Arc::new(vm),
            cpus,
        })
    }

    fn create_vm(&self, memory: &GuestMemory) -> Result<VmFd, MachineError> {
        let vm = self.kvm.create_vm().map_err(kvm_error("create a VM"))?;
        for (slot, region) in (0..).zip(memory.iter()) {
            let region = kvm_userspace_memory_region {
                slot,
                guest_phys_addr: region.start_addr().0,
                memory_size: region.len(),
                userspace_addr: region.as_ptr() as u64,
                flags: 0,
            };
            // SAFETY: the range is one mapping of `memory`, which lives as long as the VM (see `Machine`), and regions
            // of guest memory do not overlap.
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
}

fn create_vcpu(vm: &VmFd, cpuid: &GuestCpuid, index: u8) -> Result<VcpuFd, MachineError> {
    let mut vcpu = vm.create_vcpu(index.into()).map_err(kvm_error("create a vCPU"))?;
    let run = NonNull::from(vcpu.get_kvm_run()).cast();
    // SAFETY: the mapping is as long as KVM says, and a forked child forgets its parent's vCPUs without touching them.
    unsafe { clone::keep_from_children(run, vm.run_size()) }.map_err(MachineError::KeepFromChildren)?;
    let cpu = |source| MachineError::Cpu { index, source };
    let cpuid = cpuid.for_cpu(index).map_err(cpu)?;
    vcpu.set_cpuid2(&cpuid)
        .map_err(kvm_error("take the guest's CPUID"))?;
    Ok(vcpu)
}

fn kvm_error(what: &'static str) -> impl FnOnce(kvm_ioctls::Error) -> MachineError {
    move |source| MachineError::Kvm { what, source }
}
