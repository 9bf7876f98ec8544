//! How long a sandbox may live, and how long nobody may use it.
//!
//! Moments are those of a clock that begins with the machine and never jumps; what the time of day is does not matter
//! here. **In use** is a sandbox while something goes on that somebody waits for: a run, a fork, a file transfer. What
//! comes and goes in an instant, such as bytes of a terminal, is a use at that moment. A connection on which nothing
//! moves is none.

/// A moment, in milliseconds since some beginning that all moments have in common.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(u64);

/// What was agreed on. Without a limit there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    pub born: Moment,
    /// Longest life, in seconds.
    pub life_s: Option<u64>,
    /// Longest time without a use, in seconds.
    pub idle_s: Option<u64>,
}

/// How a sandbox is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    Now,
    /// The last time was then.
    Until(Moment),
}

/// Which of the two times has run out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    Lifetime,
    Idle,
}

/// What is to be done about a sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Over(Expiry),
    /// Nothing before this moment.
    LookAt(Moment),
    /// Nothing as long as nobody changes its terms.
    Never,
}

/// What is wished for one of the two times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wish {
    #[default]
    Keep,
    /// As if nothing had ever been asked for.
    Most,
    Seconds(u64),
}

/// Why a lifetime is not changed: the sandbox is that old already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the sandbox is {age_s} s old already")]
pub struct TooShort {
    pub age_s: u64,
}

impl Moment {
    #[must_use]
    pub fn from_ms(ms: u64) -> Self {
        Self(ms)
    }

    #[must_use]
    pub fn ms(self) -> u64 {
        self.0
    }

    #[must_use]
    pub fn plus_s(self, seconds: u64) -> Self {
        Self(self.0.saturating_add(seconds.saturating_mul(1000)))
    }

    /// Milliseconds since an earlier moment; 0 since a later one.
    #[must_use]
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl Lifetime {
    /// When the sandbox ends, used or not.
    #[must_use]
    pub fn ends(&self) -> Option<Moment> {
        self.life_s.map(|seconds| self.born.plus_s(seconds))
    }

    /// When it has been idle for too long; `None` also while it is in use.
    #[must_use]
    pub fn idle_ends(&self, usage: Use) -> Option<Moment> {
        match usage {
            Use::Now => None,
            Use::Until(last) => self.idle_s.map(|seconds| last.plus_s(seconds)),
        }
    }

    /// A life that is over is over whatever else is: it ends what being idle would only freeze.
    #[must_use]
    pub fn judge(&self, now: Moment, usage: Use) -> Verdict {
        let ends = self.ends();
        if ends.is_some_and(|ends| ends <= now) {
            return Verdict::Over(Expiry::Lifetime);
        }
        let idle_ends = self.idle_ends(usage);
        if idle_ends.is_some_and(|ends| ends <= now) {
            return Verdict::Over(Expiry::Idle);
        }
        // A use that ends later than now is over for long enough no earlier than this.
        let soonest_idle = idle_ends.or(self.idle_s.map(|seconds| now.plus_s(seconds)));
        match ends.into_iter().chain(soonest_idle).min() {
            Some(moment) => Verdict::LookAt(moment),
            None => Verdict::Never,
        }
    }

    /// With other times. `most_life_s` and `most_idle_s` are what its tenant may have; what it was given once stays
    /// within its reach, also when its tenant may have less by now. A life is counted from birth, so no number of changes
    /// makes one longer than that.
    ///
    /// # Errors
    /// It would have been over already.
    pub fn change(
        self,
        now: Moment,
        (life, idle): (Wish, Wish),
        (most_life_s, most_idle_s): (Option<u64>, Option<u64>),
    ) -> Result<Self, TooShort> {
        let changed = Self {
            life_s: granted(life, self.life_s, most_life_s),
            idle_s: granted(idle, self.idle_s, most_idle_s),
            ..self
        };
        if life != Wish::Keep && changed.ends().is_some_and(|ends| ends <= now) {
            let age_s = now.since(self.born).div_ceil(1000);
            return Err(TooShort { age_s });
        }
        Ok(changed)
    }
}

fn granted(wish: Wish, current: Option<u64>, most: Option<u64>) -> Option<u64> {
    let reach = match (most, current) {
        (Some(most), Some(current)) => Some(most.max(current)),
        (None, _) | (_, None) => None,
    };
    match (wish, reach) {
        (Wish::Keep, _) => current,
        (Wish::Most, reach) => reach,
        (Wish::Seconds(seconds), Some(reach)) => Some(seconds.min(reach)),
        (Wish::Seconds(seconds), None) => Some(seconds),
    }
}

#[cfg(test)]
mod tests;
