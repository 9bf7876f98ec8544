//! A hostile driver against the entropy device.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| vmm::virtio::fuzz::fuzz_rng(data));
