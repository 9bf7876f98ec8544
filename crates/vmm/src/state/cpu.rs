//! One virtual CPU.

use kvm_bindings::{
    kvm_debugregs, kvm_lapic_state, kvm_mp_state, kvm_msr_entry, kvm_regs, kvm_sregs, kvm_vcpu_events,
    kvm_xcrs, kvm_xsave,
};
use kvm_ioctls::VcpuFd;
use serde::{Deserialize, Serialize};

use super::{MsrList, msrs, tsc};
use crate::arch::CpuError;

/// All of a parked vCPU but its CPUID, which is the VM's.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct CpuState {
    registers: kvm_regs,
    system: kvm_sregs,
    debug: kvm_debugregs,
    /// x87, SSE, AVX and the like, in the layout of XSAVE. State that has to be asked for (AMX) is not offered to
    /// guests, so this size is enough.
    extended: Vec<u32>,
    extended_control: kvm_xcrs,
    local_apic: kvm_lapic_state,
    msrs: Vec<kvm_msr_entry>,
    /// Interrupts and exceptions on their way into the CPU.
    events: kvm_vcpu_events,
    /// Whether it runs, is halted, or waits to be started.
    run: kvm_mp_state,
    tsc_offset: u64,
}

impl CpuState {
    /// Of a vCPU that is not in `KVM_RUN` and has no exit to complete.
    pub(crate) fn capture(vcpu: &VcpuFd, list: &MsrList) -> Result<Self, CpuError> {
        let get = |what| move |source| CpuError::Get { what, source };
        Ok(Self {
            // First: it takes in events that wait in the local APIC (INIT, SIPI), which changes what follows.
            run: vcpu.get_mp_state().map_err(get("run state"))?,
            registers: vcpu.get_regs().map_err(get("registers"))?,
            system: vcpu.get_sregs().map_err(get("system registers"))?,
            debug: vcpu.get_debug_regs().map_err(get("debug registers"))?,
            extended: vcpu.get_xsave().map_err(get("extended state"))?.region.to_vec(),
            extended_control: vcpu.get_xcrs().map_err(get("extended control register"))?,
            local_apic: vcpu.get_lapic().map_err(get("local APIC"))?,
            msrs: list.capture(vcpu)?,
            events: vcpu.get_vcpu_events().map_err(get("pending events"))?,
            tsc_offset: tsc::offset(vcpu).map_err(get("offset of the time-stamp counter"))?,
        })
    }

    pub(super) fn shift_tsc(&mut self, by: u64) {
        self.tsc_offset = self.tsc_offset.wrapping_add(by);
    }

    /// Puts the state into a new vCPU that has got its CPUID.
    pub(crate) fn apply(&self, vcpu: &VcpuFd) -> Result<(), CpuError> {
        let set = |what| move |source| CpuError::Set { what, source };
        vcpu.set_mp_state(self.run).map_err(set("run state"))?;
        // The base address of the local APIC is among the system registers, so they come before the APIC.
        vcpu.set_sregs(&self.system).map_err(set("system registers"))?;
        vcpu.set_regs(&self.registers).map_err(set("registers"))?;
        vcpu.set_debug_regs(&self.debug).map_err(set("debug registers"))?;
        vcpu.set_xcrs(&self.extended_control)
            .map_err(set("extended control register"))?;
        let mut extended = kvm_xsave::default();
        if self.extended.len() != extended.region.len() {
            return Err(CpuError::ExtendedState {
                words: self.extended.len(),
            });
        }
        extended.region.copy_from_slice(&self.extended);
        // SAFETY: the kernel reads more than this structure only for state that has been asked for with arch_prctl(2),
        // which this process never does.
        unsafe { vcpu.set_xsave(&extended) }.map_err(set("extended state"))?;
        vcpu.set_lapic(&self.local_apic).map_err(set("local APIC"))?;
        // The deadline of the APIC's timer is an MSR that counts in the TSC: so the offset comes before the MSRs, and
        // the APIC, which says that its timer has a deadline, as well.
        tsc::set_offset(vcpu, self.tsc_offset).map_err(set("offset of the time-stamp counter"))?;
        msrs::write(vcpu, &self.msrs)?;
        vcpu.set_vcpu_events(&self.events)
            .map_err(set("pending events"))?;
        // The guest's clock is told that it stood still, which keeps its lockup detector quiet. Refused when the guest
        // has not set up its clock, and then it needs no telling.
        let _ = vcpu.kvmclock_ctrl();
        Ok(())
    }
}
