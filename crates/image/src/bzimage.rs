//! Unpacks the ELF kernel out of a bzImage.
//!
//! The header is that of the Linux x86 boot protocol (Documentation/arch/x86/boot.rst), whose `payload_offset`
//! and `payload_length` exist since version 2.08. How the payload is compressed is told by its own magic
//! number: zstd in Debian 13, the LZ4 legacy frame in Debian 12. The kernel build appends the unpacked size to
//! both as 32 bits, little endian.

use std::io::{self, Read};

use ruzstd::decoding::StreamingDecoder;
use thiserror::Error;

/// Offset of the header's magic number.
const MAGIC_AT: usize = 0x202;
/// The header's magic number.
const MAGIC: &[u8] = b"HdrS";
/// First boot protocol version that tells where the payload is.
const PROTOCOL_MIN: u16 = 0x0208;
/// Size of a sector as `setup_sects` counts them, in bytes.
const SECTOR_BYTES: usize = 512;
/// `setup_sects` of zero means this, for historical reasons.
const SETUP_SECTORS_DEFAULT: usize = 4;
/// Largest kernel accepted, in bytes; Debian's cloud kernel is 58 MB.
const VMLINUX_BYTES_MAX: usize = 512 << 20;
/// Unpacked size of every LZ4 legacy block but the last, in bytes (LZ4 frame format, "Legacy frame").
const LZ4_LEGACY_BLOCK_BYTES: usize = 8 << 20;
/// The appended unpacked size, in bytes.
const TRAILER_BYTES: usize = 4;

const ZSTD_MAGIC: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
const LZ4_LEGACY_MAGIC: &[u8] = &[0x02, 0x21, 0x4c, 0x18];
const ELF_MAGIC: &[u8] = b"\x7fELF";

/// Why a kernel could not be unpacked.
#[derive(Debug, Error)]
pub enum BzImageError {
    #[error("not a bzImage: the boot header's magic number is missing")]
    NotBzImage,
    #[error("the boot protocol version {version:#06x} is too old to tell where the payload is")]
    ProtocolTooOld { version: u16 },
    #[error("the boot header points outside the file")]
    OutOfBounds,
    #[error("the kernel is compressed with {name}; only zstd and LZ4 are understood")]
    Compression { name: &'static str },
    #[error("cannot decompress the kernel with {name}")]
    Decompress { name: &'static str, source: io::Error },
    #[error("the kernel unpacks to {actual} bytes but says it has {expected}")]
    Size { expected: usize, actual: usize },
    #[error("the payload is not an ELF file")]
    NotElf,
}

/// Returns the ELF kernel inside a bzImage.
///
/// # Errors
/// When the file is not a bzImage, is damaged, or is compressed in a way Debian does not use.
pub fn unpack_vmlinux(bzimage: &[u8]) -> Result<Vec<u8>, BzImageError> {
    let payload = payload(bzimage)?;
    let vmlinux = match compression(payload) {
        "none" => payload.to_vec(),
        name @ "zstd" => checked_size(payload, |data, size| unpack_zstd(data, size, name))?,
        name @ "LZ4" => checked_size(payload, |data, size| unpack_lz4_legacy(data, size, name))?,
        name => return Err(BzImageError::Compression { name }),
    };
    if vmlinux.starts_with(ELF_MAGIC) {
        Ok(vmlinux)
    } else {
        Err(BzImageError::NotElf)
    }
}

fn payload(bzimage: &[u8]) -> Result<&[u8], BzImageError> {
    if bzimage.get(MAGIC_AT..MAGIC_AT + MAGIC.len()) != Some(MAGIC) {
        return Err(BzImageError::NotBzImage);
    }
    let [low, high] = bytes_at(bzimage, 0x206)?;
    let version = u16::from_le_bytes([low, high]);
    if version < PROTOCOL_MIN {
        return Err(BzImageError::ProtocolTooOld { version });
    }
    let [setup_sectors] = bytes_at(bzimage, 0x1f1)?;
    let setup_sectors = if setup_sectors == 0 {
        SETUP_SECTORS_DEFAULT
    } else {
        usize::from(setup_sectors)
    };
    let protected_mode_at = (setup_sectors + 1) * SECTOR_BYTES;
    let start = protected_mode_at
        .checked_add(length_at(bzimage, 0x248)?)
        .ok_or(BzImageError::OutOfBounds)?;
    let end = start
        .checked_add(length_at(bzimage, 0x24c)?)
        .ok_or(BzImageError::OutOfBounds)?;
    bzimage.get(start..end).ok_or(BzImageError::OutOfBounds)
}

/// Magic numbers as the kernel's own decompressors know them (lib/decompress.c).
fn compression(payload: &[u8]) -> &'static str {
    match payload {
        _ if payload.starts_with(ELF_MAGIC) => "none",
        _ if payload.starts_with(ZSTD_MAGIC) => "zstd",
        _ if payload.starts_with(LZ4_LEGACY_MAGIC) => "LZ4",
        [0x1f, 0x8b, ..] => "gzip",
        [0xfd, b'7', b'z', ..] => "xz",
        [b'B', b'Z', b'h', ..] => "bzip2",
        [0x5d, 0x00, ..] => "lzma",
        [0x89, b'L', b'Z', ..] => "LZO",
        _ => "an unknown method",
    }
}

/// Splits off the appended size, unpacks with it as the bound, and holds the result to it.
fn checked_size(
    payload: &[u8],
    unpack: impl FnOnce(&[u8], usize) -> Result<Vec<u8>, BzImageError>,
) -> Result<Vec<u8>, BzImageError> {
    let split = payload
        .len()
        .checked_sub(TRAILER_BYTES)
        .ok_or(BzImageError::OutOfBounds)?;
    let expected = length_at(payload, split)?;
    if expected > VMLINUX_BYTES_MAX {
        return Err(BzImageError::Size { expected, actual: 0 });
    }
    let unpacked = unpack(&payload[..split], expected)?;
    if unpacked.len() == expected {
        Ok(unpacked)
    } else {
        Err(BzImageError::Size {
            expected,
            actual: unpacked.len(),
        })
    }
}

fn unpack_zstd(data: &[u8], size: usize, name: &'static str) -> Result<Vec<u8>, BzImageError> {
    let failed = |source| BzImageError::Decompress { name, source };
    let decoder = StreamingDecoder::new(data).map_err(|error| failed(io::Error::other(error)))?;
    let mut unpacked = Vec::with_capacity(size);
    // One byte more than promised shows a payload that lies, without following it to its end.
    decoder
        .take(size as u64 + 1)
        .read_to_end(&mut unpacked)
        .map_err(failed)?;
    Ok(unpacked)
}

fn unpack_lz4_legacy(data: &[u8], size: usize, name: &'static str) -> Result<Vec<u8>, BzImageError> {
    let failed = |text: String| BzImageError::Decompress {
        name,
        source: io::Error::other(text),
    };
    let mut unpacked = Vec::with_capacity(size);
    let mut block = vec![0; LZ4_LEGACY_BLOCK_BYTES];
    let mut at = LZ4_LEGACY_MAGIC.len();
    while at < data.len() && unpacked.len() <= size {
        let len = length_at(data, at)?;
        at += size_of::<u32>();
        let end = at.checked_add(len).ok_or(BzImageError::OutOfBounds)?;
        let packed = data.get(at..end).ok_or(BzImageError::OutOfBounds)?;
        let written = lz4_flex::block::decompress_into(packed, &mut block)
            .map_err(|error| failed(error.to_string()))?;
        unpacked.extend_from_slice(&block[..written]);
        at = end;
    }
    Ok(unpacked)
}

fn length_at(bytes: &[u8], at: usize) -> Result<usize, BzImageError> {
    usize::try_from(u32::from_le_bytes(bytes_at(bytes, at)?)).map_err(|_| BzImageError::OutOfBounds)
}

fn bytes_at<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], BzImageError> {
    let end = at.checked_add(N).ok_or(BzImageError::OutOfBounds)?;
    let slice = bytes.get(at..end).ok_or(BzImageError::OutOfBounds)?;
    slice.try_into().map_err(|_| BzImageError::OutOfBounds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    const VMLINUX: &[u8] = b"\x7fELF the kernel, the kernel, the kernel, the kernel";

    fn bzimage(setup_sectors: u8, packed: &[u8], size: usize) -> Vec<u8> {
        let sectors = if setup_sectors == 0 {
            4
        } else {
            usize::from(setup_sectors)
        };
        let mut image = vec![0; (sectors + 1) * 512 + 0x40];
        image[0x1f1] = setup_sectors;
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x206..0x208].copy_from_slice(&0x020f_u16.to_le_bytes());
        image[0x248..0x24c].copy_from_slice(&0x40_u32.to_le_bytes());
        let payload = [packed, &u32::try_from(size).unwrap().to_le_bytes()].concat();
        image[0x24c..0x250].copy_from_slice(&u32::try_from(payload.len()).unwrap().to_le_bytes());
        image.extend_from_slice(&payload);
        image.extend_from_slice(b"signature and other things after the payload");
        image
    }

    fn lz4_legacy(data: &[u8]) -> Vec<u8> {
        let mut frame = LZ4_LEGACY_MAGIC.to_vec();
        for chunk in data.chunks(LZ4_LEGACY_BLOCK_BYTES) {
            let block = lz4_flex::block::compress(chunk);
            frame.extend_from_slice(&u32::try_from(block.len()).unwrap().to_le_bytes());
            frame.extend_from_slice(&block);
        }
        frame
    }

    fn zstd(data: &[u8]) -> Vec<u8> {
        compress_to_vec(data, CompressionLevel::Fastest)
    }

    #[test]
    fn a_zstd_kernel_as_in_debian_13_is_unpacked() {
        assert_eq!(
            unpack_vmlinux(&bzimage(39, &zstd(VMLINUX), VMLINUX.len())).unwrap(),
            VMLINUX
        );
    }

    #[test]
    fn an_lz4_kernel_as_in_debian_12_is_unpacked_over_several_blocks() {
        let mut vmlinux = VMLINUX.to_vec();
        vmlinux.resize(LZ4_LEGACY_BLOCK_BYTES + 1000, 7);
        assert_eq!(
            unpack_vmlinux(&bzimage(0, &lz4_legacy(&vmlinux), vmlinux.len())).unwrap(),
            vmlinux
        );
    }

    #[test]
    fn an_unknown_compression_is_named() {
        let error = unpack_vmlinux(&bzimage(1, &[0x1f, 0x8b, 8, 0], 4)).unwrap_err();
        assert!(error.to_string().contains("gzip"), "{error}");
    }

    #[test]
    fn a_payload_of_another_size_than_it_says_is_refused() {
        for said in [VMLINUX.len() - 1, VMLINUX.len() + 1] {
            for packed in [zstd(VMLINUX), lz4_legacy(VMLINUX)] {
                let error = unpack_vmlinux(&bzimage(1, &packed, said)).unwrap_err();
                assert!(matches!(error, BzImageError::Size { .. }), "{error:?}");
            }
        }
    }

    #[test]
    fn something_else_than_a_kernel_is_refused() {
        assert!(matches!(
            unpack_vmlinux(b"\x7fELF").unwrap_err(),
            BzImageError::NotBzImage
        ));
        let image = bzimage(1, &zstd(b"text"), 4);
        assert!(matches!(
            unpack_vmlinux(&image).unwrap_err(),
            BzImageError::NotElf
        ));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn damaged_images_are_refused_without_a_panic(
            at in 0_usize..1700, value in any::<u8>(), cut in 0_usize..1700, lz4 in any::<bool>()
        ) {
            let packed = if lz4 { lz4_legacy(VMLINUX) } else { zstd(VMLINUX) };
            let mut image = bzimage(1, &packed, VMLINUX.len());
            if let Some(byte) = image.get_mut(at) {
                *byte = value;
            }
            image.truncate(cut.max(at));
            let _ = unpack_vmlinux(&image);
        }
    }
}
