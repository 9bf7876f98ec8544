//! The virtual machine monitor: one VM in one process.

pub mod disk;
pub mod memory;
pub mod virtio;
