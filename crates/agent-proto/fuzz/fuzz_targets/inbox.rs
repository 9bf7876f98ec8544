//! Arbitrary bytes in arbitrary pieces, read as the agent reads a connection.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| guest::fuzz_inbox(data));
