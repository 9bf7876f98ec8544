//! Fails to compile when a structure of KVM that goes into a snapshot is not what it was when
//! [`super::format::VERSION`] was given: then the version has to change, and the number here.

use std::mem::size_of;

use kvm_bindings as kvm;

const _: () = {
    assert!(super::format::VERSION == 2);
    assert!(size_of::<kvm::kvm_regs>() == 144);
    assert!(size_of::<kvm::kvm_sregs>() == 312);
    assert!(size_of::<kvm::kvm_debugregs>() == 128);
    assert!(size_of::<kvm::kvm_xcrs>() == 392);
    assert!(size_of::<kvm::kvm_lapic_state>() == 1024);
    assert!(size_of::<kvm::kvm_msr_entry>() == 16);
    assert!(size_of::<kvm::kvm_vcpu_events>() == 64);
    assert!(size_of::<kvm::kvm_mp_state>() == 4);
    assert!(size_of::<kvm::kvm_irqchip>() == 520);
    assert!(size_of::<kvm::kvm_clock_data>() == 48);
    assert!(size_of::<kvm::kvm_cpuid_entry2>() == 40);
};
