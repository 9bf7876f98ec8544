//! The CONNECT line of host processes.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| vmm::virtio::vsock::greeting::fuzz_greeting(data));
