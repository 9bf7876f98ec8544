//! A hostile driver and a hostile wire against the network device.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| vmm::virtio::fuzz::fuzz_net(data));
