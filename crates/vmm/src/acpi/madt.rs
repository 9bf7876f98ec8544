//! Interrupt controllers: one local APIC per CPU, one I/O APIC, NMIs on LINT1.

use acpi_tables::madt::{EnabledStatus, IoApic, LocalInterruptController, MADT, ProcessorLocalApic};
use acpi_tables::{Aml, AmlSink};

use super::{OEM_ID, OEM_REVISION, OEM_TABLE_ID};
use crate::layout::{IO_APIC_START, LOCAL_APIC_START};

/// "Local APIC NMI" (ACPI 6.5, section 5.2.12.7): type, length, all processors, default polarity and trigger, LINT1.
const NMI_ON_LINT1: [u8; 6] = [4, 6, 0xff, 0, 0, 1];

/// A MADT with one structure behind it that `acpi_tables` does not know.
pub(super) struct Madt {
    bytes: Vec<u8>,
}

pub(super) fn table(cpus: u8) -> Madt {
    let address = LocalInterruptController::Address(LOCAL_APIC_START);
    let mut madt = MADT::new(OEM_ID, OEM_TABLE_ID, OEM_REVISION, address);
    for id in 0..cpus {
        madt.add_structure(ProcessorLocalApic::new(id, id, EnabledStatus::Enabled));
    }
    madt.add_structure(IoApic::new(0, IO_APIC_START, 0));
    let mut bytes = super::bytes_of(&madt);
    bytes.extend_from_slice(&NMI_ON_LINT1);
    fix_header(&mut bytes);
    Madt { bytes }
}

/// Sets length and checksum of a table that was appended to.
fn fix_header(table: &mut [u8]) {
    let len = u32::try_from(table.len()).unwrap_or(u32::MAX);
    if let Some(field) = table.get_mut(4..8) {
        field.copy_from_slice(&len.to_le_bytes());
    }
    if let Some(checksum) = table.get_mut(9) {
        *checksum = 0;
    }
    let sum = table.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    if let Some(checksum) = table.get_mut(9) {
        *checksum = sum.wrapping_neg();
    }
}

impl Aml for Madt {
    fn to_aml_bytes(&self, sink: &mut dyn AmlSink) {
        sink.vec(&self.bytes);
    }
}
