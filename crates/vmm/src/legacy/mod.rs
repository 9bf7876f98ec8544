//! The few devices of a PC that are left: a serial port, power registers, pvpanic, and the reset line of the keyboard
//! controller.

pub(crate) mod power;
mod pvpanic;
mod serial;

pub(crate) use power::{KeyboardReset, PowerRegisters};
pub(crate) use pvpanic::Pvpanic;
pub(crate) use serial::{SavedSerial, SerialPort};
pub(crate) use vm_superio::serial::SerialState;
