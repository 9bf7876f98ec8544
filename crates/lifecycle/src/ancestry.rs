//! When two VMs went different ways.
//!
//! A VM knows the forks it comes from: each VM on the way, and when it was cloned from the one before. What two VMs
//! have in common was settled before the earliest fork that one of them has and the other has not.

use std::sync::Arc;

/// Links that are remembered: the first, and the newest before this many. What lies between is forgotten, and the answer
/// is then earlier than the truth, never later.
const LINKS_MAX: usize = 64;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ancestry {
    /// From the VM that was made from a template to this one. Never empty.
    links: Arc<[Link]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Link {
    vm: u64,
    born: u64,
}

impl Ancestry {
    /// Of a VM that was made from a template. `vm` is a number that no other VM has, `born` a time on any clock.
    #[must_use]
    pub fn root(vm: u64, born: u64) -> Self {
        Self {
            links: Arc::new([Link { vm, born }]),
        }
    }

    /// Of a clone of this VM.
    #[must_use]
    pub fn child(&self, vm: u64, born: u64) -> Self {
        let mut links = self.links.to_vec();
        if links.len() >= LINKS_MAX {
            links.remove(1);
        }
        links.push(Link { vm, born });
        Self { links: links.into() }
    }

    /// Every VM on the way and when it was born, from the one that was made from a template to this one.
    pub fn links(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.links.iter().map(|link| (link.vm, link.born))
    }

    /// What [`Self::links`] has given; `None` for what cannot have come from there.
    #[must_use]
    pub fn from_links(links: &[(u64, u64)]) -> Option<Self> {
        let fits = (1..=LINKS_MAX).contains(&links.len());
        fits.then(|| Self {
            links: links.iter().map(|&(vm, born)| Link { vm, born }).collect(),
        })
    }

    /// A time no later than that at which the two went different ways; they were the same until then, or were made
    /// from templates after it.
    #[must_use]
    pub fn parted(&self, other: &Self) -> u64 {
        let in_common = self
            .links
            .iter()
            .rposition(|link| other.links.iter().any(|theirs| theirs.vm == link.vm));
        let Some(mine) = in_common else {
            return self.first_after(None).min(other.first_after(None));
        };
        let vm = self.links[mine].vm;
        self.first_after(Some(vm)).min(other.first_after(Some(vm)))
    }

    /// When the first VM after this one was born, or the first of all; never when there is none.
    fn first_after(&self, vm: Option<u64>) -> u64 {
        let next = match vm {
            None => self.links.first(),
            Some(vm) => {
                let at = self.links.iter().position(|link| link.vm == vm);
                let after = at.map_or(0, |at| at + 1);
                // Links after the first may have been forgotten.
                if after == 1 && self.links.len() >= LINKS_MAX {
                    self.links.first()
                } else {
                    self.links.get(after)
                }
            }
        };
        next.map_or(u64::MAX, |link| link.born)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn nothing_that_came_after_the_parting_is_taken_for_common(
            forks in proptest::collection::vec(any::<prop::sample::Index>(), 1..200), depth_first: bool
        ) {
            // Each VM with its parent; it is born at the time of its number.
            let mut parents: Vec<Option<usize>> = vec![None];
            let mut ancestries = vec![Ancestry::root(0, 1)];
            for fork in &forks {
                let new = parents.len();
                // Deep families forget; broad ones do not.
                let parent = if depth_first { new - 1 - fork.index(new.min(2)) } else { fork.index(new) };
                ancestries.push(ancestries[parent].child(new as u64, new as u64 + 1));
                parents.push(Some(parent));
            }
            let line = |vm: usize| {
                let mut line: Vec<usize> = std::iter::successors(Some(vm), |vm| parents[*vm]).collect();
                line.reverse();
                line
            };
            for (a, b) in [(parents.len() - 1, parents.len() / 2), (parents.len() - 1, 0), (parents.len() / 3, parents.len() / 2)] {
                let (left, right) = (line(a), line(b));
                let common = left.iter().zip(&right).take_while(|(a, b)| a == b).count();
                let truth = left.get(common).into_iter().chain(right.get(common)).min();
                let truth = truth.map_or(u64::MAX, |vm| *vm as u64 + 1);
                let said = ancestries[a].parted(&ancestries[b]);
                prop_assert!(said <= truth, "{said} {truth}");
                if left.len().max(right.len()) < LINKS_MAX {
                    prop_assert_eq!(said, truth);
                }
                prop_assert_eq!(said, ancestries[b].parted(&ancestries[a]));
            }
        }
    }

    #[test]
    fn strangers_parted_when_the_first_of_them_was_made() {
        let (a, b) = (Ancestry::root(1, 100), Ancestry::root(2, 50));
        assert_eq!(a.child(3, 300).parted(&b), 50);
        assert_eq!(a.parted(&a), u64::MAX);
        assert_eq!(a.child(3, 300).parted(&a), 300);
        assert_eq!(a.child(3, 300).parted(&a.child(4, 200)), 200);
    }

    #[test]
    fn an_ancestry_is_the_same_after_it_was_written_down() {
        let deep = (2..200).fold(Ancestry::root(1, 1), |parent, vm| parent.child(vm, vm));
        let links: Vec<_> = deep.links().collect();
        assert_eq!(Ancestry::from_links(&links), Some(deep));
        assert_eq!(Ancestry::from_links(&[]), None);
        assert_eq!(Ancestry::from_links(&[(1, 1); LINKS_MAX + 1]), None);
    }
}
