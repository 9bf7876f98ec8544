//! The model-specific registers that make up a CPU's state.

use std::sync::Arc;

use kvm_bindings::{KVM_MAX_MSR_ENTRIES, Msrs, kvm_msr_entry};
use kvm_ioctls::{Kvm, VcpuFd};

use crate::arch::CpuError;

const WHAT: &str = "model-specific registers";

/// The counter itself: its offset is state of its own (see [`super::tsc`]).
const TSC: u32 = 0x10;
/// Where the guest wants the time of its boot: writing it makes KVM write to guest memory, and a guest that wants the
/// time again writes the register again.
const WALL_CLOCK: [u32; 2] = [0x11, 0x4b56_4d00];
/// Of Hyper-V's interface, which is not offered.
const HYPER_V: std::ops::Range<u32> = 0x4000_0000..0x4000_0200;

/// Which registers are read and written, and what a new vCPU has in them.
#[derive(Clone, Debug)]
pub(crate) struct MsrList {
    fresh: Arc<[kvm_msr_entry]>,
}

impl MsrList {
    /// Takes stock of a vCPU that has got its CPUID and nothing else.
    pub(crate) fn new(kvm: &Kvm, vcpu: Option<&VcpuFd>) -> Result<Self, CpuError> {
        let vcpu = vcpu.ok_or(CpuError::NoCpu)?;
        let list = kvm
            .get_msr_index_list()
            .map_err(|source| CpuError::Get { what: WHAT, source })?;
        let wanted = |index: &u32| *index != TSC && !WALL_CLOCK.contains(index) && !HYPER_V.contains(index);
        let indices: Vec<_> = list.as_slice().iter().copied().filter(wanted).collect();
        let fresh = read(vcpu, &indices)?;
        Ok(Self { fresh: fresh.into() })
    }

    /// The registers that differ from those of a new vCPU.
    pub(super) fn capture(&self, vcpu: &VcpuFd) -> Result<Vec<kvm_msr_entry>, CpuError> {
        let indices: Vec<_> = self.fresh.iter().map(|entry| entry.index).collect();
        let mut entries = read(vcpu, &indices)?;
        entries.retain(|entry| !self.fresh.contains(entry));
        Ok(entries)
    }
}

/// Puts registers into a vCPU that is new otherwise.
pub(super) fn write(vcpu: &VcpuFd, entries: &[kvm_msr_entry]) -> Result<(), CpuError> {
    for part in entries.chunks(KVM_MAX_MSR_ENTRIES) {
        let msrs = Msrs::from_entries(part).map_err(|_| CpuError::CpuidTooLong)?;
        let taken = vcpu
            .set_msrs(&msrs)
            .map_err(|source| CpuError::Set { what: WHAT, source })?;
        if taken < part.len() {
            return Err(CpuError::MsrRefused {
                taken,
                given: part.len(),
                index: part.get(taken).map_or(0, |entry| entry.index),
            });
        }
    }
    Ok(())
}

/// Reads those of the registers that can be read: KVM lists some that this CPU does not have.
fn read(vcpu: &VcpuFd, indices: &[u32]) -> Result<Vec<kvm_msr_entry>, CpuError> {
    let mut rest = indices;
    let mut entries = Vec::with_capacity(indices.len());
    while !rest.is_empty() {
        let part: Vec<_> = rest
            .iter()
            .take(KVM_MAX_MSR_ENTRIES)
            .map(|index| kvm_msr_entry {
                index: *index,
                ..Default::default()
            })
            .collect();
        let mut msrs = Msrs::from_entries(&part).map_err(|_| CpuError::CpuidTooLong)?;
        let read = vcpu
            .get_msrs(&mut msrs)
            .map_err(|source| CpuError::Get { what: WHAT, source })?;
        entries.extend_from_slice(msrs.as_slice().get(..read).unwrap_or_default());
        // KVM stops at one it cannot read: that one is left out.
        let done = if read < part.len() { read + 1 } else { read };
        rest = rest.get(done..).unwrap_or_default();
    }
    Ok(entries)
}
