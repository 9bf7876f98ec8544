//! Arbitrary frames of a guest on a wire.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| net::fuzz_frames(data));
