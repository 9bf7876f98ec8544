//! The root disk.
