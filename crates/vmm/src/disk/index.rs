//! The block index: where each block of the disk lies. Two levels, so that what was never written takes no memory.

/// Blocks per chunk: one page of entries, so that a cloned process copies only the pages it changes.
const CHUNK: usize = 1024;

/// Where a block lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Base,
    Zeros,
    /// In a layer, under this number.
    Stored(u32),
}

/// Entry of a block that lies in the base: 0, which fresh memory is.
const BASE: u32 = 0;
const ZEROS: u32 = 1;
const STORED_FIRST: u32 = 2;

/// Highest number a stored block can have, plus one.
pub(super) const NUMBERS: u32 = u32::MAX - STORED_FIRST;

#[derive(Clone, Debug)]
pub(super) struct BlockIndex {
    /// A chunk that is not there is all base.
    chunks: Vec<Option<Box<[u32; CHUNK]>>>,
}

impl BlockIndex {
    pub(super) fn new(blocks: u32) -> Self {
        Self {
            chunks: vec![None; (blocks as usize).div_ceil(CHUNK)],
        }
    }

    /// The place of a block; one beyond the disk lies in the base, where it reads as zeros.
    pub(super) fn get(&self, block: u32) -> Place {
        let block = block as usize;
        let chunk = self.chunks.get(block / CHUNK).and_then(Option::as_ref);
        match chunk.map_or(BASE, |chunk| chunk[block % CHUNK]) {
            BASE => Place::Base,
            ZEROS => Place::Zeros,
            stored => Place::Stored(stored - STORED_FIRST),
        }
    }

    /// The blocks that are not the base's, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, Place)> {
        let chunks = (0..).step_by(CHUNK).zip(&self.chunks);
        let there = chunks.filter(|(_, chunk)| chunk.is_some());
        let blocks = there.flat_map(|(first, _)| (first..).take(CHUNK));
        blocks
            .map(|block| (block, self.get(block)))
            .filter(|(_, place)| *place != Place::Base)
    }

    /// Sets the place of a block of the disk.
    pub(super) fn set(&mut self, block: u32, place: Place) {
        let block = block as usize;
        let Some(chunk) = self.chunks.get_mut(block / CHUNK) else {
            return;
        };
        chunk.get_or_insert_with(|| Box::new([BASE; CHUNK]))[block % CHUNK] = match place {
            Place::Base => BASE,
            Place::Zeros => ZEROS,
            Place::Stored(number) => number.saturating_add(STORED_FIRST),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_block_begins_in_the_base_and_takes_no_memory() {
        let index = BlockIndex::new(3000);
        assert!((0..3000).all(|block| index.get(block) == Place::Base));
        assert!(index.chunks.iter().all(Option::is_none));
    }

    #[test]
    fn a_place_is_kept_per_block() {
        let mut index = BlockIndex::new(3000);
        let places = [
            (0, Place::Stored(0)),
            (1023, Place::Zeros),
            (1024, Place::Stored(NUMBERS)),
            (2999, Place::Base),
        ];
        places
            .into_iter()
            .for_each(|(block, place)| index.set(block, place));
        assert!(places.into_iter().all(|(block, place)| index.get(block) == place));
        assert_eq!(index.get(1022), Place::Base);
    }
}
