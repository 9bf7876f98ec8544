//! Arbitrary bytes as DNS messages.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| net::fuzz_dns(data));
