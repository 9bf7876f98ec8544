//! The virtual machine monitor: one VM in one process.
//!
//! Read in this order: [`main_loop`] (the process), `session` and `machine` (one VM), `vcpu` (its CPUs), `devices`
//! and [`virtio`] (what it sees), `boot`, `arch` and `acpi` (how it starts).
//!
//! This crate is the only home of `unsafe` and of KVM. It must not know HTTP, sandboxes, images or the agent: a VM is a
//! kernel, an initrd, a disk and a socket. There is no asynchronous runtime here, and no thread but the main loop's and
//! the vCPUs'.

pub mod confine;
pub mod main_loop;
pub mod probe;

mod clone;
mod freeze;
mod run_state;
mod session;
mod snapshot;
mod state;

mod bus;
mod console;
mod control;
mod devices;
mod events;
mod legacy;
pub mod machine;
pub mod memory;
mod proc;
mod requests;
mod resident;
mod vcpu;
mod working_set;

mod acpi;
mod arch;
mod boot;
mod layout;
mod log;

pub mod disk;
pub mod virtio;

pub use main_loop::{MainLoop, RunError};
pub use probe::{ProbeReport, probe};
