//! Lines for whoever reads the console of a machine that does not come up.

use std::fs::File;
use std::io::Write;

/// Prints a line to the kernel's log, which the console shows; to the console itself where that is not possible.
pub fn say(line: &str) {
    let text = format!("podflare-agent: {line}\n");
    let sinks = ["/dev/kmsg", "/dev/console"];
    for sink in sinks {
        // One write is one record of the log. Level 2 (critical): a guest's kernel shows no other.
        let text = if sink == "/dev/kmsg" {
            format!("<2>{text}")
        } else {
            text.clone()
        };
        let written = File::options()
            .write(true)
            .open(sink)
            .and_then(|mut sink| sink.write_all(text.as_bytes()));
        if written.is_ok() {
            return;
        }
    }
}
