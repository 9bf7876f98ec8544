//! Arbitrary bytes as the beginning of a connection.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| net::fuzz_first_bytes(data));
