//! The port bus: what is left of a PC.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use super::MachineError;
use crate::bus::{Bus, BusDevice};
use crate::console::SharedConsole;
use crate::events::EventSender;
use crate::layout;
use crate::legacy::{KeyboardReset, PowerRegisters, Pvpanic, SerialPort, SerialState};
use crate::virtio::InterruptLine;

/// The first serial port, new or in the state it had in the VM this one is a clone of.
pub(super) fn serial(
    line: Box<dyn InterruptLine>,
    console: &SharedConsole,
    state: Option<&SerialState>,
) -> io::Result<SerialPort> {
    match state {
        None => Ok(SerialPort::new(line, console)),
        Some(state) => SerialPort::from_state(state, line, console),
    }
}

/// The bus with `serial` and the devices that have no state.
pub(super) fn bus(serial: &Arc<SerialPort>, events: &EventSender) -> Result<Bus, MachineError> {
    let mut bus = Bus::default();
    let mut insert = |start: u16, count: u16, device: Arc<dyn BusDevice>| {
        bus.insert(range(start, count), device)
            .map_err(MachineError::Overlap)
    };
    insert(
        layout::SERIAL_PORT,
        layout::SERIAL_PORT_COUNT,
        Arc::clone(serial) as _,
    )?;
    insert(
        layout::POWER_PORT,
        layout::POWER_PORT_COUNT,
        Arc::new(PowerRegisters::new(events.clone())),
    )?;
    insert(
        KeyboardReset::PORT,
        1,
        Arc::new(KeyboardReset::new(events.clone())),
    )?;
    insert(layout::PVPANIC_PORT, 1, Arc::new(Pvpanic::new(events.clone())))?;
    Ok(bus)
}

fn range(start: u16, count: u16) -> Range<u64> {
    u64::from(start)..u64::from(start) + u64::from(count)
}
