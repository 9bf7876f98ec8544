//! What a snapshot depends on outside of itself.

use std::sync::OnceLock;

use kvm_ioctls::Kvm;
use serde::{Deserialize, Serialize};

use super::SnapshotError;
use crate::arch::{CpuError, GuestCpuid, Topology};

/// Parts per million two frequencies may differ by to count as the same: what KVM tolerates without scaling. A host
/// measures its own anew at each boot.
const TSC_TOLERANCE_PPM: u64 = 250;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Fingerprint {
    build: String,
    /// Release and version of the host's kernel: what KVM stores in its structures is its business.
    kernel: String,
    pub(crate) vcpus: u8,
    /// All features the guest was given.
    pub(crate) cpuid: GuestCpuid,
    tsc_khz: u32,
}

impl Fingerprint {
    pub(crate) fn new(vcpus: u8, cpuid: GuestCpuid, tsc_khz: u32) -> Self {
        Self {
            build: build(),
            kernel: kernel(),
            vcpus,
            cpuid,
            tsc_khz,
        }
    }

    /// Whether a VM with this fingerprint can go on here, as a snapshot that costs little to make again.
    pub(crate) fn check(&self, kvm: &Kvm, tsc_khz: u32) -> Result<(), SnapshotError> {
        self.compare(&self.here(kvm, tsc_khz)?)
    }

    /// Whether a VM with this fingerprint can go on here, where there is nothing else left of it: another build or kernel
    /// is no hindrance. What KVM's structures hold is part of the kernel's interface, and what a kernel does not take is
    /// refused piece by piece.
    pub(crate) fn check_cpu(&self, kvm: &Kvm, tsc_khz: u32) -> Result<(), SnapshotError> {
        self.compare_cpu(&self.here(kvm, tsc_khz)?)
    }

    fn here(&self, kvm: &Kvm, tsc_khz: u32) -> Result<Self, SnapshotError> {
        let here = GuestCpuid::new(kvm, Topology { cpus: self.vcpus });
        Ok(Self {
            build: build(),
            kernel: kernel(),
            vcpus: self.vcpus,
            cpuid: here.map_err(|_: CpuError| SnapshotError::Cpu)?,
            tsc_khz,
        })
    }

    fn compare(&self, here: &Self) -> Result<(), SnapshotError> {
        if self.build != here.build {
            return Err(SnapshotError::Build {
                theirs: self.build.clone(),
                ours: here.build.clone(),
            });
        }
        if self.kernel != here.kernel {
            return Err(SnapshotError::Kernel {
                theirs: self.kernel.clone(),
                ours: here.kernel.clone(),
            });
        }
        self.compare_cpu(here)
    }

    fn compare_cpu(&self, here: &Self) -> Result<(), SnapshotError> {
        if !self.cpuid.is_same(&here.cpuid) {
            return Err(SnapshotError::Cpu);
        }
        let difference = u64::from(self.tsc_khz.abs_diff(here.tsc_khz));
        if difference * 1_000_000 > u64::from(here.tsc_khz) * TSC_TOLERANCE_PPM {
            return Err(SnapshotError::TscFrequency {
                theirs: self.tsc_khz,
                ours: here.tsc_khz,
            });
        }
        Ok(())
    }
}

fn build() -> String {
    format!(
        "{} {}, protocol {}",
        env!("CARGO_PKG_NAME"),
        env!("CARGO_PKG_VERSION"),
        vmm_proto::VERSION
    )
}

/// The kernel that runs this process. Asked once, at the latest by [`ask_kernel`]: a confined process may not.
fn kernel() -> String {
    static KERNEL: OnceLock<String> = OnceLock::new();
    let ask = || {
        let name = rustix::system::uname();
        format!(
            "{} {}",
            name.release().to_string_lossy(),
            name.version().to_string_lossy()
        )
    };
    KERNEL.get_or_init(ask).clone()
}

/// To be called before the process is confined.
pub(crate) fn ask_kernel() {
    drop(kernel());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_counts() {
        let here = || Fingerprint::new(1, GuestCpuid::default(), 1_000_000);
        here().compare(&here()).unwrap();
        let mut near = here();
        near.tsc_khz += 250;
        near.compare(&here()).unwrap();
        let mut other = here();
        other.tsc_khz += 251;
        assert!(matches!(
            other.compare(&here()),
            Err(SnapshotError::TscFrequency { .. })
        ));
        other = here();
        other.kernel.push('x');
        assert!(matches!(
            other.compare(&here()),
            Err(SnapshotError::Kernel { .. })
        ));
        other = here();
        other.build.push('x');
        assert!(matches!(other.compare(&here()), Err(SnapshotError::Build { .. })));
    }
}
