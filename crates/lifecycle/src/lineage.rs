//! Who was forked from whom.
//!
//! A forest of ids. An id whose parent is gone keeps its name, and counts as a root. When one takes the place of
//! another, the two become one under the other's id: the place where a client looks for it stays, and what was forked
//! from either is from then on forked from both.

use std::collections::HashMap;
use std::hash::Hash;

#[derive(Clone, Debug)]
pub struct Lineage<I> {
    parents: HashMap<I, Option<I>>,
}

impl<I> Default for Lineage<I> {
    fn default() -> Self {
        Self {
            parents: HashMap::new(),
        }
    }
}

impl<I: Copy + Eq + Hash + Ord> Lineage<I> {
    /// A new id; `parent` is what it was forked from.
    pub fn add(&mut self, id: I, parent: Option<I>) {
        self.parents.insert(id, parent);
    }

    /// Those forked from it keep its name.
    pub fn remove(&mut self, id: I) {
        self.parents.remove(&id);
    }

    #[must_use]
    pub fn parent(&self, id: I) -> Option<I> {
        self.parents.get(&id).copied().flatten()
    }

    /// Those forked from it that are still known, in order.
    #[must_use]
    pub fn children(&self, id: I) -> Vec<I> {
        let mut children: Vec<I> = self
            .parents
            .iter()
            .filter(|(_, parent)| **parent == Some(id))
            .map(|(child, _)| *child)
            .collect();
        children.sort();
        children
    }

    /// `winner` takes the place of `loser`, under whose id it is known from now on.
    pub fn merge(&mut self, loser: I, winner: I) {
        // Whichever of the two stands higher has the place of both.
        let parent = if self.descends(loser, winner) {
            self.parent(winner)
        } else {
            self.parent(loser)
        };
        self.parents.remove(&winner);
        for above in self.parents.values_mut() {
            if *above == Some(winner) {
                *above = Some(loser);
            }
        }
        self.parents.insert(loser, parent);
    }

    /// Whether `id` comes from `ancestor`, through any number of forks.
    fn descends(&self, id: I, ancestor: I) -> bool {
        let mut above = self.parent(id);
        while let Some(id) = above {
            if id == ancestor {
                return true;
            }
            above = self.parent(id);
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Step {
        Create,
        Fork(usize),
        Delete(usize),
        Merge(usize, usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            1 => Just(Step::Create),
            4 => any::<usize>().prop_map(Step::Fork),
            1 => any::<usize>().prop_map(Step::Delete),
            3 => any::<(usize, usize)>().prop_map(|(loser, winner)| Step::Merge(loser, winner)),
        ]
    }

    proptest! {
        #[test]
        fn whatever_is_forked_merged_and_deleted_nobody_is_its_own_ancestor(
            steps in proptest::collection::vec(step(), 1..60)
        ) {
            let (mut lineage, mut known, mut next) = (Lineage::default(), vec![0], 1);
            lineage.add(0, None);
            for step in steps {
                let pick = |at: usize| known.get(at % known.len().max(1)).copied();
                match step {
                    Step::Create => {
                        lineage.add(next, None);
                        known.push(next);
                        next += 1;
                    }
                    Step::Fork(at) => if let Some(parent) = pick(at) {
                        lineage.add(next, Some(parent));
                        prop_assert!(lineage.children(parent).contains(&next));
                        known.push(next);
                        next += 1;
                    },
                    Step::Delete(at) => if let Some(id) = pick(at) {
                        lineage.remove(id);
                        known.retain(|other| *other != id);
                    },
                    Step::Merge(loser, winner) => if let (Some(loser), Some(winner)) = (pick(loser), pick(winner))
                        && loser != winner
                    {
                        let mut both = lineage.children(loser);
                        both.extend(lineage.children(winner));
                        both.retain(|child| *child != winner && *child != loser);
                        both.sort();
                        lineage.merge(loser, winner);
                        prop_assert_eq!(lineage.children(loser), both);
                        prop_assert!(lineage.children(winner).is_empty());
                        known.retain(|other| *other != winner);
                    },
                }
                for id in &known {
                    prop_assert!(!lineage.descends(*id, *id));
                }
            }
        }
    }

    #[test]
    fn the_winner_takes_the_place_and_the_children_of_the_loser() {
        let mut lineage = Lineage::default();
        for (id, parent) in [(1, None), (2, Some(1)), (3, Some(2)), (4, Some(2)), (5, Some(4))] {
            lineage.add(id, parent);
        }
        lineage.merge(2, 4);
        assert_eq!((lineage.parent(2), lineage.children(2)), (Some(1), vec![3, 5]));
        // The other way round: an ancestor takes the place of what was forked from it.
        lineage.merge(5, 1);
        assert_eq!((lineage.parent(5), lineage.parent(2)), (None, Some(5)));
    }
}
