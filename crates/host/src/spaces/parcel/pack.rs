//! A space into a file.

use std::fs::File;
use std::io::{self, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

use lz4_flex::block::{compress_into, get_maximum_output_size};
use rustix::fs::SeekFrom;
use rustix::io::Errno;

use super::sum::Summed;
use super::{CHUNK_BYTES, MAGIC, Manifest, Part, VERSION};

/// Writes a space. The files of its parts have the lengths that the manifest tells, and do not change.
pub(crate) fn pack(manifest: &Manifest, parts: &[(Part, File)], to: impl Write) -> io::Result<()> {
    let mut packer = Packer {
        to: Summed::new(to),
        plain: vec![0; CHUNK_BYTES],
        packed: vec![0; get_maximum_output_size(CHUNK_BYTES)],
    };
    packer.head(manifest)?;
    for part in Part::ALL {
        for (_, file) in parts.iter().filter(|(of, _)| *of == part) {
            let length = manifest.lengths.of(part);
            if file.metadata()?.len() != length {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "a file of the space has another length than it was written with",
                ));
            }
            packer.part(part, file, length)?;
        }
    }
    packer.record(Part::END, false, (0, 0), 0)
}

struct Packer<W> {
    to: Summed<W>,
    plain: Vec<u8>,
    packed: Vec<u8>,
}

impl<W: Write> Packer<W> {
    fn head(&mut self, manifest: &Manifest) -> io::Result<()> {
        let manifest = serde_json::to_vec(manifest)?;
        self.to.write(&MAGIC)?;
        self.to.write(&VERSION.to_le_bytes())?;
        self.to.write(&length(manifest.len()).to_le_bytes())?;
        self.to.write(&manifest)?;
        self.to.write_sum()
    }

    fn part(&mut self, part: Part, file: &File, length: u64) -> io::Result<()> {
        let mut at = 0;
        while let Some(data) = next_data(file, at, length)? {
            let size = usize::try_from(data.end - data.start).unwrap_or(0);
            let plain = self.plain.get_mut(..size).unwrap_or_default();
            file.read_exact_at(plain, data.start)?;
            at = data.end;
            if plain.iter().all(|byte| *byte == 0) {
                continue;
            }
            let packed = compress_into(plain, &mut self.packed).map_err(io::Error::other)?;
            let (pays, stored) = if packed < size {
                (true, packed)
            } else {
                (false, size)
            };
            self.record(part.code(), pays, (stored, size), data.start)?;
        }
        Ok(())
    }

    /// Writes what is in one of the buffers.
    fn record(&mut self, part: u8, pays: bool, (stored, size): (usize, usize), at: u64) -> io::Result<()> {
        self.to.write(&[part, u8::from(pays), 0, 0])?;
        self.to.write(&length(stored).to_le_bytes())?;
        self.to.write(&length(size).to_le_bytes())?;
        self.to.write(&at.to_le_bytes())?;
        let content = if pays { &self.packed } else { &self.plain };
        self.to.write(content.get(..stored).unwrap_or_default())?;
        self.to.write_sum()
    }
}

/// The next piece of a file that is not a hole.
fn next_data(file: &File, at: u64, length: u64) -> io::Result<Option<Range<u64>>> {
    if at >= length {
        return Ok(None);
    }
    let start = match rustix::fs::seek(file, SeekFrom::Data(at)) {
        Ok(start) => start,
        Err(Errno::NXIO) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let hole = rustix::fs::seek(file, SeekFrom::Hole(start))?;
    let end = hole.min(length).min(start.saturating_add(CHUNK_BYTES as u64));
    Ok((start < end).then_some(start..end))
}

/// Lengths are bounded by the buffers they are of.
fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}
