//! What KVM holds of a VM, as plain data: taken from one VM, put into another.
//!
//! Memory, disk and devices belong to this process and come along when it forks; this is the rest.
//!
//! ```text
//!   vCPU threads, as they park:  CpuState each     main loop:  ChipState, ClockState
//!   into a new VM:  chips -> clock -> per vCPU: CPUID, registers, local APIC, TSC offset, MSRs, events
//! ```

mod chips;
mod clock;
mod cpu;
mod msrs;
mod tsc;

pub(crate) use chips::ChipState;
pub(crate) use clock::ClockState;
pub(crate) use cpu::CpuState;
pub(crate) use msrs::MsrList;
