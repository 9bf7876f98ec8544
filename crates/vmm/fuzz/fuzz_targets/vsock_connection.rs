//! Any packets and host events on one connection.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| vmm::virtio::vsock::connection::fuzz::fuzz_connection(data));
