//! Guest memory: the one type every part of this crate reaches it through.
//!
//! It is touched only through volatile accessors of `vm-memory`; no Rust reference into it ever exists, because the
//! guest writes to it at any time.

/// All RAM of one guest.
pub type GuestMemory = vm_memory::GuestMemoryMmap<()>;
