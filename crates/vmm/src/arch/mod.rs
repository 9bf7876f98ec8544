//! What an x86-64 CPU looks like when the kernel's first instruction runs on it.

mod cpuid;
mod msr;
mod registers;

pub(crate) use cpuid::{GuestCpuid, Topology};
pub(crate) use registers::{setup_boot_cpu, write_boot_tables};

use kvm_ioctls::VcpuFd;
use thiserror::Error;
use vm_memory::GuestMemoryError;

#[derive(Debug, Error)]
pub enum CpuError {
    #[error("KVM does not tell which CPU features it supports")]
    SupportedCpuid(#[source] kvm_ioctls::Error),
    #[error("the host's CPU has more CPUID leaves than fit")]
    CpuidTooLong,
    #[error("{words} words are not what the extended state of a CPU takes")]
    ExtendedState { words: usize },
    #[error("a VM without a CPU")]
    NoCpu,
    #[error("KVM refuses the {what}")]
    Set {
        what: &'static str,
        #[source]
        source: kvm_ioctls::Error,
    },
    #[error("KVM does not give the {what}")]
    Get {
        what: &'static str,
        #[source]
        source: kvm_ioctls::Error,
    },
    #[error("KVM took {taken} of {given} model-specific registers, and not {index:#x}")]
    MsrRefused {
        taken: usize,
        given: usize,
        /// The first one refused.
        index: u32,
    },
    #[error("cannot write the boot page tables")]
    WriteTables(#[source] GuestMemoryError),
}

/// What every CPU needs, also those the kernel starts later.
pub(crate) fn setup_any_cpu(vcpu: &VcpuFd, cpuid: &GuestCpuid) -> Result<(), CpuError> {
    msr::set_reset_values(vcpu)?;
    registers::set_extended_control(vcpu, cpuid)?;
    registers::set_local_apic(vcpu)
}
