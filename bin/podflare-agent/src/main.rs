//! The agent: PID 1 of a guest, or with `--unix` an ordinary process for tests and for people.
#![forbid(unsafe_code)]

mod machine;
mod native;
mod template;

use std::process::ExitCode;

fn main() -> ExitCode {
    // The kernel's command line gives PID 1 arguments of its own; they are not ours.
    if std::process::id() == 1 {
        machine::run()
    } else {
        native::run()
    }
}
