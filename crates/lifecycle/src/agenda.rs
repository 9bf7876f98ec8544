//! What is to be looked at when.

use std::collections::BTreeMap;

use crate::Moment;

/// Things in the order of their moments; those of one moment in the order in which they came.
#[derive(Clone, Debug)]
pub struct Agenda<T> {
    entries: BTreeMap<Entry, T>,
    made: u64,
}

/// Names one entry. Other than its moment it means nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Entry {
    at: Moment,
    number: u64,
}

impl<T> Default for Agenda<T> {
    fn default() -> Self {
        Self {
            entries: BTreeMap::new(),
            made: 0,
        }
    }
}

impl<T> Agenda<T> {
    /// Adds one. True when it comes before all others, so that whoever waits for the first has to wait anew.
    pub fn add(&mut self, at: Moment, item: T) -> (Entry, bool) {
        let entry = Entry {
            at,
            number: self.made,
        };
        self.made += 1;
        let is_first = self.first().is_none_or(|first| at < first);
        self.entries.insert(entry, item);
        (entry, is_first)
    }

    pub fn remove(&mut self, entry: Entry) -> Option<T> {
        self.entries.remove(&entry)
    }

    /// The moment of the first.
    #[must_use]
    pub fn first(&self) -> Option<Moment> {
        self.entries.keys().next().map(|entry| entry.at)
    }

    /// Takes the first out if its moment has come.
    pub fn due(&mut self, now: Moment) -> Option<(Entry, T)> {
        let first = self.entries.first_entry()?;
        (first.key().at <= now).then(|| first.remove_entry())
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_entry_that_was_removed_is_never_due() {
        let mut agenda = Agenda::default();
        let at = Moment::from_ms;
        let (early, is_first) = agenda.add(at(5), "early");
        assert!(is_first);
        assert!(!agenda.add(at(9), "late").1);
        assert_eq!(agenda.remove(early), Some("early"));
        assert_eq!(agenda.due(at(8)), None);
        assert_eq!(agenda.due(at(9)).map(|(_, item)| item), Some("late"));
        assert!(agenda.is_empty());
    }

    proptest! {
        #[test]
        fn everything_comes_once_in_order_and_not_early(moments in proptest::collection::vec(0..50_u64, 0..40)) {
            let mut agenda = Agenda::default();
            for moment in &moments {
                agenda.add(Moment::from_ms(*moment), *moment);
            }
            let mut seen = Vec::new();
            for now in 0..50 {
                while let Some((_, item)) = agenda.due(Moment::from_ms(now)) {
                    prop_assert_eq!(item, now);
                    seen.push(item);
                }
                prop_assert!(agenda.first().is_none_or(|first| first > Moment::from_ms(now)));
            }
            let mut sorted = moments.clone();
            sorted.sort_unstable();
            prop_assert_eq!(seen, sorted);
        }
    }
}
