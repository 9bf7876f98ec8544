//! Finds the device behind a port or an address.
//!
//! A bus is filled while the machine is built and never changes afterwards, so vCPU threads search it without a lock.
//! Each device does its own locking, and never holds a lock longer than one access.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use thiserror::Error;

/// What a device looks like from a vCPU. Any access may come at any time from any vCPU, in any size: a device must
/// not panic, and must bound what it stores or logs.
pub(crate) trait BusDevice: Send + Sync + fmt::Debug {
    /// Fills `data`, which comes in zeroed, from the registers at `offset` into the device's range.
    fn read(&self, offset: u64, data: &mut [u8]);
    fn write(&self, offset: u64, data: &[u8]);
}

#[derive(Debug, Error)]
#[error("the range {range:#x?} overlaps one that is taken")]
pub struct OverlapError {
    range: Range<u64>,
}

/// One address space: ports, or memory.
#[derive(Debug, Default)]
pub(crate) struct Bus {
    /// Ordered by start, without overlap.
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    range: Range<u64>,
    device: Arc<dyn BusDevice>,
}

impl Bus {
    pub(crate) fn insert(
        &mut self,
        range: Range<u64>,
        device: Arc<dyn BusDevice>,
    ) -> Result<(), OverlapError> {
        let index = self
            .entries
            .partition_point(|entry| entry.range.end <= range.start);
        if self
            .entries
            .get(index)
            .is_some_and(|next| next.range.start < range.end)
            || range.is_empty()
        {
            return Err(OverlapError { range });
        }
        self.entries.insert(index, Entry { range, device });
        Ok(())
    }

    /// Reads from the device at `address`; where there is none, or an access runs past a device's end, every bit
    /// reads as one, as on a bus nobody drives.
    pub(crate) fn read(&self, address: u64, data: &mut [u8]) {
        match self.find(address, data.len()) {
            Some((entry, offset)) => {
                data.fill(0);
                entry.device.read(offset, data);
            }
            None => data.fill(0xff),
        }
    }

    /// Writes to the device at `address`; where there is none, the write is lost.
    pub(crate) fn write(&self, address: u64, data: &[u8]) {
        if let Some((entry, offset)) = self.find(address, data.len()) {
            entry.device.write(offset, data);
        }
    }

    fn find(&self, address: u64, len: usize) -> Option<(&Entry, u64)> {
        let index = self.entries.partition_point(|entry| entry.range.end <= address);
        let entry = self.entries.get(index)?;
        let offset = address.checked_sub(entry.range.start)?;
        let end = address.checked_add(u64::try_from(len).ok()?)?;
        (end <= entry.range.end).then_some((entry, offset))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[derive(Debug, Default)]
    struct Recorder(Mutex<Vec<(u64, Vec<u8>)>>);

    impl BusDevice for Recorder {
        fn read(&self, offset: u64, data: &mut [u8]) {
            assert!(data.iter().all(|byte| *byte == 0));
            data.fill(u8::try_from(offset).unwrap());
        }
        fn write(&self, offset: u64, data: &[u8]) {
            self.0.lock().unwrap().push((offset, data.to_vec()));
        }
    }

    #[test]
    fn accesses_reach_the_device_with_its_own_offsets() {
        let (first, second) = (Arc::new(Recorder::default()), Arc::new(Recorder::default()));
        let mut bus = Bus::default();
        bus.insert(0x200..0x210, second.clone()).unwrap();
        bus.insert(0x100..0x110, first.clone()).unwrap();
        bus.write(0x20f, &[7]);
        let mut data = [9; 2];
        bus.read(0x104, &mut data);
        assert_eq!(data, [4, 4]);
        assert!(first.0.lock().unwrap().is_empty());
        assert_eq!(*second.0.lock().unwrap(), [(15, vec![7])]);
    }

    #[test]
    fn nothing_answers_with_ones() {
        let mut bus = Bus::default();
        bus.insert(0x100..0x104, Arc::new(Recorder::default())).unwrap();
        for address in [0, 0xff, 0x102, 0x104, u64::MAX] {
            let mut data = [0; 4];
            bus.read(address, &mut data);
            assert_eq!(data, [0xff; 4], "{address:#x}");
            bus.write(address, &data);
        }
    }

    #[test]
    fn ranges_never_overlap() {
        let mut bus = Bus::default();
        bus.insert(0x100..0x110, Arc::new(Recorder::default())).unwrap();
        for range in [0x0ff..0x101, 0x10f..0x120, 0x104..0x105, 0x0..0x200, 0x80..0x80] {
            bus.insert(range, Arc::new(Recorder::default())).unwrap_err();
        }
        bus.insert(0x110..0x111, Arc::new(Recorder::default())).unwrap();
        bus.insert(0x0ff..0x100, Arc::new(Recorder::default())).unwrap();
    }
}
