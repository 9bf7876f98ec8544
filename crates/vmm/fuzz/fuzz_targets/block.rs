//! A hostile driver against the block device.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| vmm::virtio::fuzz::fuzz_block(data));
