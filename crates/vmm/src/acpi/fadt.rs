//! Fixed description table: this is a hardware-reduced machine, and here are its power registers.

use acpi_tables::fadt::{FADT, FADTBuilder, Flags, PmProfile};
use acpi_tables::gas::{AccessSize, AddressSpace, GAS};

use super::{OEM_ID, OEM_REVISION, OEM_TABLE_ID};
use crate::legacy::power;

/// IA-PC boot architecture flags (ACPI 6.5, table 5.10): no VGA, no MSI, no CMOS clock. The flags for legacy devices
/// and a keyboard controller stay clear.
const NO_VGA: u16 = 1 << 2;
const NO_MSI: u16 = 1 << 3;
const NO_CMOS_RTC: u16 = 1 << 5;

pub(super) fn table(dsdt: u64) -> FADT {
    let mut builder = FADTBuilder::new(OEM_ID, OEM_TABLE_ID, OEM_REVISION)
        .dsdt_64(dsdt)
        .preferred_pm_profile(PmProfile::EnterpriseServer)
        .flag(Flags::HwReducedAcpi)
        .flag(Flags::ResetRegSup)
        // There are no power and sleep buttons in fixed hardware.
        .flag(Flags::PwrButton)
        .flag(Flags::SlpButton);
    builder.iapc_boot_arch = (NO_VGA | NO_MSI | NO_CMOS_RTC).into();
    builder.reset_reg = port(power::RESET_PORT);
    builder.reset_value = power::RESET_VALUE;
    builder.sleep_control_reg = port(power::SLEEP_CONTROL_PORT);
    builder.sleep_status_reg = port(power::SLEEP_STATUS_PORT);
    builder.hypervisor_vendor_identity = u64::from_le_bytes(OEM_TABLE_ID).into();
    builder.finalize()
}

fn port(number: u16) -> GAS {
    GAS::new(
        AddressSpace::SystemIo,
        8,
        0,
        AccessSize::ByteAccess,
        number.into(),
    )
}
