//! The CPU the guest believes it has: what KVM supports on this host, with this VM's topology, minus what a sandbox
//! does not need.
//!
//! Register layouts: Intel SDM volume 2A (CPUID), AMD APM volume 3 appendix E, and
//! `Documentation/virt/kvm/x86/cpuid.rst` for leaves 0x4000_00xx.

use kvm_bindings::{CpuId, KVM_MAX_CPUID_ENTRIES, kvm_cpuid_entry2};
use kvm_ioctls::Kvm;
use serde::{Deserialize, Serialize};

use super::CpuError;

/// Leaf 1 ECX.
const MONITOR: u32 = 1 << 3;
const VMX: u32 = 1 << 5;
const TSC_DEADLINE_TIMER: u32 = 1 << 24;
const HYPERVISOR: u32 = 1 << 31;
/// Leaf 1 EDX: several logical CPUs in the package.
const HTT: u32 = 1 << 28;
/// Leaf 7 ECX. Five-level paging is for guests beyond 64 TiB; below, it only makes page walks longer, and a walk in a
/// nested page table visits (levels + 1)² entries.
const LA57: u32 = 1 << 16;
/// Leaf 0x8000_0001 ECX.
const CMP_LEGACY: u32 = 1 << 1;
const SVM: u32 = 1 << 2;
const TOPOLOGY_EXTENSIONS: u32 = 1 << 22;
/// Core and north-bridge performance counters: the guest has none.
const AMD_PERFORMANCE_COUNTERS: u32 = (1 << 23) | (1 << 24) | (1 << 28);

/// How many CPUs there are: one package, one thread per core.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Topology {
    pub(crate) cpus: u8,
}

/// CPUID without the fields that differ from CPU to CPU.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct GuestCpuid {
    entries: Vec<kvm_cpuid_entry2>,
}

impl Topology {
    /// Bits of an APIC id that number the cores.
    fn core_bits(self) -> u32 {
        u8::BITS - self.cpus.saturating_sub(1).leading_zeros()
    }
}

impl GuestCpuid {
    pub(crate) fn new(kvm: &Kvm, topology: Topology) -> Result<Self, CpuError> {
        let supported = kvm
            .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
            .map_err(CpuError::SupportedCpuid)?;
        Ok(Self::from_supported(supported.as_slice(), topology))
    }

    /// The leaves for the CPU with this APIC id.
    pub(crate) fn for_cpu(&self, apic_id: u8) -> Result<CpuId, CpuError> {
        let mut entries = self.entries.clone();
        for entry in &mut entries {
            set_cpu_number(entry, apic_id);
        }
        CpuId::from_entries(&entries).map_err(|_| CpuError::CpuidTooLong)
    }

    /// Whether both describe the same CPU.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        match (self.for_cpu(0), other.for_cpu(0)) {
            (Ok(one), Ok(other)) => one.as_slice() == other.as_slice(),
            _ => false,
        }
    }

    /// The parts of the extended state (XSAVE) this CPU has, as XCR0 takes them; 0 if it has no XSAVE.
    pub(crate) fn extended_state(&self) -> u64 {
        self.entries
            .iter()
            .find(|entry| entry.function == 0xd && entry.index == 0)
            .map_or(0, |entry| (u64::from(entry.edx) << 32) | u64::from(entry.eax))
    }

    fn from_supported(supported: &[kvm_cpuid_entry2], topology: Topology) -> Self {
        let mut entries: Vec<_> = supported
            .iter()
            .copied()
            // Built anew below, so that their sub-leaves say what this VM is and not what the host is.
            .filter(|entry| !matches!(entry.function, 0xb | 0x1f))
            .collect();
        let has_extended_topology = supported
            .iter()
            .any(|entry| entry.function == 0 && entry.eax >= 0xb);
        if has_extended_topology {
            entries.extend(extended_topology(topology));
        }
        for entry in &mut entries {
            adjust(entry, topology);
        }
        Self { entries }
    }
}

/// Leaf 0xb: the thread level, the core level, and an invalid one that ends the list.
fn extended_topology(topology: Topology) -> [kvm_cpuid_entry2; 3] {
    const THREADS: u32 = 1;
    const CORES: u32 = 2;
    let level = |index: u32, kind: u32, id_bits: u32, cpus: u32| kvm_cpuid_entry2 {
        function: 0xb,
        index,
        flags: kvm_bindings::KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
        eax: id_bits,
        ebx: cpus,
        ecx: (kind << 8) | index,
        ..Default::default()
    };
    [
        level(0, THREADS, 0, 1),
        level(1, CORES, topology.core_bits(), u32::from(topology.cpus)),
        level(2, 0, 0, 0),
    ]
}

/// The fields all CPUs share.
fn adjust(entry: &mut kvm_cpuid_entry2, topology: Topology) {
    let cpus = u32::from(topology.cpus);
    match entry.function {
        // No leaf above the ones kept; 0x1f would repeat 0xb.
        0 => entry.eax = entry.eax.min(0x1e),
        1 => {
            entry.ebx = (entry.ebx & 0xff00_ffff) | (cpus << 16);
            // The timer is emulated by KVM's local APIC whatever the host has, and spares the kernel the calibration
            // of an APIC timer, for which there is no PIT here.
            entry.ecx |= TSC_DEADLINE_TIMER | HYPERVISOR;
            entry.ecx &= !(MONITOR | VMX);
            entry.edx = if cpus > 1 {
                entry.edx | HTT
            } else {
                entry.edx & !HTT
            };
        }
        // Intel's caches: level 1 and 2 are per core, level 3 is shared by all.
        4 if entry.eax & 0x1f != 0 => {
            let level = (entry.eax >> 5) & 7;
            let sharing = if level >= 3 { cpus } else { 1 };
            entry.eax = (entry.eax & 0x3fff) | ((sharing - 1) << 14) | ((cpus - 1) << 26);
        }
        // Power management and performance counters: the guest has neither.
        6 => {
            entry.eax &= 1 << 2; // the APIC timer runs in all sleep states
            (entry.ebx, entry.ecx, entry.edx) = (0, 0, 0);
        }
        0xa => (entry.eax, entry.ebx, entry.ecx, entry.edx) = (0, 0, 0, 0),
        7 if entry.index == 0 => entry.ecx &= !LA57,
        0x8000_0001 => {
            entry.ecx &= !(SVM | AMD_PERFORMANCE_COUNTERS);
            let legacy = if cpus > 1 { CMP_LEGACY } else { 0 };
            entry.ecx = (entry.ecx & !CMP_LEGACY) | (legacy & amd_only(entry));
        }
        // AMD: number of cores, and how many APIC id bits number them.
        0x8000_0008 => {
            entry.ecx = (entry.ecx & !0xf0ff) | (cpus - 1) | (topology.core_bits() << 12);
        }
        // AMD nested virtualization and performance monitoring version 2.
        0x8000_000a | 0x8000_0022 => (entry.eax, entry.ebx, entry.ecx, entry.edx) = (0, 0, 0, 0),
        // AMD's caches, as in leaf 4.
        0x8000_001d if entry.eax & 0x1f != 0 => {
            let level = (entry.eax >> 5) & 7;
            let sharing = if level >= 3 { cpus } else { 1 };
            entry.eax = (entry.eax & 0x3fff) | ((sharing - 1) << 14);
        }
        _ => {}
    }
}

/// `u32::MAX` on CPUs that have AMD's topology leaves, else 0.
fn amd_only(entry: &kvm_cpuid_entry2) -> u32 {
    if entry.ecx & TOPOLOGY_EXTENSIONS == 0 {
        0
    } else {
        u32::MAX
    }
}

/// The fields that number a CPU.
fn set_cpu_number(entry: &mut kvm_cpuid_entry2, apic_id: u8) {
    let id = u32::from(apic_id);
    match entry.function {
        1 => entry.ebx = (entry.ebx & 0x00ff_ffff) | (id << 24),
        0xb => entry.edx = id,
        // AMD: APIC id; core number with one thread per core; one node.
        0x8000_001e => {
            entry.eax = id;
            entry.ebx = id;
            entry.ecx = 0;
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(function: u32, registers: [u32; 4]) -> kvm_cpuid_entry2 {
        let [eax, ebx, ecx, edx] = registers;
        kvm_cpuid_entry2 {
            function,
            eax,
            ebx,
            ecx,
            edx,
            ..Default::default()
        }
    }

    fn find(cpuid: &CpuId, function: u32, index: u32) -> kvm_cpuid_entry2 {
        *cpuid
            .as_slice()
            .iter()
            .find(|entry| entry.function == function && entry.index == index)
            .unwrap()
    }

    #[test]
    fn the_host_topology_does_not_shine_through() {
        let host = [
            leaf(0, [0x20, 0, 0, 0]),
            leaf(1, [0, 0x2a40_0800, VMX | MONITOR, HTT]),
            leaf(0xb, [7, 64, 0x201, 42]),
            leaf(0x1f, [7, 64, 0x201, 42]),
        ];
        let guest = GuestCpuid::from_supported(&host, Topology { cpus: 2 });
        let second = guest.for_cpu(1).unwrap();
        assert_eq!(find(&second, 1, 0).ebx, 0x0102_0800);
        assert_eq!(find(&second, 1, 0).ecx, HYPERVISOR | TSC_DEADLINE_TIMER);
        assert_eq!(find(&second, 0xb, 1).eax, 1);
        assert_eq!(find(&second, 0xb, 1).ebx, 2);
        assert_eq!(find(&second, 0xb, 1).edx, 1);
        assert!(second.as_slice().iter().all(|entry| entry.function != 0x1f));
    }

    #[test]
    fn one_cpu_needs_no_core_bits() {
        assert_eq!(Topology { cpus: 1 }.core_bits(), 0);
        assert_eq!(Topology { cpus: 2 }.core_bits(), 1);
        assert_eq!(Topology { cpus: 3 }.core_bits(), 2);
        assert_eq!(Topology { cpus: 8 }.core_bits(), 3);
    }
}
