//! Free places of the writable layer: runs of consecutive numbers, kept merged so that new blocks lie together.

use std::collections::BTreeMap;

/// A set of numbers, as runs.
#[derive(Clone, Debug, Default)]
pub(super) struct Extents {
    /// First number of each run to its length; no two runs touch.
    runs: BTreeMap<u32, u32>,
    total: u32,
}

impl Extents {
    /// Adds a number that is not in the set.
    pub(super) fn insert(&mut self, number: u32) {
        let (mut first, mut len) = (number, 1);
        if let Some((&before, &before_len)) = self.runs.range(..number).next_back()
            && before + before_len == number
        {
            (first, len) = (before, before_len + 1);
        }
        if let Some(after_len) = number.checked_add(1).and_then(|after| self.runs.remove(&after)) {
            len += after_len;
        }
        self.runs.insert(first, len);
        self.total += 1;
    }

    /// Takes up to `wanted` consecutive numbers out, the lowest there are.
    pub(super) fn take(&mut self, wanted: u32) -> Option<(u32, u32)> {
        let (first, len) = self.runs.pop_first()?;
        let taken = len.min(wanted);
        if taken < len {
            self.runs.insert(first + taken, len - taken);
        }
        self.total -= taken;
        Some((first, taken))
    }

    /// How many numbers are in the set.
    pub(super) fn len(&self) -> u32 {
        self.total
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_set_whose_runs_never_touch(steps in proptest::collection::vec((0..64_u32, 1..8_u32), 0..200)) {
            let (mut extents, mut model) = (Extents::default(), BTreeSet::new());
            for (number, wanted) in steps {
                if model.insert(number) {
                    extents.insert(number);
                } else if let Some((first, count)) = extents.take(wanted) {
                    prop_assert!(count >= 1 && count <= wanted);
                    prop_assert_eq!(model.first(), Some(&first));
                    for taken in first..first + count {
                        prop_assert!(model.remove(&taken));
                    }
                }
                prop_assert_eq!(extents.len() as usize, model.len());
                let ends: Vec<_> = extents.runs.iter().map(|(first, len)| (*first, first + len)).collect();
                prop_assert!(ends.windows(2).all(|pair| pair[0].1 < pair[1].0));
            }
        }
    }
}
