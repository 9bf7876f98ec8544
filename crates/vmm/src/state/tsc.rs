//! The time-stamp counter of a vCPU: what KVM adds to the host's counter (`KVM_VCPU_TSC_OFFSET`).
//!
//! The offset is what a clone keeps, so that its counter runs on as if nothing had happened, also while it was parked.
//! Writing the counter itself would lose the time between reading and writing.

use kvm_bindings::{KVM_VCPU_TSC_CTRL, KVM_VCPU_TSC_OFFSET, kvm_device_attr};
use kvm_ioctls::VcpuFd;
use vmm_sys_util::errno;
use vmm_sys_util::ioctl::ioctl_with_ref;
use vmm_sys_util::ioctl_iow_nr;

const KVMIO: u32 = 0xae;
ioctl_iow_nr!(KVM_SET_DEVICE_ATTR, KVMIO, 0xe1, kvm_device_attr);
ioctl_iow_nr!(KVM_GET_DEVICE_ATTR, KVMIO, 0xe2, kvm_device_attr);

pub(super) fn offset(vcpu: &VcpuFd) -> Result<u64, errno::Error> {
    let mut offset = 0_u64;
    let attribute = attribute((&raw mut offset) as u64);
    // SAFETY: `vcpu` is a vCPU's descriptor, and the kernel writes the eight bytes of `offset`, which outlives the call.
    let result = unsafe { ioctl_with_ref(vcpu, KVM_GET_DEVICE_ATTR(), &attribute) };
    if result == 0 {
        Ok(offset)
    } else {
        Err(errno::Error::last())
    }
}

pub(super) fn set_offset(vcpu: &VcpuFd, offset: u64) -> Result<(), errno::Error> {
    let attribute = attribute((&raw const offset) as u64);
    // SAFETY: `vcpu` is a vCPU's descriptor, and the kernel reads the eight bytes of `offset`, which outlives the call.
    let result = unsafe { ioctl_with_ref(vcpu, KVM_SET_DEVICE_ATTR(), &attribute) };
    if result == 0 {
        Ok(())
    } else {
        Err(errno::Error::last())
    }
}

/// The counter of the CPU this runs on.
pub(super) fn host() -> u64 {
    // SAFETY: every CPU that has KVM has the instruction, and nothing forbids it to user space.
    unsafe { std::arch::x86_64::_rdtsc() }
}

fn attribute(addr: u64) -> kvm_device_attr {
    kvm_device_attr {
        flags: 0,
        group: KVM_VCPU_TSC_CTRL,
        attr: KVM_VCPU_TSC_OFFSET.into(),
        addr,
    }
}
