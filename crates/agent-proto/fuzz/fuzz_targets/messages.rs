//! Arbitrary frames, decoded by both sides.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| agent_proto::fuzz_messages(data));
