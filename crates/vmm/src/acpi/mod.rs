//! ACPI tables: how the guest learns of CPUs, interrupts, devices and power.
//!
//! The machine is "hardware-reduced" (ACPI 6.5, section 4.1): no SCI, no PM timer, no fixed registers but sleep control,
//! sleep status and reset. A kernel that sees this also leaves the 8259, the PIT and the RTC alone.
//!
//! ```text
//! RSDP ─ XSDT ─┬─ FADT ─ DSDT (devices, \_S5)
//!              └─ MADT (CPUs, I/O APIC)
//! ```

mod dsdt;
mod fadt;
mod madt;

use acpi_tables::Aml;
use acpi_tables::rsdp::Rsdp;
use acpi_tables::xsdt::XSDT;
use thiserror::Error;
use vm_memory::{Bytes as _, GuestAddress, GuestMemoryError};

use crate::layout::{ACPI_START, HIGH_RAM_START};
use crate::memory::GuestMemory;

const OEM_ID: [u8; 6] = *b"PODFLR";
const OEM_TABLE_ID: [u8; 8] = *b"PODFLARE";
const OEM_REVISION: u32 = 1;
/// Tables start on multiples of this many bytes.
const TABLE_ALIGNMENT: u64 = 16;

#[derive(Debug, Error)]
pub enum AcpiError {
    #[error("the ACPI tables do not fit below 1 MiB")]
    TooLong,
    #[error("cannot write the ACPI tables to guest memory")]
    Write(#[source] GuestMemoryError),
}

/// One virtio-mmio device as the DSDT announces it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MmioWindow {
    /// Guest physical address of its registers.
    pub(crate) start: u32,
    /// Bytes of its registers.
    pub(crate) bytes: u32,
    /// Its interrupt line, edge-triggered.
    pub(crate) gsi: u32,
}

/// Writes all tables and returns the address of the root pointer.
pub(crate) fn write(memory: &GuestMemory, cpus: u8, windows: &[MmioWindow]) -> Result<u64, AcpiError> {
    // The root pointer comes first, where a kernel that is not told its address finds it; it is written last.
    let mut writer = TableWriter {
        memory,
        next: ACPI_START,
    };
    let rsdp = writer.reserve(Rsdp::len() as u64)?;
    let dsdt = writer.append(&dsdt::table(windows))?;
    let fadt = writer.append(&bytes_of(&fadt::table(dsdt)))?;
    let madt = writer.append(&bytes_of(&madt::table(cpus)))?;
    let mut xsdt = XSDT::new(OEM_ID, OEM_TABLE_ID, OEM_REVISION);
    xsdt.add_entry(fadt);
    xsdt.add_entry(madt);
    let xsdt = writer.append(&bytes_of(&xsdt))?;
    writer.write(&bytes_of(&Rsdp::new(OEM_ID, xsdt)), rsdp)?;
    Ok(rsdp)
}

struct TableWriter<'a> {
    memory: &'a GuestMemory,
    next: u64,
}

impl TableWriter<'_> {
    fn append(&mut self, table: &[u8]) -> Result<u64, AcpiError> {
        let start = self.reserve(table.len() as u64)?;
        self.write(table, start)?;
        Ok(start)
    }

    fn reserve(&mut self, bytes: u64) -> Result<u64, AcpiError> {
        let start = self.next.next_multiple_of(TABLE_ALIGNMENT);
        self.next = start + bytes;
        if self.next <= HIGH_RAM_START {
            Ok(start)
        } else {
            Err(AcpiError::TooLong)
        }
    }

    fn write(&self, table: &[u8], start: u64) -> Result<(), AcpiError> {
        self.memory
            .write_slice(table, GuestAddress(start))
            .map_err(AcpiError::Write)
    }
}

fn bytes_of(table: &dyn Aml) -> Vec<u8> {
    let mut bytes = Vec::new();
    table.to_aml_bytes(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(memory: &GuestMemory, start: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        memory.read_slice(&mut bytes, GuestAddress(start)).unwrap();
        bytes
    }

    fn u64_at(bytes: &[u8], offset: usize) -> u64 {
        u64::from_le_bytes(bytes[offset..offset + 8].try_into().unwrap())
    }

    /// Reads the table at `start` and checks its checksum.
    #[track_caller]
    fn table(memory: &GuestMemory, start: u64, signature: [u8; 4]) -> Vec<u8> {
        let header = read(memory, start, 36);
        assert_eq!(header[..4], signature);
        let len = u32::from_le_bytes(header[4..8].try_into().unwrap());
        let bytes = read(memory, start, len as usize);
        let sum = bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
        assert_eq!(sum, 0, "checksum of {}", String::from_utf8_lossy(&signature));
        bytes
    }

    #[test]
    fn every_table_is_reached_from_the_root_and_sums_to_zero() {
        let memory = GuestMemory::from_ranges(&[(GuestAddress(0), 2 << 20)]).unwrap();
        let window = MmioWindow {
            start: 0xd000_0000,
            bytes: 0x1000,
            gsi: 16,
        };
        let root = write(&memory, 2, &[window, window]).unwrap();
        let rsdp = read(&memory, root, 36);
        assert_eq!(rsdp[..8], *b"RSD PTR ");
        for covered in [20, 36] {
            let sum = rsdp[..covered]
                .iter()
                .fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
            assert_eq!(sum, 0);
        }
        let xsdt = table(&memory, u64_at(&rsdp, 24), *b"XSDT");
        let fadt = table(&memory, u64_at(&xsdt, 36), *b"FACP");
        let madt = table(&memory, u64_at(&xsdt, 44), *b"APIC");
        assert_eq!(xsdt.len(), 52);
        let dsdt = table(&memory, u64_at(&fadt, 140), *b"DSDT");
        // Two local APICs of 8 bytes, one I/O APIC of 12, one NMI line of 6.
        assert_eq!(madt.len(), 44 + 2 * 8 + 12 + 6);
        let announced = dsdt.windows(8).filter(|bytes| bytes == b"LNRO0005").count();
        assert_eq!(announced, 2);
    }
}
