//! Which pages of memory have changed: runs of pages, numbered through all of RAM.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::layout::PAGE_BYTES;

/// Longest run of unchanged pages that is stored to make one run of two, and what share of a run they may be: a few more
/// bytes for fewer mappings, never more than a quarter of what has changed.
const GAP_MAX: usize = 8;
const GAP_SHARE: usize = 4;

/// Runs of at least so many pages are mapped where they belong, shorter ones are read: a mapping costs about as much as
/// reading some pages, and those are there when the guest looks.
const MAPPED_MIN: u32 = 16;
/// Most mappings that are made. The kernel's own limit for a process is 65530, for everything.
const MAPPINGS_MAX: usize = 8192;

/// Pages that follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Run {
    pub(crate) first: u32,
    pub(crate) count: u32,
    /// Their content is in the file, behind that of all stored runs before; otherwise it is zeros.
    pub(crate) stored: bool,
}

/// What has become of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    None,
    /// It is all zeros now.
    Zeros,
    Data,
}

impl Run {
    pub(crate) fn end(&self) -> u64 {
        u64::from(self.first) + u64::from(self.count)
    }

    pub(crate) fn bytes(&self) -> u64 {
        u64::from(self.count) * PAGE_BYTES
    }
}

/// Where candidates lie, with gaps no longer than may be stored along with them; at most so many pages at a time.
pub(super) fn groups(candidates: &[bool], pages_max: usize) -> Vec<Range<usize>> {
    let mut groups: Vec<Range<usize>> = Vec::new();
    for (page, _) in candidates.iter().enumerate().filter(|(_, is)| **is) {
        match groups.last_mut() {
            Some(group) if page - group.end <= GAP_MAX && page + 1 - group.start <= pages_max => {
                group.end = page + 1;
            }
            _ => groups.push(page..page + 1),
        }
    }
    groups
}

/// Stores short gaps along with what is around them.
pub(super) fn join(changes: &mut [Change]) {
    let (mut data, mut added, mut gap) = (0, 0, 0);
    for at in 0..changes.len() {
        if changes.get(at) != Some(&Change::Data) {
            gap += 1;
            continue;
        }
        if gap <= GAP_MAX && (added + gap) * GAP_SHARE <= data {
            for skipped in changes.get_mut(at - gap..at).unwrap_or_default() {
                *skipped = Change::Data;
            }
            added += gap;
        } else {
            (data, added) = (0, 0);
        }
        data += 1;
        gap = 0;
    }
}

/// Adds what became of pages from `first` on, which follow all before.
pub(super) fn append(runs: &mut Vec<Run>, first: u32, changes: &[Change]) {
    for (page, change) in (first..).zip(changes) {
        let stored = match change {
            Change::None => continue,
            Change::Zeros => false,
            Change::Data => true,
        };
        match runs.last_mut() {
            Some(run) if run.end() == u64::from(page) && run.stored == stored => run.count += 1,
            _ => runs.push(Run {
                first: page,
                count: 1,
                stored,
            }),
        }
    }
}

/// Whether runs are in order, do not overlap, lie in a memory of so many pages, and need a file of exactly this length.
pub(super) fn are_sound(runs: &[Run], pages: u64, file_bytes: u64) -> bool {
    let (mut next, mut stored) = (0, 0);
    let ordered = runs.iter().all(|run| {
        let fits = u64::from(run.first) >= next && run.count > 0;
        next = run.end();
        stored += if run.stored { run.bytes() } else { 0 };
        fits && next <= pages
    });
    ordered && stored == file_bytes
}

/// The fewest pages a run has that is mapped, so that there are not too many mappings.
pub(super) fn mapped_from(runs: &[Run]) -> u32 {
    let mut counts: Vec<u32> = runs
        .iter()
        .map(|run| run.count)
        .filter(|count| *count >= MAPPED_MIN)
        .collect();
    if counts.len() <= MAPPINGS_MAX {
        return MAPPED_MIN;
    }
    counts.sort_unstable_by(|a, b| b.cmp(a));
    // Those as long as the first that is left out are left out as well.
    counts.get(MAPPINGS_MAX).map_or(MAPPED_MIN, |count| count + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn change() -> impl Strategy<Value = Change> {
        prop_oneof![
            Just(Change::None),
            Just(Change::Zeros),
            Just(Change::Data),
            Just(Change::Data)
        ]
    }

    proptest! {
        #[test]
        fn groups_hold_every_candidate_once_and_little_else(
            candidates in proptest::collection::vec(proptest::bool::weighted(0.2), 0..400), pages_max in 1..40_usize,
        ) {
            let groups = groups(&candidates, pages_max);
            let mut next = 0;
            for group in &groups {
                prop_assert!(group.start >= next && group.len() <= pages_max && candidates[group.start]);
                prop_assert!(candidates[next..group.start].iter().all(|is| !is));
                next = group.end;
            }
            prop_assert!(candidates[next..].iter().all(|is| !is));
        }

        #[test]
        fn joining_stores_every_changed_page_and_little_more(changes in proptest::collection::vec(change(), 0..600)) {
            let mut joined = changes.clone();
            join(&mut joined);
            let data = |changes: &[Change]| changes.iter().filter(|change| **change == Change::Data).count();
            prop_assert!(data(&joined) * GAP_SHARE <= data(&changes) * (GAP_SHARE + 1));
            prop_assert!(changes.iter().zip(&joined).all(|(was, is)| was == is || *is == Change::Data));
            let mut runs = Vec::new();
            append(&mut runs, 7, &joined);
            let bytes = runs.iter().filter(|run| run.stored).map(Run::bytes).sum();
            prop_assert!(are_sound(&runs, 7 + changes.len() as u64, bytes));
            let mut again = vec![Change::None; changes.len()];
            for run in &runs {
                for page in run.first..run.first + run.count {
                    again[page as usize - 7] = if run.stored { Change::Data } else { Change::Zeros };
                }
            }
            prop_assert_eq!(again, joined);
        }

        #[test]
        fn any_runs_are_judged_without_a_panic(runs: Vec<(u32, u32, bool)>, pages: u64, bytes: u64) {
            let runs: Vec<_> = runs.into_iter().map(|(first, count, stored)| Run { first, count, stored }).collect();
            let _ = are_sound(&runs, pages, bytes);
        }
    }

    #[test]
    fn runs_that_overlap_or_lie_outside_or_are_empty_are_not_sound() {
        let run = |first, count| Run {
            first,
            count,
            stored: true,
        };
        assert!(are_sound(&[run(0, 2), run(2, 1)], 3, 3 * 4096));
        assert!(!are_sound(&[run(0, 2), run(1, 1)], 3, 3 * 4096));
        assert!(!are_sound(&[run(0, 2), run(2, 2)], 3, 4 * 4096));
        assert!(!are_sound(&[run(0, 0)], 3, 0));
        assert!(!are_sound(&[run(0, 2)], 3, 4096));
        assert!(!are_sound(&[run(u32::MAX, u32::MAX)], u64::from(u32::MAX), 4096));
    }

    #[test]
    fn however_scattered_memory_is_the_mappings_are_bounded() {
        let runs = |count: u32| -> Vec<_> {
            let lengths = (0..count).map(|n| MAPPED_MIN + n % 3);
            lengths
                .map(|count| Run {
                    first: 0,
                    count,
                    stored: true,
                })
                .collect()
        };
        assert_eq!(mapped_from(&runs(100)), MAPPED_MIN);
        let many = runs(30_000);
        let least = mapped_from(&many);
        assert!(many.iter().filter(|run| run.count >= least).count() <= MAPPINGS_MAX);
    }
}
