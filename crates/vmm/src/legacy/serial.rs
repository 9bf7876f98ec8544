//! The first serial port, where the guest's kernel prints.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use vm_superio::serial::{NoEvents, SerialState};
use vm_superio::{Serial, Trigger};

use crate::bus::BusDevice;
use crate::console::{ConsoleWriter, SharedConsole};
use crate::virtio::InterruptLine;

#[derive(Debug)]
pub(crate) struct SerialPort {
    port: Mutex<Uart>,
}

type Uart = Serial<Edge, NoEvents, ConsoleWriter>;

#[derive(Debug)]
struct Edge(Box<dyn InterruptLine>);

impl Trigger for Edge {
    type E = io::Error;

    fn trigger(&self) -> io::Result<()> {
        self.0.pulse();
        Ok(())
    }
}

impl SerialPort {
    pub(crate) fn new(line: Box<dyn InterruptLine>, console: &SharedConsole) -> Self {
        let uart = Serial::new(Edge(line), ConsoleWriter::new(Arc::clone(console)));
        Self {
            port: Mutex::new(uart),
        }
    }

    /// A port in this state. An interrupt that is due is sent again.
    pub(crate) fn from_state(
        state: &SerialState,
        line: Box<dyn InterruptLine>,
        console: &SharedConsole,
    ) -> io::Result<Self> {
        let writer = ConsoleWriter::new(Arc::clone(console));
        let uart = Serial::from_state(state, Edge(line), NoEvents, writer).map_err(io::Error::other)?;
        Ok(Self {
            port: Mutex::new(uart),
        })
    }

    pub(crate) fn state(&self) -> SerialState {
        // A thread that panicked has aborted the process, so the lock is never poisoned.
        self.port.lock().unwrap_or_else(PoisonError::into_inner).state()
    }
}

impl BusDevice for SerialPort {
    fn read(&self, offset: u64, data: &mut [u8]) {
        if let (Ok(mut port), Ok(offset), [byte]) = (self.port.lock(), u8::try_from(offset), data) {
            *byte = port.read(offset);
        }
    }

    fn write(&self, offset: u64, data: &[u8]) {
        if let (Ok(mut port), Ok(offset), [byte]) = (self.port.lock(), u8::try_from(offset), data) {
            // A full transmit buffer or a lost interrupt harms nobody but the guest.
            let _ = port.write(offset, *byte);
        }
    }
}
