//! pvpanic: one port on which a guest's kernel says that it panicked (QEMU's `docs/specs/pvpanic.rst`).

use std::sync::Once;

use crate::bus::BusDevice;
use crate::events::{EventSender, MachineEvent};

/// The one event offered: the kernel panicked and the host is to deal with it.
const PANICKED: u8 = 1;

#[derive(Debug)]
pub(crate) struct Pvpanic {
    events: EventSender,
    sent: Once,
}

impl Pvpanic {
    pub(crate) fn new(events: EventSender) -> Self {
        Self {
            events,
            sent: Once::new(),
        }
    }
}

impl BusDevice for Pvpanic {
    /// The events this device understands.
    fn read(&self, _offset: u64, data: &mut [u8]) {
        if let Some(byte) = data.first_mut() {
            *byte = PANICKED;
        }
    }

    fn write(&self, _offset: u64, data: &[u8]) {
        if data.first().is_some_and(|byte| byte & PANICKED != 0) {
            self.sent.call_once(|| self.events.send(MachineEvent::Panicked));
        }
    }
}
