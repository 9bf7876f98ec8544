//! Real guests in real VM processes: clones, snapshots and what they cost.
//!
//! Needs a KVM that runs guests, and images: `PODFLARE_TEST_IMAGES` is a directory with `vmlinux` and `default.ext4`,
//! `PODFLARE_TEST_INITRD` an initrd, `PODFLARE_TEST_VMM` the binary if it is not the one built along. Run one at a
//! time: `cargo test -p podflare-vmm --test machine -- --ignored --test-threads 1 --nocapture`.
#![expect(clippy::print_stderr, reason = "what was measured is for whoever runs this")]
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on fails; helpers here are tests too"
)]

mod agent;
mod clones;
mod snapshots;
mod vm;
