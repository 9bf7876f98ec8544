//! The first serial port, where the guest's kernel prints.

use std::io;
use std::sync::{Arc, Mutex};

use vm_superio::serial::NoEvents;
use vm_superio::{Serial, Trigger};
use vmm_sys_util::eventfd::EventFd;

use crate::bus::BusDevice;
use crate::console::{ConsoleWriter, SharedConsole};

#[derive(Debug)]
pub(crate) struct SerialPort {
    port: Mutex<Uart>,
}

type Uart = Serial<InterruptLine, NoEvents, ConsoleWriter>;

/// Edge-triggered interrupt through an irqfd.
#[derive(Debug)]
struct InterruptLine(EventFd);

impl Trigger for InterruptLine {
    type E = io::Error;

    fn trigger(&self) -> io::Result<()> {
        self.0.write(1)
    }
}

impl SerialPort {
    pub(crate) fn new(interrupt: EventFd, console: &SharedConsole) -> Self {
        let uart = Serial::new(InterruptLine(interrupt), ConsoleWriter::new(Arc::clone(console)));
        Self {
            port: Mutex::new(uart),
        }
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
