//! Registers, descriptors and page tables of the boot CPU, as the 64-bit Linux boot protocol wants them
//! (`Documentation/arch/x86/boot.rst`, "64-bit Boot Protocol").

use kvm_bindings::{kvm_fpu, kvm_regs, kvm_segment};
use kvm_ioctls::VcpuFd;
use vm_memory::{Bytes as _, GuestAddress};

use super::{CpuError, GuestCpuid};
use crate::layout::{BOOT_STACK_TOP, GDT_START, IDT_START, PAGE_BYTES, PAGE_TABLES_START, ZERO_PAGE_START};
use crate::memory::GuestMemory;

const CR0_PROTECTED: u64 = 1;
const CR0_EXTENSION_TYPE: u64 = 1 << 4;
const CR0_NUMERIC_ERROR: u64 = 1 << 5;
const CR0_PAGING: u64 = 1 << 31;
const CR4_PAE: u64 = 1 << 5;
const EFER_LONG_ENABLE: u64 = 1 << 8;
const EFER_LONG_ACTIVE: u64 = 1 << 10;
/// Bit 1 of RFLAGS always reads as one.
const RFLAGS_RESERVED: u64 = 1 << 1;

/// Page table entry bits.
const PRESENT_WRITABLE: u64 = 0b11;
const LARGE_PAGE: u64 = 1 << 7;
/// Size of what one page directory entry maps, in bytes.
const LARGE_PAGE_BYTES: u64 = 2 << 20;
/// Entries in a page table of any level.
const TABLE_ENTRIES: u64 = 512;

/// Segment selectors the boot protocol prescribes (`__BOOT_CS`, `__BOOT_DS`).
const CODE_SELECTOR: u16 = 0x10;
const DATA_SELECTOR: u16 = 0x18;
/// Flat descriptors: null, null, 64-bit code, data. The CPU sets the accessed bit (bit 40); it is set here already.
const GDT: [u64; 4] = [0, 0, 0x00af_9b00_0000_ffff, 0x00cf_9300_0000_ffff];

/// Offsets into the local APIC page, and the delivery mode for NMIs.
const APIC_LVT_LINT1: usize = 0x360;
const APIC_MODE_NMI: u32 = 4 << 8;

/// Writes the descriptor table and the page tables that map the first GiB one to one.
pub(crate) fn write_boot_tables(memory: &GuestMemory) -> Result<(), CpuError> {
    let write = |value: u64, address: u64| {
        memory
            .write_obj(value.to_le(), GuestAddress(address))
            .map_err(CpuError::WriteTables)
    };
    for (descriptor, address) in GDT.into_iter().zip((GDT_START..).step_by(8)) {
        write(descriptor, address)?;
    }
    write(0, IDT_START)?;

    let (pml4, pdpt) = (PAGE_TABLES_START, PAGE_TABLES_START + PAGE_BYTES);
    let directory = pdpt + PAGE_BYTES;
    write(pdpt | PRESENT_WRITABLE, pml4)?;
    write(directory | PRESENT_WRITABLE, pdpt)?;
    for index in 0..TABLE_ENTRIES {
        let entry = (index * LARGE_PAGE_BYTES) | PRESENT_WRITABLE | LARGE_PAGE;
        write(entry, directory + index * 8)?;
    }
    Ok(())
}

/// Points the boot CPU at the kernel.
pub(crate) fn setup_boot_cpu(vcpu: &VcpuFd, entry: u64) -> Result<(), CpuError> {
    let set = |what| move |source| CpuError::Set { what, source };
    vcpu.set_regs(&kvm_regs {
        rflags: RFLAGS_RESERVED,
        rip: entry,
        rsp: BOOT_STACK_TOP,
        rsi: ZERO_PAGE_START,
        ..Default::default()
    })
    .map_err(set("registers"))?;
    // Default control words of the x87 and SSE units (Intel SDM volume 3A, table 11-1).
    vcpu.set_fpu(&kvm_fpu {
        fcw: 0x37f,
        mxcsr: 0x1f80,
        ..Default::default()
    })
    .map_err(set("floating-point state"))?;
    set_long_mode(vcpu)
}

fn set_long_mode(vcpu: &VcpuFd) -> Result<(), CpuError> {
    const WHAT: &str = "system registers";
    let mut system = vcpu
        .get_sregs()
        .map_err(|source| CpuError::Get { what: WHAT, source })?;
    let data = segment(DATA_SELECTOR, false);
    system.cs = segment(CODE_SELECTOR, true);
    (system.ds, system.es, system.fs, system.gs, system.ss) = (data, data, data, data, data);
    system.gdt.base = GDT_START;
    system.gdt.limit = 8 * 4 - 1;
    system.idt.base = IDT_START;
    system.idt.limit = 7;
    system.cr0 = CR0_PROTECTED | CR0_EXTENSION_TYPE | CR0_NUMERIC_ERROR | CR0_PAGING;
    system.cr3 = PAGE_TABLES_START;
    system.cr4 = CR4_PAE;
    system.efer = EFER_LONG_ENABLE | EFER_LONG_ACTIVE;
    vcpu.set_sregs(&system)
        .map_err(|source| CpuError::Set { what: WHAT, source })
}

/// The hidden part of a flat segment register; says the same as the descriptor in [`GDT`].
fn segment(selector: u16, code: bool) -> kvm_segment {
    kvm_segment {
        base: 0,
        limit: u32::MAX,
        selector,
        // Accessed; code: executable and readable, data: writable.
        type_: if code { 0b1011 } else { 0b0011 },
        present: 1,
        dpl: 0,
        db: u8::from(!code),
        s: 1,
        l: u8::from(code),
        g: 1,
        ..Default::default()
    }
}

/// Turns on in XCR0 all extended state the CPU has, which is what Linux does with it anyway. QEMU's emulated SVM does
/// not intercept XSETBV, so KVM on it never learns what the guest wrote: with the architectural reset value here, it
/// would compute wrong sizes in CPUID and take the guest's AVX away at the next entry.
pub(super) fn set_extended_control(vcpu: &VcpuFd, cpuid: &GuestCpuid) -> Result<(), CpuError> {
    const WHAT: &str = "extended control register";
    let state = cpuid.extended_state();
    if state == 0 {
        return Ok(());
    }
    let mut registers = vcpu
        .get_xcrs()
        .map_err(|source| CpuError::Get { what: WHAT, source })?;
    registers.nr_xcrs = 1;
    registers.xcrs[0].xcr = 0;
    registers.xcrs[0].value = state;
    vcpu.set_xcrs(&registers)
        .map_err(|source| CpuError::Set { what: WHAT, source })
}

/// NMIs arrive on LINT1, as the MADT says. LINT0 stays masked: there is no 8259 wired to it that anyone programs.
pub(super) fn set_local_apic(vcpu: &VcpuFd) -> Result<(), CpuError> {
    const WHAT: &str = "local APIC";
    let mut apic = vcpu
        .get_lapic()
        .map_err(|source| CpuError::Get { what: WHAT, source })?;
    for (register, byte) in apic.regs[APIC_LVT_LINT1..]
        .iter_mut()
        .zip(APIC_MODE_NMI.to_le_bytes())
    {
        *register = byte.cast_signed();
    }
    vcpu.set_lapic(&apic)
        .map_err(|source| CpuError::Set { what: WHAT, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_tables_map_the_first_gib_one_to_one() {
        let memory = GuestMemory::from_ranges(&[(GuestAddress(0), 1 << 20)]).unwrap();
        write_boot_tables(&memory).unwrap();
        let entry = |address| memory.read_obj::<u64>(GuestAddress(address)).unwrap();
        let table = |entry: u64| entry & !0xfff;
        for address in [0, 0x100_0000, (1 << 30) - LARGE_PAGE_BYTES] {
            let directory = table(entry(table(entry(PAGE_TABLES_START))));
            let mapped = entry(directory + address / LARGE_PAGE_BYTES * 8);
            assert_eq!(mapped, address | PRESENT_WRITABLE | LARGE_PAGE);
        }
    }
}
