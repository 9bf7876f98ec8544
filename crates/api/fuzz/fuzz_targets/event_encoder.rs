//! Output of a guest, cut anywhere, becomes well-formed events.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| api::fuzz_event_encoder(data));
