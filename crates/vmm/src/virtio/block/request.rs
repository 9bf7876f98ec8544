//! One block request: header, data, and a status byte at the end of what the device may write.

use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_ID_BYTES, VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_OK, VIRTIO_BLK_S_UNSUPP, VIRTIO_BLK_T_DISCARD,
    VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_GET_ID, VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_WRITE_ZEROES,
    VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP,
};

use super::config::{DISCARD_SECTORS_MAX, DISCARD_SEGMENTS_MAX};
use super::{SECTOR_BYTES, SERIAL};
use crate::disk::{Disk, DiskError};
use crate::virtio::{Chain, DeviceError, Scatter};

/// What a request came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Read,
    Written,
    Flushed,
    Told,
    Failed,
}

/// A request that may be carried out: every length and range in it has been checked.
#[derive(Debug)]
enum Request<'m> {
    Read { offset: u64, target: Scatter<'m> },
    Write { offset: u64, source: Scatter<'m> },
    Flush,
    Serial { target: Scatter<'m> },
    Discard { ranges: Vec<Range> },
    WriteZeros { ranges: Vec<Range> },
}

/// Bytes of the disk.
#[derive(Clone, Copy, Debug)]
struct Range {
    offset: u64,
    len: u64,
}

/// Why a request is not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    Malformed,
    Unsupported,
}

/// Type, reserved, sector: 4, 4 and 8 bytes.
const HEADER_BYTES: usize = 16;
/// Sector, number of sectors, flags: 8, 4 and 4 bytes.
const SEGMENT_BYTES: usize = 16;

/// Most data of one request. Linux sends 1.25 MiB at most unless told otherwise; without a bound, a chain that names
/// the same memory again and again could keep the main loop busy for seconds.
const DATA_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Carries out the request in `chain`; returns what came of it and how many bytes were written to the chain.
pub(super) fn serve(disk: &mut Disk, chain: &Chain<'_>) -> Result<(Outcome, u32), DeviceError> {
    let Some(data_len) = chain.writable.len().checked_sub(1) else {
        return Err(DeviceError::BufferTooSmall { len: 0, needed: 1 });
    };
    let (outcome, status, filled) = match parse(disk, chain, data_len) {
        Ok(request) => match carry_out(disk, &request) {
            Ok(outcome) => (outcome, VIRTIO_BLK_S_OK, filled_by(&request)),
            Err(_disk_error) => (Outcome::Failed, VIRTIO_BLK_S_IOERR, 0),
        },
        Err(Refusal::Malformed) => (Outcome::Failed, VIRTIO_BLK_S_IOERR, 0),
        Err(Refusal::Unsupported) => (Outcome::Failed, VIRTIO_BLK_S_UNSUPP, 0),
    };
    chain
        .writable
        .part(data_len, 1)
        .copy_from(&status.to_le_bytes()[..1]);
    // Used lengths count bytes written without a hole from the first writable one on (2.7.8.2), so the status counts
    // only when all before it is filled.
    let written = if filled == data_len { filled + 1 } else { filled };
    Ok((outcome, u32::try_from(written).unwrap_or(u32::MAX)))
}

fn parse<'m>(disk: &Disk, chain: &Chain<'m>, target_len: usize) -> Result<Request<'m>, Refusal> {
    let mut header = [0; HEADER_BYTES];
    if chain.readable.copy_to(&mut header) < HEADER_BYTES {
        return Err(Refusal::Malformed);
    }
    let (kind, sector) = (u32_at(&header, 0), u64_at(&header, 8));
    let source = chain.readable.part(HEADER_BYTES, usize::MAX);
    let target = chain.writable.part(0, target_len);
    match kind {
        VIRTIO_BLK_T_IN => {
            let offset = data_range(disk, sector, target.len())?;
            Ok(Request::Read { offset, target })
        }
        VIRTIO_BLK_T_OUT => {
            let offset = data_range(disk, sector, source.len())?;
            Ok(Request::Write { offset, source })
        }
        VIRTIO_BLK_T_FLUSH => Ok(Request::Flush),
        VIRTIO_BLK_T_GET_ID if target.len() >= VIRTIO_BLK_ID_BYTES as usize => Ok(Request::Serial { target }),
        VIRTIO_BLK_T_GET_ID => Err(Refusal::Malformed),
        // A discard is a hint, and "unmap" has no meaning in it (5.2.6.2).
        VIRTIO_BLK_T_DISCARD => Ok(Request::Discard {
            ranges: segments(disk, &source, 0)?,
        }),
        VIRTIO_BLK_T_WRITE_ZEROES => {
            let ranges = segments(disk, &source, VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP)?;
            Ok(Request::WriteZeros { ranges })
        }
        _ => Err(Refusal::Unsupported),
    }
}

fn carry_out(disk: &mut Disk, request: &Request<'_>) -> Result<Outcome, DiskError> {
    match request {
        Request::Read { offset, target } => disk.read(*offset, target).map(|()| Outcome::Read),
        Request::Write { offset, source } => disk.write(*offset, source).map(|()| Outcome::Written),
        Request::Flush => disk.flush().map(|()| Outcome::Flushed),
        Request::Serial { target } => {
            let mut serial = [0; VIRTIO_BLK_ID_BYTES as usize];
            serial[..SERIAL.len()].copy_from_slice(SERIAL);
            target.copy_from(&serial);
            Ok(Outcome::Told)
        }
        Request::Discard { ranges } => {
            let done = ranges
                .iter()
                .try_for_each(|range| disk.discard(range.offset, range.len));
            done.map(|()| Outcome::Written)
        }
        Request::WriteZeros { ranges } => {
            let done = ranges
                .iter()
                .try_for_each(|range| disk.write_zeros(range.offset, range.len));
            done.map(|()| Outcome::Written)
        }
    }
}

/// Bytes a request that was carried out has put before the status.
fn filled_by(request: &Request<'_>) -> usize {
    match request {
        Request::Read { target, .. } => target.len(),
        Request::Serial { .. } => VIRTIO_BLK_ID_BYTES as usize,
        _ => 0,
    }
}

fn data_range(disk: &Disk, sector: u64, len: usize) -> Result<u64, Refusal> {
    if !(len as u64).is_multiple_of(SECTOR_BYTES) || len > DATA_BYTES_MAX {
        return Err(Refusal::Malformed);
    }
    range(disk, sector, len as u64).map(|range| range.offset)
}

/// The ranges a discard or write-zeroes request names, all of them on the disk.
fn segments(disk: &Disk, source: &Scatter<'_>, flags_known: u32) -> Result<Vec<Range>, Refusal> {
    let count = source.len() / SEGMENT_BYTES;
    if count == 0 || count > DISCARD_SEGMENTS_MAX as usize || !source.len().is_multiple_of(SEGMENT_BYTES) {
        return Err(Refusal::Malformed);
    }
    let mut bytes = vec![0; source.len()];
    source.copy_to(&mut bytes);
    let parsed = bytes.chunks_exact(SEGMENT_BYTES).map(|segment| {
        let (sector, sectors, flags) = (u64_at(segment, 0), u32_at(segment, 8), u32_at(segment, 12));
        if flags & !flags_known != 0 {
            return Err(Refusal::Unsupported);
        }
        if sectors > DISCARD_SECTORS_MAX {
            return Err(Refusal::Malformed);
        }
        range(disk, sector, u64::from(sectors) * SECTOR_BYTES)
    });
    parsed.collect()
}

fn range(disk: &Disk, sector: u64, len: u64) -> Result<Range, Refusal> {
    let offset = sector.checked_mul(SECTOR_BYTES).ok_or(Refusal::Malformed)?;
    match offset.checked_add(len) {
        Some(end) if end <= disk.size_bytes() => Ok(Range { offset, len }),
        _ => Err(Refusal::Malformed),
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes[at..]
        .first_chunk()
        .map_or(0, |word| u32::from_le_bytes(*word))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes[at..]
        .first_chunk()
        .map_or(0, |word| u64::from_le_bytes(*word))
}
