//! Where everything lies in the guest's physical address space.
//!
//! ```text
//! 0x0000_0000  boot structures (GDT, zero page, page tables, command line), then free RAM
//! 0x0009_fc00  end of the RAM a PC has below 640 KiB
//! 0x000e_0000  ACPI tables (reserved in the memory map)
//! 0x0010_0000  RAM; the kernel loads itself at 16 MiB, the initrd ends where this RAM does
//! 0xd000_0000  hole: virtio-mmio windows, I/O APIC, local APIC, pages KVM needs for itself
//! 0x1_0000_0000  the RAM that did not fit below the hole
//! ```

/// Size of an x86 page, in bytes.
pub(crate) const PAGE_BYTES: u64 = 4096;

/// Global descriptor table the boot CPU starts with.
pub(crate) const GDT_START: u64 = 0x500;
/// Interrupt descriptor table the boot CPU starts with; empty, the kernel brings its own.
pub(crate) const IDT_START: u64 = 0x520;
/// `struct boot_params` ("zero page") of the Linux boot protocol.
pub(crate) const ZERO_PAGE_START: u64 = 0x7000;
/// Top of the few bytes of stack the kernel's first instructions may use.
pub(crate) const BOOT_STACK_TOP: u64 = 0x8ff0;
/// First of the page tables that map the first GiB one to one: PML4, then PDPT, then one page directory.
pub(crate) const PAGE_TABLES_START: u64 = 0x9000;
/// Kernel command line.
pub(crate) const COMMAND_LINE_START: u64 = 0x2_0000;
/// Longest kernel command line with its terminating zero (`COMMAND_LINE_SIZE` of x86 Linux).
pub(crate) const COMMAND_LINE_BYTES_MAX: usize = 2048;

/// End of RAM below 640 KiB; a PC's firmware keeps its extended data area behind it.
pub(crate) const LOW_RAM_END: u64 = 0x9_fc00;
/// The ACPI tables start here (where a kernel also scans for them by itself).
pub(crate) const ACPI_START: u64 = 0xe_0000;
/// First byte behind the ACPI tables; RAM goes on here.
pub(crate) const HIGH_RAM_START: u64 = 0x10_0000;

/// RAM stops here …
pub(crate) const HOLE_START: u64 = 0xd000_0000;
/// … and goes on here.
pub(crate) const HOLE_END: u64 = 0x1_0000_0000;

/// First virtio-mmio window; the others follow directly.
pub(crate) const VIRTIO_START: u64 = HOLE_START;
/// I/O APIC of KVM's irqchip (fixed by KVM).
pub(crate) const IO_APIC_START: u32 = 0xfec0_0000;
/// Local APICs (architectural reset value).
pub(crate) const LOCAL_APIC_START: u32 = 0xfee0_0000;
/// Three pages KVM needs on Intel CPUs for guests in real mode (`KVM_SET_TSS_ADDR`), one page in front of them for
/// its identity map.
pub(crate) const KVM_TSS_START: u64 = 0xfffb_d000;
pub(crate) const KVM_IDENTITY_MAP_START: u64 = 0xfffb_c000;

/// Interrupt line of the first serial port (ISA).
pub(crate) const SERIAL_GSI: u32 = 4;
/// First interrupt line for virtio devices: above the ISA lines, whose trigger mode and PIC wiring have history.
pub(crate) const VIRTIO_GSI_START: u32 = 16;
/// Lines of KVM's I/O APIC.
pub(crate) const GSI_COUNT: u32 = 24;

/// First serial port: base and number of I/O ports.
pub(crate) const SERIAL_PORT: u16 = 0x3f8;
pub(crate) const SERIAL_PORT_COUNT: u16 = 8;
/// Keyboard controller's command port, which kernels use for a reset when ACPI is not up yet.
pub(crate) const KEYBOARD_PORT: u16 = 0x64;
/// pvpanic, at the port QEMU uses as well.
pub(crate) const PVPANIC_PORT: u16 = 0x505;
/// Power registers: sleep control, sleep status, reset.
pub(crate) const POWER_PORT: u16 = 0x600;
pub(crate) const POWER_PORT_COUNT: u16 = 3;
