//! Model-specific registers a kernel expects firmware to have set.

use kvm_bindings::{Msrs, kvm_msr_entry};
use kvm_ioctls::VcpuFd;

use super::CpuError;

/// `IA32_MISC_ENABLE`: fast string instructions on, everything optional off.
const MISC_ENABLE: (u32, u64) = (0x1a0, 1);
/// `IA32_MTRR_DEF_TYPE`: MTRRs enabled, all memory write-back.
const MTRR_DEF_TYPE: (u32, u64) = (0x2ff, (1 << 11) | 6);

pub(super) fn set_reset_values(vcpu: &VcpuFd) -> Result<(), CpuError> {
    let entries = [MISC_ENABLE, MTRR_DEF_TYPE].map(|(index, data)| kvm_msr_entry {
        index,
        data,
        ..Default::default()
    });
    let msrs = Msrs::from_entries(&entries).map_err(|_| CpuError::CpuidTooLong)?;
    let taken = vcpu.set_msrs(&msrs).map_err(|source| CpuError::Set {
        what: "model-specific registers",
        source,
    })?;
    if taken == entries.len() {
        Ok(())
    } else {
        Err(CpuError::MsrRefused {
            taken,
            given: entries.len(),
            index: entries.get(taken).map_or(0, |entry| entry.index),
        })
    }
}
