//! The layered disk against a plain vector.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| vmm::disk::model::fuzz_disk(data));
