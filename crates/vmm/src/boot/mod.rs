//! Puts the kernel, its initrd, its command line and the boot parameters into guest memory.

mod command_line;
mod zero_page;

use std::fs::File;
use std::path::{Path, PathBuf};

use linux_loader::loader::KernelLoader as _;
use linux_loader::loader::elf::Elf;
use thiserror::Error;
use vm_memory::{Bytes as _, GuestAddress, GuestMemoryError};

use crate::layout::{COMMAND_LINE_START, HIGH_RAM_START, PAGE_BYTES};
use crate::memory::{GuestMemory, low_ram_end};

#[derive(Debug, Error)]
pub enum BootError {
    #[error("cannot open {}", path.display())]
    Open {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{} is not a kernel that can be loaded (an uncompressed ELF vmlinux is expected)", path.display())]
    Kernel {
        path: PathBuf,
        #[source]
        source: linux_loader::loader::Error,
    },
    #[error("the kernel command line is not acceptable")]
    CommandLine(#[source] linux_loader::cmdline::Error),
    #[error("an initrd of {bytes} bytes does not fit beside the kernel in this VM's RAM")]
    InitrdTooBig { bytes: u64 },
    #[error("cannot read the initrd")]
    ReadInitrd(#[source] GuestMemoryError),
    #[error("cannot write the boot parameters to guest memory")]
    Write(#[source] GuestMemoryError),
    #[error("the memory map has more ranges than fit into the boot parameters")]
    MemoryMap,
}

/// What to boot.
#[derive(Debug)]
pub(crate) struct BootSource<'a> {
    pub(crate) kernel: &'a Path,
    pub(crate) initrd: &'a Path,
    pub(crate) kernel_arguments: &'a str,
    /// Address of the ACPI root pointer.
    pub(crate) rsdp: u64,
}

/// Where something lies in guest memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Extent {
    start: u64,
    bytes: u64,
}

/// Loads everything and returns the address of the kernel's first instruction.
pub(crate) fn load(memory: &GuestMemory, source: &BootSource<'_>) -> Result<u64, BootError> {
    let mut kernel = open(source.kernel)?;
    let highest = Some(GuestAddress(HIGH_RAM_START));
    let loaded = Elf::load(memory, None, &mut kernel, highest).map_err(|error| BootError::Kernel {
        path: source.kernel.to_owned(),
        source: error,
    })?;
    let initrd = load_initrd(memory, source.initrd, loaded.kernel_end)?;
    let command_line = command_line::build(source.kernel_arguments)?;
    memory
        .write_slice(command_line.as_bytes_with_nul(), GuestAddress(COMMAND_LINE_START))
        .map_err(BootError::Write)?;
    zero_page::write(
        memory,
        source.rsdp,
        initrd,
        command_line.as_bytes_with_nul().len(),
    )?;
    Ok(loaded.kernel_load.0)
}

/// At the end of the RAM below the hole, as far as possible from the kernel, which grows.
fn load_initrd(memory: &GuestMemory, path: &Path, kernel_end: u64) -> Result<Extent, BootError> {
    let mut file = open(path)?;
    let bytes = file
        .metadata()
        .map_err(|source| BootError::Open {
            path: path.to_owned(),
            source,
        })?
        .len();
    let too_big = || BootError::InitrdTooBig { bytes };
    let start = initrd_start(low_ram_end(memory), bytes, kernel_end).ok_or_else(too_big)?;
    let count = usize::try_from(bytes).map_err(|_| too_big())?;
    memory
        .read_exact_volatile_from(GuestAddress(start), &mut file, count)
        .map_err(BootError::ReadInitrd)?;
    Ok(Extent { start, bytes })
}

fn initrd_start(ram_end: u64, bytes: u64, kernel_end: u64) -> Option<u64> {
    let start = ram_end.checked_sub(bytes)? & !(PAGE_BYTES - 1);
    (start >= kernel_end).then_some(start)
}

fn open(path: &Path) -> Result<File, BootError> {
    File::open(path).map_err(|source| BootError::Open {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_initrd_ends_where_ram_does() {
        assert_eq!(initrd_start(0x1000_0000, 0x1800, 0x200_0000), Some(0xfff_e000));
    }

    #[test]
    fn an_initrd_never_covers_the_kernel() {
        assert_eq!(initrd_start(0x1000_0000, 0xf00_0000, 0x200_0000), None);
        assert_eq!(initrd_start(0x1000_0000, u64::MAX, 0x200_0000), None);
    }
}
