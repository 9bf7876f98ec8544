//! Holds clones back until the last of them has been made.
//!
//! A child has tens of milliseconds of work before it; on a busy CPU it would do that between two forks, while the
//! parent's guest stands still.

use std::io::{self, PipeReader, PipeWriter, Read as _};

/// Closed while its owner holds it. Children inherit it and wait.
#[derive(Debug)]
pub(super) struct Gate {
    reader: PipeReader,
    writer: PipeWriter,
}

impl Gate {
    pub(super) fn new() -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        Ok(Self { reader, writer })
    }

    /// In a child: returns when the parent has dropped the gate, or is gone.
    pub(super) fn wait(self) {
        let Self { mut reader, writer } = self;
        drop(writer);
        // Nothing is ever written: this is the end of the pipe, which comes when nobody can write any more.
        let _ = reader.read(&mut [0]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{self, TryRecvError};
    use std::thread;

    #[test]
    fn whoever_waits_goes_on_when_the_gate_is_dropped() {
        let gate = Gate::new().unwrap();
        let inherited = Gate {
            reader: gate.reader.try_clone().unwrap(),
            writer: gate.writer.try_clone().unwrap(),
        };
        let (through, came) = mpsc::channel();
        let child = thread::spawn(move || {
            inherited.wait();
            through.send(()).unwrap();
        });
        assert_eq!(came.try_recv(), Err(TryRecvError::Empty));
        drop(gate);
        child.join().unwrap();
        assert_eq!(came.try_recv(), Ok(()));
    }
}
