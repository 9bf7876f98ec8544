//! The two questions we ask ELF files: where a section is, and whether a binary needs a dynamic loader.
//!
//! Offsets are those of the ELF-64 object file format, version 1.2, figures 2, 3 and 6. Little endian only:
//! every file we read is for x86-64.

use thiserror::Error;

/// Section headers read at most; kernel modules have fewer than a hundred.
const SECTIONS_MAX: usize = 4096;
/// Size of one section header, `sizeof(Elf64_Shdr)`.
const SECTION_HEADER_BYTES: usize = 64;
/// Size of one program header, `sizeof(Elf64_Phdr)`.
const PROGRAM_HEADER_BYTES: usize = 56;
/// `PT_INTERP`: the segment that names the dynamic loader.
const SEGMENT_INTERPRETER: u32 = 3;

/// Why a file could not be read as ELF.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ElfError {
    #[error("not a 64-bit little-endian ELF file")]
    NotElf64,
    #[error("the ELF headers point outside the file")]
    OutOfBounds,
    #[error("the ELF file has no section {name}")]
    NoSection { name: String },
}

/// Returns the content of the section called `name`.
pub(crate) fn section<'a>(elf: &'a [u8], name: &str) -> Result<&'a [u8], ElfError> {
    check_magic(elf)?;
    let table = to_usize(u64_at(elf, 0x28)?)?;
    let count = usize::from(u16_at(elf, 0x3c)?).min(SECTIONS_MAX);
    let names_index = usize::from(u16_at(elf, 0x3e)?);
    let header = |index: usize| {
        slice(
            elf,
            table.saturating_add(index * SECTION_HEADER_BYTES),
            SECTION_HEADER_BYTES,
        )
    };
    let content = |header: &[u8]| {
        slice(
            elf,
            to_usize(u64_at(header, 0x18)?)?,
            to_usize(u64_at(header, 0x20)?)?,
        )
    };

    let names = content(header(names_index)?)?;
    for index in 0..count {
        let header = header(index)?;
        let start = usize::try_from(u32_at(header, 0)?).map_err(|_| ElfError::OutOfBounds)?;
        let rest = names.get(start..).ok_or(ElfError::OutOfBounds)?;
        if rest.split(|byte| *byte == 0).next() == Some(name.as_bytes()) {
            return content(header);
        }
    }
    Err(ElfError::NoSection {
        name: name.to_owned(),
    })
}

/// Whether running the binary needs a dynamic loader, which an initrd does not have.
pub(crate) fn needs_loader(elf: &[u8]) -> Result<bool, ElfError> {
    check_magic(elf)?;
    let table = to_usize(u64_at(elf, 0x20)?)?;
    for index in 0..usize::from(u16_at(elf, 0x38)?) {
        let header = slice(
            elf,
            table.saturating_add(index * PROGRAM_HEADER_BYTES),
            PROGRAM_HEADER_BYTES,
        )?;
        if u32_at(header, 0)? == SEGMENT_INTERPRETER {
            return Ok(true);
        }
    }
    Ok(false)
}

fn check_magic(elf: &[u8]) -> Result<(), ElfError> {
    // Class 2 is 64-bit, data encoding 1 is little endian.
    if elf.starts_with(b"\x7fELF\x02\x01") {
        Ok(())
    } else {
        Err(ElfError::NotElf64)
    }
}

fn slice(bytes: &[u8], start: usize, len: usize) -> Result<&[u8], ElfError> {
    let end = start.checked_add(len).ok_or(ElfError::OutOfBounds)?;
    bytes.get(start..end).ok_or(ElfError::OutOfBounds)
}

fn array<const N: usize>(bytes: &[u8], start: usize) -> Result<[u8; N], ElfError> {
    slice(bytes, start, N)?
        .try_into()
        .map_err(|_| ElfError::OutOfBounds)
}

fn u16_at(bytes: &[u8], start: usize) -> Result<u16, ElfError> {
    Ok(u16::from_le_bytes(array(bytes, start)?))
}

fn u32_at(bytes: &[u8], start: usize) -> Result<u32, ElfError> {
    Ok(u32::from_le_bytes(array(bytes, start)?))
}

fn u64_at(bytes: &[u8], start: usize) -> Result<u64, ElfError> {
    Ok(u64::from_le_bytes(array(bytes, start)?))
}

fn to_usize(value: u64) -> Result<usize, ElfError> {
    usize::try_from(value).map_err(|_| ElfError::OutOfBounds)
}

/// Makes small ELF files for the tests of this crate.
#[cfg(test)]
pub(crate) mod testing {
    /// An object file with one section of that name and content.
    pub(crate) fn object_with_section(name: &str, content: &[u8]) -> Vec<u8> {
        let names = [b"\0", name.as_bytes(), b"\0.shstrtab\0"].concat();
        let mut elf = vec![0_u8; 64];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        let content_at = elf.len() as u64;
        elf.extend_from_slice(content);
        let names_at = elf.len() as u64;
        elf.extend_from_slice(&names);
        let table_at = elf.len() as u64;
        elf[0x28..0x30].copy_from_slice(&table_at.to_le_bytes());
        elf[0x3c..0x3e].copy_from_slice(&3_u16.to_le_bytes());
        elf[0x3e..0x40].copy_from_slice(&2_u16.to_le_bytes());
        elf.extend_from_slice(&header(0, 0, 0));
        elf.extend_from_slice(&header(1, content_at, content.len() as u64));
        elf.extend_from_slice(&header(
            2 + u32::try_from(name.len()).unwrap(),
            names_at,
            names.len() as u64,
        ));
        elf
    }

    fn header(name_at: u32, offset: u64, size: u64) -> [u8; 64] {
        let mut header = [0; 64];
        header[..4].copy_from_slice(&name_at.to_le_bytes());
        header[0x18..0x20].copy_from_slice(&offset.to_le_bytes());
        header[0x20..0x28].copy_from_slice(&size.to_le_bytes());
        header
    }

    /// A static executable: no program header at all.
    pub(crate) fn static_executable() -> Vec<u8> {
        object_with_section(".text", b"code")
    }

    /// Another static executable.
    pub(crate) fn object_with_changed_code() -> Vec<u8> {
        object_with_section(".text", b"other code")
    }

    /// An executable with one program header, the one that names a loader.
    pub(crate) fn dynamic_executable() -> Vec<u8> {
        let mut elf = static_executable();
        let at = elf.len() as u64;
        elf[0x20..0x28].copy_from_slice(&at.to_le_bytes());
        elf[0x38..0x3a].copy_from_slice(&1_u16.to_le_bytes());
        elf.extend_from_slice(&3_u32.to_le_bytes());
        elf.extend_from_slice(&[0; 52]);
        elf
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_section_is_found_by_its_name() {
        let elf = testing::object_with_section(".modinfo", b"name=kvm\0");
        assert_eq!(section(&elf, ".modinfo"), Ok(&b"name=kvm\0"[..]));
        assert_eq!(
            section(&elf, ".absent"),
            Err(ElfError::NoSection {
                name: ".absent".to_owned()
            })
        );
    }

    #[test]
    fn only_a_binary_with_an_interpreter_segment_needs_a_loader() {
        assert_eq!(needs_loader(&testing::static_executable()), Ok(false));
        assert_eq!(needs_loader(&testing::dynamic_executable()), Ok(true));
        assert_eq!(needs_loader(b"#!/bin/sh\n"), Err(ElfError::NotElf64));
    }

    proptest! {
        #[test]
        fn damaged_files_are_refused_without_a_panic(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut elf = testing::object_with_section(".modinfo", b"depends=\0");
            for (at, value) in changes {
                let at = at.index(elf.len());
                elf[at] = value;
            }
            elf.truncate(cut.index(elf.len() + 1));
            let _ = section(&elf, ".modinfo");
            let _ = needs_loader(&elf);
        }
    }
}
