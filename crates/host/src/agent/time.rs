//! Seeing to it that a guest's clock shows the host's time.
//!
//! A message takes some milliseconds to a guest, and many on a busy host, so a clock that is simply set is late by as
//! much. Instead each answer says what the guest's clock showed when it was sent. That was after the question and
//! before the answer's arrival, which bounds how far the clock is off, and a few such bounds together say it closely
//! enough. Then the clock is moved by a difference, and it does not matter when that arrives.

use std::time::{Duration, Instant};

use agent_proto::{Reply, Request};
use tokio::time::sleep;

use super::connection::{AgentConnection, AgentError};
use crate::clock;

/// How far off a clock may be.
const ERROR_MAX: Duration = Duration::from_millis(4);
/// For how long a clock that was set by a message is asked again, with a pause between, while the host is too busy to tell
/// how late it is. Asking at once again would only meet the same crowd.
const PATIENCE: Duration = Duration::from_millis(400);
const PAUSE: Duration = Duration::from_millis(5);
/// How often at most a clock is asked that is taken to be right.
const DOUBTS_MAX: u32 = 2;

/// What is known of a clock before it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Clock {
    /// It went on while the VM stood still, or was cloned: right, unless it is shown to be wrong.
    WentOn,
    /// It was set by a message that took nobody knows how long, and is late.
    WasSet,
}

/// How far a guest's clock is ahead of the host's, in nanoseconds; negative where it is behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Offset {
    least: i64,
    most: i64,
}

impl Offset {
    /// From one question: when it was sent, what the guest's clock showed, when the answer came.
    pub(super) fn new(sent_ns: u64, shown_ns: u64, received_ns: u64) -> Self {
        Self {
            least: difference(shown_ns, received_ns),
            most: difference(shown_ns, sent_ns),
        }
    }

    /// What both say. Where they contradict each other (a clock was moved in between), the later one counts.
    fn and(self, later: Self) -> Self {
        let both = Self {
            least: self.least.max(later.least),
            most: self.most.min(later.most),
        };
        if both.least <= both.most { both } else { later }
    }

    fn middle(self) -> i64 {
        self.least.midpoint(self.most)
    }

    /// Whether the middle is right to within [`ERROR_MAX`].
    fn is_close(self) -> bool {
        self.most.abs_diff(self.least) <= 2 * nanoseconds(ERROR_MAX)
    }

    fn may_be_right(self) -> bool {
        self.least <= 0 && self.most >= 0
    }

    /// An answer that came at once from a clock that is right looks like this. Others do as well, but a clock that is
    /// ahead by just as much as the answer took is not worth the doubt.
    fn looks_right(self) -> bool {
        self.may_be_right() && self.least.unsigned_abs() <= nanoseconds(ERROR_MAX)
    }
}

/// Has the guest's clock show the host's time. `known` is what an answer that was got anyway has told.
pub(super) async fn agree(
    connection: &mut AgentConnection,
    clock: Clock,
    known: Option<Offset>,
) -> Result<(), AgentError> {
    let offset = match clock {
        Clock::WentOn => confirm(connection, known).await?,
        Clock::WasSet => Some(measure(connection, known).await?),
    };
    if let Some(offset) = offset.filter(|offset| offset.middle().unsigned_abs() > nanoseconds(ERROR_MAX / 4))
    {
        ask(connection, offset.middle().saturating_neg()).await?;
    }
    Ok(())
}

/// How far off a clock is that has been shown to be wrong; none where it has not.
async fn confirm(
    connection: &mut AgentConnection,
    known: Option<Offset>,
) -> Result<Option<Offset>, AgentError> {
    let mut offset = known;
    for _ in 0..DOUBTS_MAX {
        if offset.is_some_and(Offset::looks_right) {
            return Ok(None);
        }
        let answer = ask(connection, 0).await?;
        offset = Some(offset.map_or(answer, |offset| offset.and(answer)));
    }
    Ok(offset.filter(|offset| !offset.may_be_right()))
}

/// How far off a clock is, as closely as can be told in good time.
async fn measure(connection: &mut AgentConnection, known: Option<Offset>) -> Result<Offset, AgentError> {
    let begun = Instant::now();
    let answer = ask(connection, 0).await?;
    let mut offset = known.map_or(answer, |known| known.and(answer));
    while !offset.is_close() && begun.elapsed() < PATIENCE {
        sleep(PAUSE).await;
        offset = offset.and(ask(connection, 0).await?);
    }
    Ok(offset)
}

/// Puts the clock forward and asks what it shows.
async fn ask(connection: &mut AgentConnection, forward_ns: i64) -> Result<Offset, AgentError> {
    let sent_ns = clock::now_ns();
    let reply = connection.ask(&Request::Clock { forward_ns }).await?;
    shown(reply, "Clock").map(|shown_ns| Offset::new(sent_ns, shown_ns, clock::now_ns()))
}

/// The time in an answer.
pub(super) fn shown(reply: Reply, asked: &'static str) -> Result<u64, AgentError> {
    match reply {
        Reply::Time { wall_clock_ns } => Ok(wall_clock_ns),
        Reply::Failed(failure) => Err(AgentError::Failed(failure.message)),
        _ => Err(AgentError::Unexpected { expected: asked }),
    }
}

/// `one - other`, as far as that fits: what a guest shows may be anything.
fn difference(one: u64, other: u64) -> i64 {
    let distance = i64::try_from(one.abs_diff(other)).unwrap_or(i64::MAX);
    if one >= other { distance } else { -distance }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: i64 = 1_000_000;

    #[test]
    fn a_right_clock_that_answers_at_once_is_left_alone() {
        assert!(Offset::new(0, 39_000_000, 40_000_000).looks_right());
        assert!(!Offset::new(0, 20_000_000, 40_000_000).looks_right());
        assert!(!Offset::new(100_000_000, 141_000_000, 140_000_000).looks_right());
    }

    #[test]
    fn two_answers_say_more_than_one() {
        let wide = Offset::new(100_000_000, 130_000_000, 140_000_000);
        let late = Offset::new(200_000_000, 198_000_000, 203_000_000);
        assert_eq!(
            wide.and(late),
            Offset {
                least: -5 * MS,
                most: -2 * MS
            }
        );
        assert!(wide.and(late).is_close() && !wide.is_close());
        // The clock was moved between them.
        assert_eq!(
            late.and(Offset { least: 7, most: 9 }),
            Offset { least: 7, most: 9 }
        );
    }

    proptest! {
        #[test]
        fn what_is_said_of_a_clock_holds_for_it(
            ahead in -1_000_000_000_i64..1_000_000_000,
            exchanges in proptest::collection::vec((0_u32..50_000_000, 0_u32..50_000_000), 1..6),
        ) {
            let mut now: u64 = 1 << 60;
            let mut offset: Option<Offset> = None;
            for (there, back) in exchanges {
                let arrived = now + u64::from(there);
                let shown = arrived.checked_add_signed(ahead).unwrap();
                let answer = Offset::new(now, shown, arrived + u64::from(back));
                let both = offset.map_or(answer, |offset| offset.and(answer));
                prop_assert!(both.least <= ahead && ahead <= both.most);
                offset = Some(both);
                now += 100_000_000;
            }
        }

        #[test]
        fn a_guest_may_show_any_time(sent: u64, shown: u64, received: u64) {
            let offset = Offset::new(sent, shown, received);
            let _ = (offset.middle(), offset.is_close(), offset.looks_right(), offset.and(offset));
        }
    }
}
