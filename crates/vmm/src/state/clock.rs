//! The paravirtual clock of the VM (`kvmclock`): nanoseconds since the guest was booted.

use kvm_bindings::{KVM_CLOCK_HOST_TSC, KVM_CLOCK_REALTIME, kvm_clock_data};
use kvm_ioctls::VmFd;
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use super::{CpuState, tsc};
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
    /// For the guest, no time has passed since: it was restored from a file and has not run.
    still: bool,
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
            still: false,
        })
    }

    /// Stops the time at what was captured.
    pub(crate) fn stop(&mut self) {
        self.still = true;
    }

    /// Of a stopped clock: lets the CPUs' counters go on, from now, where they were when it stopped.
    pub(crate) fn restart(&mut self, cpus: &mut [CpuState]) {
        if self.still {
            let now = tsc::host();
            for cpu in cpus {
                cpu.shift_tsc(self.host_tsc.wrapping_sub(now));
            }
            self.host_tsc = now;
        }
    }

    /// Lets the new VM's clock show what the old one's shows by now.
    pub(crate) fn apply(&self, vm: &VmFd) -> Result<(), CpuError> {
        let mut data = kvm_clock_data {
            clock: self.data.clock,
            ..Default::default()
        };
        if self.still {
            // What it showed is what it shows.
        } else if self.data.flags & KVM_CLOCK_REALTIME == 0 {
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
