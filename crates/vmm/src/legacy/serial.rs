//! The first serial port, where the guest's kernel prints.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
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

/// What the driver has set up, in a snapshot.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SavedSerial {
    baud_divisor: [u8; 2],
    interrupt_enable: u8,
    interrupt_identification: u8,
    line_control: u8,
    line_status: u8,
    modem_control: u8,
    modem_status: u8,
    scratch: u8,
    in_buffer: Vec<u8>,
}

impl From<SerialState> for SavedSerial {
    fn from(state: SerialState) -> Self {
        Self {
            baud_divisor: [state.baud_divisor_low, state.baud_divisor_high],
            interrupt_enable: state.interrupt_enable,
            interrupt_identification: state.interrupt_identification,
            line_control: state.line_control,
            line_status: state.line_status,
            modem_control: state.modem_control,
            modem_status: state.modem_status,
            scratch: state.scratch,
            in_buffer: state.in_buffer,
        }
    }
}

impl From<SavedSerial> for SerialState {
    fn from(saved: SavedSerial) -> Self {
        let [baud_divisor_low, baud_divisor_high] = saved.baud_divisor;
        Self {
            baud_divisor_low,
            baud_divisor_high,
            interrupt_enable: saved.interrupt_enable,
            interrupt_identification: saved.interrupt_identification,
            line_control: saved.line_control,
            line_status: saved.line_status,
            modem_control: saved.modem_control,
            modem_status: saved.modem_status,
            scratch: saved.scratch,
            in_buffer: saved.in_buffer,
        }
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
