//! A hostile driver against the socket device.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| vmm::virtio::fuzz::fuzz_vsock(data));
