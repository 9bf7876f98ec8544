//! Ways for a guest to end: sleep and reset registers of a hardware-reduced ACPI machine (ACPI 6.5, section 4.8.3.7),
//! and the reset line of a PC's keyboard controller, which kernels fall back to.

use std::sync::Once;

use vmm_proto::EndCause;

use crate::bus::BusDevice;
use crate::events::{EventSender, MachineEvent};
use crate::layout::{KEYBOARD_PORT, POWER_PORT};

pub(crate) const SLEEP_CONTROL_PORT: u16 = POWER_PORT;
pub(crate) const SLEEP_STATUS_PORT: u16 = POWER_PORT + 1;
pub(crate) const RESET_PORT: u16 = POWER_PORT + 2;

/// What the FADT says to write to the reset register.
pub(crate) const RESET_VALUE: u8 = 1;
/// The sleep type that means "off", as `\_S5` says.
pub(crate) const SLEEP_TYPE_OFF: u8 = 5;
/// Bits of the sleep control register.
const SLEEP_ENABLE: u8 = 1 << 5;
const SLEEP_TYPE_SHIFT: u8 = 2;
/// Keyboard controller command: pulse output line 0, which is wired to reset.
const PULSE_RESET: u8 = 0xfe;

const SLEEP_CONTROL: u64 = 0;
const RESET: u64 = 2;

/// Sleep control, sleep status, reset: one byte each.
#[derive(Debug)]
pub(crate) struct PowerRegisters {
    end: EndOnce,
}

/// Port 0x64.
#[derive(Debug)]
pub(crate) struct KeyboardReset {
    end: EndOnce,
}

/// Reports an end the first time it is asked to; a guest may write a register for ever.
#[derive(Debug)]
struct EndOnce {
    events: EventSender,
    sent: Once,
}

impl PowerRegisters {
    pub(crate) fn new(events: EventSender) -> Self {
        Self {
            end: EndOnce::new(events),
        }
    }
}

impl KeyboardReset {
    pub(crate) const PORT: u16 = KEYBOARD_PORT;

    pub(crate) fn new(events: EventSender) -> Self {
        Self {
            end: EndOnce::new(events),
        }
    }
}

impl BusDevice for PowerRegisters {
    /// Everything reads as zero; the wake status never rises, as there is no waking.
    fn read(&self, _offset: u64, _data: &mut [u8]) {}

    fn write(&self, offset: u64, data: &[u8]) {
        const OFF: u8 = SLEEP_ENABLE | (SLEEP_TYPE_OFF << SLEEP_TYPE_SHIFT);
        match (offset, data) {
            (SLEEP_CONTROL, [OFF]) => self.end.report(EndCause::PowerOff),
            (RESET, [RESET_VALUE]) => self.end.report(EndCause::Reset),
            _ => {}
        }
    }
}

impl BusDevice for KeyboardReset {
    /// Status zero: the controller is always ready for a command.
    fn read(&self, _offset: u64, _data: &mut [u8]) {}

    fn write(&self, _offset: u64, data: &[u8]) {
        if data == [PULSE_RESET] {
            self.end.report(EndCause::Reset);
        }
    }
}

impl EndOnce {
    fn new(events: EventSender) -> Self {
        Self {
            events,
            sent: Once::new(),
        }
    }

    fn report(&self, cause: EndCause) {
        self.sent
            .call_once(|| self.events.send(MachineEvent::Ended(cause)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events;

    #[test]
    fn only_the_off_state_powers_off_and_only_once() {
        let (sender, receiver) = events::channel().unwrap();
        let power = PowerRegisters::new(sender);
        for byte in 0..=u8::MAX {
            power.write(SLEEP_CONTROL, &[byte]);
            power.write(SLEEP_CONTROL, &[byte]);
        }
        let events = receiver.drain();
        assert!(
            matches!(events[..], [MachineEvent::Ended(EndCause::PowerOff)]),
            "{events:?}"
        );
    }

    #[test]
    fn both_reset_lines_reset() {
        let (sender, receiver) = events::channel().unwrap();
        PowerRegisters::new(sender.clone()).write(RESET, &[RESET_VALUE]);
        let keyboard = KeyboardReset::new(sender);
        keyboard.write(0, &[0xd1]);
        keyboard.write(0, &[PULSE_RESET]);
        let events = receiver.drain();
        assert!(
            matches!(
                events[..],
                [
                    MachineEvent::Ended(EndCause::Reset),
                    MachineEvent::Ended(EndCause::Reset)
                ]
            ),
            "{events:?}"
        );
    }
}
