//! States of one sandbox that it can be rolled back to: what they are called, and how many there may be.
//!
//! A place is taken before the state is saved, so that two that are saved at once never have one name, and there are
//! never more than there may be. What is found by a name that looks like an id is whatever has that id.

use thiserror::Error;

/// Longest name, in characters.
pub const BOOKMARK_NAME_MAX: usize = 64;

/// Of one sandbox, oldest first.
#[derive(Clone, Debug)]
pub struct Bookmarks<I, T> {
    marks: Vec<Bookmark<I, T>>,
    /// Names that were made up so far.
    made_up: u64,
    /// The sandbox has ended.
    closed: bool,
}

#[derive(Clone, Debug)]
struct Bookmark<I, T> {
    id: I,
    name: String,
    /// `None` while it is saved.
    state: Option<T>,
}

/// Why there is no room for another.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BookmarkRefused {
    #[error("there are {max} checkpoints of this sandbox already")]
    TooMany { max: usize },
    #[error("there is a checkpoint named {name:?} already")]
    NameTaken { name: String },
    #[error("the sandbox has ended")]
    Closed,
}

impl<I, T> Default for Bookmarks<I, T> {
    fn default() -> Self {
        Self {
            marks: Vec::new(),
            made_up: 0,
            closed: false,
        }
    }
}

impl<I: Copy + Eq + ToString, T: Clone> Bookmarks<I, T> {
    /// Takes a place, under a name that is made up if there is none: `checkpoint-1` and so on.
    ///
    /// # Errors
    /// The name is taken, there are too many, or there is no sandbox any more.
    pub fn begin(&mut self, id: I, name: Option<String>, max: usize) -> Result<String, BookmarkRefused> {
        if self.closed {
            return Err(BookmarkRefused::Closed);
        }
        if self.marks.len() >= max {
            return Err(BookmarkRefused::TooMany { max });
        }
        let name = match name {
            Some(name) if self.has(&name) => return Err(BookmarkRefused::NameTaken { name }),
            Some(name) => name,
            None => self.make_up(),
        };
        self.marks.push(Bookmark {
            id,
            name: name.clone(),
            state: None,
        });
        Ok(name)
    }

    /// Puts what was saved into its place. It is given back where there is none any more.
    ///
    /// # Errors
    /// The sandbox has ended meanwhile.
    pub fn finish(&mut self, id: I, state: T) -> Result<(), T> {
        match self.marks.iter_mut().find(|mark| mark.id == id) {
            Some(mark) => {
                mark.state = Some(state);
                Ok(())
            }
            None => Err(state),
        }
    }

    /// Gives the place back of one that was not saved.
    pub fn abandon(&mut self, id: I) {
        self.marks.retain(|mark| mark.id != id || mark.state.is_some());
    }

    /// Of an id or a name, which is saved.
    #[must_use]
    pub fn find(&self, key: &str) -> Option<T> {
        let saved = |mark: &&Bookmark<I, T>| mark.state.is_some();
        let by_id = self.marks.iter().find(|mark| mark.id.to_string() == key);
        let found = by_id.or_else(|| self.marks.iter().find(|mark| mark.name == key));
        found.filter(saved).and_then(|mark| mark.state.clone())
    }

    /// The one that was begun last of those that are saved.
    #[must_use]
    pub fn latest(&self) -> Option<T> {
        self.marks.iter().rev().find_map(|mark| mark.state.clone())
    }

    pub fn remove(&mut self, key: &str) -> Option<T> {
        let found = self.find(key)?;
        let at = self
            .marks
            .iter()
            .position(|mark| mark.id.to_string() == key)
            .or_else(|| self.marks.iter().position(|mark| mark.name == key))?;
        self.marks.remove(at);
        Some(found)
    }

    /// All that are saved, oldest first.
    #[must_use]
    pub fn all(&self) -> Vec<T> {
        self.marks.iter().filter_map(|mark| mark.state.clone()).collect()
    }

    /// The sandbox has ended: gives all that were saved, and there will be no more.
    pub fn close(&mut self) -> Vec<T> {
        self.closed = true;
        let marks = std::mem::take(&mut self.marks);
        marks.into_iter().filter_map(|mark| mark.state).collect()
    }

    fn has(&self, name: &str) -> bool {
        self.marks.iter().any(|mark| mark.name == name)
    }

    /// Ends, because only so many names are taken.
    fn make_up(&mut self) -> String {
        loop {
            self.made_up += 1;
            let name = format!("checkpoint-{}", self.made_up);
            if !self.has(&name) {
                return name;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Marks = Bookmarks<u64, u64>;

    #[test]
    fn a_state_is_found_by_id_and_by_name_once_it_is_saved() {
        let mut marks = Marks::default();
        assert_eq!(marks.begin(7, Some("before".into()), 3), Ok("before".into()));
        assert_eq!((marks.find("before"), marks.latest()), (None, None));
        let taken = marks.begin(8, Some("before".into()), 3);
        assert_eq!(
            taken,
            Err(BookmarkRefused::NameTaken {
                name: "before".into()
            })
        );
        assert_eq!(marks.finish(7, 70), Ok(()));
        assert_eq!((marks.find("before"), marks.find("7")), (Some(70), Some(70)));
        assert_eq!(marks.begin(8, None, 3), Ok("checkpoint-1".into()));
        assert_eq!(marks.latest(), Some(70), "the newer one is not saved yet");
        marks.finish(8, 80).unwrap();
        assert_eq!(marks.latest(), Some(80));
        assert_eq!(marks.remove("checkpoint-1"), Some(80));
        assert_eq!((marks.remove("checkpoint-1"), marks.latest()), (None, Some(70)));
    }

    #[test]
    fn what_is_saved_after_the_end_is_given_back() {
        let mut marks = Marks::default();
        marks.begin(1, None, 3).unwrap();
        marks.begin(2, None, 3).unwrap();
        marks.finish(1, 10).unwrap();
        assert_eq!(marks.close(), [10]);
        assert_eq!(marks.finish(2, 20), Err(20));
        assert_eq!(marks.begin(3, None, 3), Err(BookmarkRefused::Closed));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Begin(Option<u8>),
        Finish(usize),
        Abandon(usize),
        Remove(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => proptest::option::of(0..6_u8).prop_map(Step::Begin),
            3 => any::<usize>().prop_map(Step::Finish),
            1 => any::<usize>().prop_map(Step::Abandon),
            2 => any::<usize>().prop_map(Step::Remove),
        ]
    }

    proptest! {
        #[test]
        fn names_are_never_shared_and_places_never_leak(steps in proptest::collection::vec(step(), 1..80)) {
            let (mut marks, mut begun, mut saved, mut next) = (Marks::default(), Vec::new(), Vec::new(), 100);
            for step in steps {
                let pick = |of: &[u64], at: usize| of.get(at % of.len().max(1)).copied();
                match step {
                    Step::Begin(name) => {
                        let name = name.map(|n| format!("n{n}"));
                        if marks.begin(next, name, 5).is_ok() {
                            begun.push(next);
                        }
                        next += 1;
                    }
                    Step::Finish(at) => if let Some(id) = pick(&begun, at) {
                        prop_assert_eq!(marks.finish(id, id), Ok(()));
                        begun.retain(|other| *other != id);
                        saved.push(id);
                        saved.sort_unstable();
                    },
                    Step::Abandon(at) => if let Some(id) = pick(&begun, at) {
                        marks.abandon(id);
                        begun.retain(|other| *other != id);
                    },
                    Step::Remove(at) => if let Some(id) = pick(&saved, at) {
                        prop_assert_eq!(marks.remove(&id.to_string()), Some(id));
                        saved.retain(|other| *other != id);
                    },
                }
                prop_assert!(begun.len() + saved.len() <= 5);
                prop_assert_eq!(marks.all(), saved.clone());
                prop_assert_eq!(marks.latest(), saved.last().copied());
                let mut names: Vec<_> = marks.marks.iter().map(|mark| mark.name.clone()).collect();
                names.sort();
                names.dedup();
                prop_assert_eq!(names.len(), begun.len() + saved.len());
            }
        }
    }
}
