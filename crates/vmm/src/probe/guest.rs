//! The guest of the probe, in assembly. It does what any kernel does when it comes up, each a thing that a KVM which
//! cannot run ordinary guests gets wrong or takes for ever to do: page tables, the step from protected to long mode,
//! an exception through an IDT of its own, switching page tables, a timer interrupt from the local APIC after `hlt`,
//! and some plain work.
//!
//! It runs at [`LOAD_ADDRESS`] and says on [`STAGE_PORT`] how far it is.

use std::arch::global_asm;

/// Where the code expects to be; `BASE` in the assembly.
pub(super) const LOAD_ADDRESS: u64 = 0x8000;
/// The stack grows down from here.
pub(super) const STACK_TOP: u64 = 0x8000;
/// One byte written here is a stage number.
pub(super) const STAGE_PORT: u16 = 0x80;
/// The last stage.
pub(super) const STAGE_DONE: u8 = 0xff;

/// What stage `number` has just completed; the last one completed is where a stuck guest is reported.
pub(super) fn stage_name(number: u8) -> &'static str {
    match number {
        0 => "before its first output",
        1 => "protected mode",
        2 => "long mode",
        3 => "exception",
        4 => "page table switch",
        5 => "timer interrupt",
        _ => "computing",
    }
}

pub(super) fn code() -> &'static [u8] {
    // SAFETY: both symbols are labels in one section of the assembly below, the first before the second, and what is
    // between them is never written.
    unsafe {
        let start = &raw const podflare_probe_start;
        let end = &raw const podflare_probe_end;
        std::slice::from_raw_parts(start, end.offset_from_unsigned(start))
    }
}

unsafe extern "C" {
    static podflare_probe_start: u8;
    static podflare_probe_end: u8;
}

global_asm!(
    r#"
    .pushsection .rodata.podflare_probe, "a"
    .global podflare_probe_start
    .global podflare_probe_end
    .set BASE, 0x8000
    .set PML4, 0x2000           # page tables: PML4, PDPT, directory, one page each
    .set PDPT, 0x3000
    .set DIRECTORY, 0x4000
    .set PML4_COPY, 0x5000      # a second root, to switch to
    .set IDT, 0x6000
    .set APIC, 0x200000         # where the local APIC is mapped (second entry of the directory)
    .set TICKS, 0x7000          # counted by the timer's handler

    .code32
podflare_probe_start:
    cld
    mov $1, %al
    out %al, $0x80

    # Page tables from nothing: the first 2 MiB one to one, and the local APIC.
    mov $PML4, %edi
    mov $0x1800, %ecx           # to the end of the page of TICKS, in double words
    xor %eax, %eax
    rep stosl
    movl $(PDPT + 3), PML4
    movl $(PDPT + 3), PML4_COPY
    movl $(DIRECTORY + 3), PDPT
    movl $0x83, DIRECTORY
    movl $(0xfee00000 + 0x9b), DIRECTORY + 8   # uncached

    # Long mode.
    mov %cr4, %eax
    or $0x20, %eax
    mov %eax, %cr4
    mov $PML4, %eax
    mov %eax, %cr3
    mov $0xc0000080, %ecx
    rdmsr
    or $0x100, %eax
    wrmsr
    mov %cr0, %eax
    or $0x80000000, %eax
    mov %eax, %cr0
    lgdt BASE + podflare_probe_gdt_pointer - podflare_probe_start
    ljmp $0x18, $(BASE + podflare_probe_long_mode - podflare_probe_start)

    .code64
podflare_probe_long_mode:
    mov $0x20, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    mov $2, %al
    out %al, $0x80

    # An IDT with #UD and the timer, and an exception taken through it.
    mov $(IDT + 6 * 16), %edi
    mov $(BASE + podflare_probe_invalid_opcode - podflare_probe_start), %eax
    call podflare_probe_set_gate
    mov $(IDT + 32 * 16), %edi
    mov $(BASE + podflare_probe_tick - podflare_probe_start), %eax
    call podflare_probe_set_gate
    lidt BASE + podflare_probe_idt_pointer - podflare_probe_start
    xor %r8d, %r8d
    ud2
    cmp $1, %r8d
    jne podflare_probe_fail
    mov $3, %al
    out %al, $0x80

    # Switch page tables, drop a translation, ask the CPU who it is.
    mov $PML4_COPY, %eax
    mov %rax, %cr3
    invlpg APIC
    xor %eax, %eax
    cpuid
    rdtsc
    mov $4, %al
    out %al, $0x80

    # A one-shot timer interrupt that ends a hlt.
    mov $APIC, %eax
    movl $0x1ff, 0xf0(%rax)
    movl $32, 0x320(%rax)
    movl $0xb, 0x3e0(%rax)
    movl $100000, 0x380(%rax)
2:  cli
    cmpl $0, TICKS
    jne 3f
    sti
    hlt
    jmp 2b
3:  mov $5, %al
    out %al, $0x80

    # Plain work, with a sum to be right at the end.
    mov ${iterations}, %ecx
    xor %edx, %edx
4:  add %rcx, %rdx
    dec %rcx
    jnz 4b
    movabs ${sum}, %rax
    cmp %rdx, %rax
    jne podflare_probe_fail
    mov $0xff, %al
    out %al, $0x80
podflare_probe_fail:
    cli
    hlt
    jmp podflare_probe_fail

    # Makes the 16-byte gate at rdi lead to eax, which is below 64 KiB.
podflare_probe_set_gate:
    movw %ax, (%rdi)
    movw $0x18, 2(%rdi)
    movw $0x8e00, 4(%rdi)
    ret

podflare_probe_invalid_opcode:
    inc %r8d
    addq $2, (%rsp)
    iretq

podflare_probe_tick:
    push %rax
    incl TICKS
    mov $APIC, %eax
    movl $0, 0xb0(%rax)
    pop %rax
    iretq

    .balign 8
podflare_probe_gdt:
    .quad 0, 0, 0
    .quad 0x00af9b000000ffff
    .quad 0x00cf93000000ffff
podflare_probe_gdt_pointer:
    .short 39
    .long BASE + podflare_probe_gdt - podflare_probe_start
podflare_probe_idt_pointer:
    .short 33 * 16 - 1
    .quad IDT
podflare_probe_end:
    .code64
    .popsection
    "#,
    iterations = const ITERATIONS,
    sum = const ITERATIONS * (ITERATIONS + 1) / 2,
    options(att_syntax),
);

/// Rounds of plain work. Milliseconds on a CPU, some tens on an emulated one; minutes where each instruction is
/// emulated on its own.
const ITERATIONS: u64 = 10_000_000;

#[cfg(test)]
mod tests {
    #[test]
    fn the_code_fits_between_its_load_address_and_the_end_of_ram() {
        let code = super::code();
        assert!((100..4096).contains(&code.len()), "{}", code.len());
    }
}
