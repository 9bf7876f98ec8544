//! `struct boot_params`: the header fields of the boot protocol and the memory map
//! (`Documentation/arch/x86/boot.rst` and `zero-page.rst`).

use linux_loader::loader::bootparam::{boot_e820_entry, boot_params};
use vm_memory::{Bytes as _, GuestAddress, GuestMemoryBackend as _, GuestMemoryRegion as _};

use super::{BootError, Extent};
use crate::layout::{ACPI_START, COMMAND_LINE_START, HIGH_RAM_START, LOW_RAM_END, ZERO_PAGE_START};
use crate::memory::GuestMemory;

/// "HdrS" and the boot sector's signature.
const HEADER_MAGIC: u32 = 0x5372_6448;
const BOOT_FLAG: u16 = 0xaa55;
/// A boot loader without a registered number.
const LOADER_OTHER: u8 = 0xff;
/// Version 2.15 of the protocol, the first in which `acpi_rsdp_addr` counts.
const PROTOCOL_VERSION: u16 = 0x020f;
/// The kernel may assume it is loaded at its preferred address.
const KERNEL_ALIGNMENT_BYTES: u32 = 0x100_0000;

/// Types of ranges in the memory map.
const E820_RAM: u32 = 1;
const E820_RESERVED: u32 = 2;

pub(super) fn write(
    memory: &GuestMemory,
    rsdp: u64,
    initrd: Extent,
    command_line_bytes: usize,
) -> Result<(), BootError> {
    let mut params = boot_params::default();
    params.hdr.boot_flag = BOOT_FLAG;
    params.hdr.header = HEADER_MAGIC;
    params.hdr.version = PROTOCOL_VERSION;
    params.hdr.type_of_loader = LOADER_OTHER;
    params.hdr.kernel_alignment = KERNEL_ALIGNMENT_BYTES;
    (params.hdr.cmd_line_ptr, params.ext_cmd_line_ptr) = halves(COMMAND_LINE_START);
    params.hdr.cmdline_size = u32::try_from(command_line_bytes).map_err(|_| BootError::MemoryMap)?;
    (params.hdr.ramdisk_image, params.ext_ramdisk_image) = halves(initrd.start);
    (params.hdr.ramdisk_size, params.ext_ramdisk_size) = halves(initrd.bytes);
    params.acpi_rsdp_addr = rsdp;

    let map = memory_map(memory);
    let table = params
        .e820_table
        .get_mut(..map.len())
        .ok_or(BootError::MemoryMap)?;
    table.copy_from_slice(&map);
    params.e820_entries = u8::try_from(map.len()).map_err(|_| BootError::MemoryMap)?;
    memory
        .write_obj(params, GuestAddress(ZERO_PAGE_START))
        .map_err(BootError::Write)
}

/// Low and high half of an address or size.
#[expect(clippy::cast_possible_truncation, reason = "cutting into halves is the point")]
fn halves(value: u64) -> (u32, u32) {
    (value as u32, (value >> 32) as u32)
}

/// RAM, less what a PC keeps between 640 KiB and 1 MiB.
fn memory_map(memory: &GuestMemory) -> Vec<boot_e820_entry> {
    let range = |kind, start, end| boot_e820_entry {
        addr: start,
        size: end - start,
        r#type: kind,
    };
    let mut map = vec![
        range(E820_RAM, 0, LOW_RAM_END),
        range(E820_RESERVED, ACPI_START, HIGH_RAM_START),
    ];
    map.extend(memory.iter().map(|region| {
        let start = region.start_addr().0;
        range(E820_RAM, start.max(HIGH_RAM_START), start + region.len())
    }));
    map
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::HOLE_END;

    #[test]
    fn the_memory_map_is_ordered_and_leaves_the_bios_area_out() {
        let memory =
            GuestMemory::from_ranges(&[(GuestAddress(0), 2 << 20), (GuestAddress(HOLE_END), 1 << 20)])
                .unwrap();
        let map = memory_map(&memory);
        for pair in map.windows(2) {
            let (end, next) = (pair[0].addr + pair[0].size, pair[1].addr);
            assert!(end <= next);
        }
        let ram: Vec<_> = map
            .iter()
            .filter(|entry| entry.r#type == E820_RAM)
            .map(|entry| (entry.addr, entry.size))
            .collect();
        assert_eq!(ram, [(0, LOW_RAM_END), (1 << 20, 1 << 20), (HOLE_END, 1 << 20)]);
    }

    #[test]
    fn the_header_says_where_the_initrd_is() {
        let memory = GuestMemory::from_ranges(&[(GuestAddress(0), 2 << 20)]).unwrap();
        let initrd = Extent {
            start: 0x1_2345_6000,
            bytes: 0x789,
        };
        write(&memory, ACPI_START, initrd, 17).unwrap();
        let params: boot_params = memory.read_obj(GuestAddress(ZERO_PAGE_START)).unwrap();
        let header = params.hdr;
        assert_eq!({ header.ramdisk_image }, 0x2345_6000);
        assert_eq!({ params.ext_ramdisk_image }, 1);
        assert_eq!({ header.ramdisk_size }, 0x789);
        assert_eq!({ params.acpi_rsdp_addr }, ACPI_START);
        assert_eq!(params.e820_entries, 3);
    }
}
