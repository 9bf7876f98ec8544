//! The namespace: virtio windows, the serial port, pvpanic and the off state.

use acpi_tables::Aml;
use acpi_tables::aml::{
    Device, EISAName, IO, Interrupt, Memory32Fixed, Name, ONE, Package, Path, ResourceTemplate, Scope, ZERO,
};
use acpi_tables::sdt::Sdt;

use super::{MmioWindow, OEM_ID, OEM_REVISION, OEM_TABLE_ID};
use crate::layout::{PVPANIC_PORT, SERIAL_GSI, SERIAL_PORT, SERIAL_PORT_COUNT};
use crate::legacy::power::SLEEP_TYPE_OFF;

/// Bytes of a table header; the AML starts behind it.
const HEADER_BYTES: u32 = 36;
/// ACPI 2.0 and later: integers have 64 bits.
const REVISION: u8 = 2;

pub(super) fn table(windows: &[MmioWindow]) -> Vec<u8> {
    let mut sdt = Sdt::new(
        *b"DSDT",
        HEADER_BYTES,
        REVISION,
        OEM_ID,
        OEM_TABLE_ID,
        OEM_REVISION,
    );
    let mut children = vec![serial_port(), pvpanic()];
    children.extend((0..).zip(windows).map(|(index, window)| virtio(index, window)));
    let children = children.iter().map(|device| device as &dyn Aml).collect();
    let scope = super::bytes_of(&Scope::new(Path::new("_SB_"), children));
    sdt.append_slice(&scope);
    // \_S5: the sleep type to write to the sleep control register, once for each of the registers a PC used to have.
    let off = Name::new(
        Path::new("_S5_"),
        &Package::new(vec![&SLEEP_TYPE_OFF, &SLEEP_TYPE_OFF, &ZERO, &ZERO]),
    );
    sdt.append_slice(&super::bytes_of(&off));
    sdt.update_checksum();
    sdt.as_slice().to_vec()
}

/// Bytes of a device that is built already: `acpi_tables` objects borrow their children.
struct Built(Vec<u8>);

impl Aml for Built {
    fn to_aml_bytes(&self, sink: &mut dyn acpi_tables::AmlSink) {
        sink.vec(&self.0);
    }
}

/// A virtio-mmio transport. `_CCA` says that DMA is cache-coherent; without it the kernel refuses DMA on some
/// configurations.
fn virtio(index: u32, window: &MmioWindow) -> Built {
    let registers = Memory32Fixed::new(true, window.start, window.bytes);
    let interrupt = Interrupt::new(true, true, false, false, window.gsi);
    device(
        &format!("VR{index:02X}"),
        vec![
            &Name::new(Path::new("_HID"), &"LNRO0005"),
            &Name::new(Path::new("_UID"), &index),
            &Name::new(Path::new("_CCA"), &ONE),
            &Name::new(
                Path::new("_CRS"),
                &ResourceTemplate::new(vec![&registers, &interrupt]),
            ),
        ],
    )
}

/// A 16550A, named here because a hardware-reduced machine has no ISA interrupts by default.
fn serial_port() -> Built {
    let ports = ports(SERIAL_PORT, SERIAL_PORT_COUNT);
    let interrupt = Interrupt::new(true, true, false, false, SERIAL_GSI);
    device(
        "COM1",
        vec![
            &Name::new(Path::new("_HID"), &EISAName::new("PNP0501")),
            &Name::new(Path::new("_UID"), &ZERO),
            &Name::new(
                Path::new("_CRS"),
                &ResourceTemplate::new(vec![&ports, &interrupt]),
            ),
        ],
    )
}

/// The panic notifier, with the name the kernel's `pvpanic-mmio` driver looks for; it takes ports as well as memory.
fn pvpanic() -> Built {
    let ports = ports(PVPANIC_PORT, 1);
    device(
        "PEVT",
        vec![
            &Name::new(Path::new("_HID"), &"QEMU0001"),
            &Name::new(Path::new("_CRS"), &ResourceTemplate::new(vec![&ports])),
        ],
    )
}

fn ports(start: u16, count: u16) -> IO {
    IO::new(start, start, 1, u8::try_from(count).unwrap_or(u8::MAX))
}

fn device(name: &str, children: Vec<&dyn Aml>) -> Built {
    Built(super::bytes_of(&Device::new(Path::new(name), children)))
}
