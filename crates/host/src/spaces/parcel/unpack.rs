//! A file into a space, by somebody who believes none of it.

use std::io::Read;

use lz4_flex::block::decompress_into;

use super::sum::Summed;
use super::{CHUNK_BYTES, HEADER_BYTES, MAGIC, MANIFEST_BYTES_MAX, Manifest, ParcelError, Part, VERSION};

/// Reads a file in order.
pub(crate) struct Unpacker<R> {
    from: Summed<R>,
    pub(crate) manifest: Manifest,
    stored: Vec<u8>,
    plain: Vec<u8>,
    /// The part of the last record, and where in it that ended.
    reached: (Option<Part>, u64),
    ended: bool,
}

/// Content of a part, at its place there.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Chunk<'a> {
    pub(crate) part: Part,
    pub(crate) at: u64,
    pub(crate) bytes: &'a [u8],
}

/// What comes before content; its numbers are in bounds.
struct Header {
    part: Part,
    packed: bool,
    stored: usize,
    size: usize,
    at: u64,
}

impl<R: Read> Unpacker<R> {
    pub(crate) fn open(from: R) -> Result<Self, ParcelError> {
        let mut from = Summed::new(from);
        let mut head = [0; MAGIC.len()];
        from.read(&mut head)?;
        if head != MAGIC {
            return Err(ParcelError::Foreign);
        }
        let version = number(&mut from)?;
        if version != VERSION {
            return Err(ParcelError::Version(version));
        }
        let length = number(&mut from)? as usize;
        if length > MANIFEST_BYTES_MAX {
            return Err(ParcelError::Damaged { at: from.bytes() });
        }
        let mut manifest = vec![0; length];
        from.read(&mut manifest)?;
        from.check_sum()?;
        Ok(Self {
            from,
            manifest: serde_json::from_slice(&manifest).map_err(ParcelError::Manifest)?,
            stored: vec![0; CHUNK_BYTES],
            plain: vec![0; CHUNK_BYTES],
            reached: (None, 0),
            ended: false,
        })
    }

    /// What comes next; nothing when that was all, and the file is whole.
    pub(crate) fn next(&mut self) -> Result<Option<Chunk<'_>>, ParcelError> {
        let Some(header) = self.header()? else {
            return Ok(None);
        };
        let Header {
            part,
            packed,
            stored,
            size,
            at,
        } = header;
        let content = self.stored.get_mut(..stored).unwrap_or_default();
        self.from.read(content)?;
        self.from.check_sum()?;
        if !packed {
            let bytes = &*content;
            return Ok(Some(Chunk { part, at, bytes }));
        }
        let plain = self.plain.get_mut(..size).unwrap_or_default();
        match decompress_into(content, plain) {
            Ok(unpacked) if unpacked == size => Ok(Some(Chunk {
                part,
                at,
                bytes: plain,
            })),
            _ => Err(senseless(&self.from, "content that does not unpack")),
        }
    }

    fn header(&mut self) -> Result<Option<Header>, ParcelError> {
        if self.ended {
            return Ok(None);
        }
        let mut header = [0; HEADER_BYTES];
        self.from.read(&mut header)?;
        let [part, packing, 0, 0, s0, s1, s2, s3, l0, l1, l2, l3, at @ ..] = header else {
            return Err(ParcelError::Damaged {
                at: self.from.bytes(),
            });
        };
        let stored = u32::from_le_bytes([s0, s1, s2, s3]) as usize;
        let size = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        let at = u64::from_le_bytes(at);
        if part == Part::END {
            self.from.check_sum()?;
            if (packing, stored, size, at) != (0, 0, 0, 0) || !self.from.is_at_end()? {
                return Err(senseless(&self.from, "there is more behind its end"));
            }
            self.ended = true;
            return Ok(None);
        }
        // The sum is behind the content, so until then a number that cannot be is taken for damage.
        let damaged = ParcelError::Damaged {
            at: self.from.bytes(),
        };
        let Some(part) = Part::of_code(part) else {
            return Err(damaged);
        };
        let ordered = match self.reached {
            (Some(last), end) if last == part => at >= end,
            (last, _) => last < Some(part),
        };
        let end = at.checked_add(size as u64);
        let fits = end.is_some_and(|end| end <= self.manifest.lengths.of(part));
        let sizes = match packing {
            0 => stored == size,
            1 => stored < size,
            _ => false,
        };
        if !ordered || !fits || !sizes || size == 0 || size > CHUNK_BYTES {
            return Err(damaged);
        }
        self.reached = (Some(part), end.unwrap_or(u64::MAX));
        Ok(Some(Header {
            part,
            packed: packing == 1,
            stored,
            size,
            at,
        }))
    }
}

fn senseless<R>(from: &Summed<R>, what: &'static str) -> ParcelError {
    ParcelError::Senseless {
        at: from.bytes(),
        what,
    }
}

fn number<R: Read>(from: &mut Summed<R>) -> Result<u32, ParcelError> {
    let mut bytes = [0; 4];
    from.read(&mut bytes)?;
    Ok(u32::from_le_bytes(bytes))
}
