//! The paravirtual clock of the VM (`kvmclock`): nanoseconds since the guest was booted.

use kvm_bindings::{KVM_CLOCK_HOST_TSC, KVM_CLOCK_REALTIME, kvm_clock_data};
use kvm_ioctls::VmFd;
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use super::tsc;
use crate::arch::CpuError;

const WHAT: &str = "clock";

/// What the clock showed, and when.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct ClockState {
    data: kvm_clock_data,
    /// The host's time since boot, in nanoseconds, for a KVM that does not say when it read the clock.
    host_ns: u64,
    /// The host's time-stamp counter at that moment.
    host_tsc: u64,
}

impl ClockState {
    pub(crate) fn capture(vm: &VmFd) -> Result<Self, CpuError> {
        // Read first: a clock that is put a little too far forward harms nobody, one that goes back does.
        let host_ns = host_ns();
        let data = vm
            .get_clock()
            .map_err(|source| CpuError::Get { what: WHAT, source })?;
        let host_tsc = if data.flags & KVM_CLOCK_HOST_TSC == 0 {
            tsc::host()
        } else {
            data.host_tsc
        };
        Ok(Self {
            data,
            host_ns,
            host_tsc,
        })
    }

    pub(super) fn host_tsc(&self) -> u64 {
        self.host_tsc
    }

    /// Lets the new VM's clock show what the old one's showed.
    pub(crate) fn apply_stopped(&self, vm: &VmFd) -> Result<(), CpuError> {
        set(
            vm,
            &kvm_clock_data {
                clock: self.data.clock,
                ..Default::default()
            },
        )
    }

    /// Lets the new VM's clock show what the old one's shows by now.
    pub(crate) fn apply_running(&self, vm: &VmFd) -> Result<(), CpuError> {
        let mut data = kvm_clock_data {
            clock: self.data.clock,
            ..Default::default()
        };
        if self.data.flags & KVM_CLOCK_REALTIME == 0 {
            data.clock += host_ns().saturating_sub(self.host_ns);
        } else {
            // KVM adds what has passed since, in the same instant in which it sets the clock.
            data.flags = KVM_CLOCK_REALTIME;
            data.realtime = self.data.realtime;
        }
        set(vm, &data)
    }
}

fn set(vm: &VmFd, data: &kvm_clock_data) -> Result<(), CpuError> {
    vm.set_clock(data)
        .map_err(|source| CpuError::Set { what: WHAT, source })
}

fn host_ns() -> u64 {
    // It fails for clocks that do not exist, and this one does.
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(0, |time| {
        u64::try_from(time.tv_sec()).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec()).unwrap_or(0)
    })
}
