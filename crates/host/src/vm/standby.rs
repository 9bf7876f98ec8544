//! A VM process that waits for what is resumed next.
//!
//! Starting one is a fifth of a resume in the software host and more: a directory, a control group, a program that is
//! loaded. It does not depend on what is resumed, so one process is kept that has been started and reached, and has no VM yet. Only
//! hosts on which sandboxes are frozen and resumed have one: it is asked for when that happens, and started when
//! nobody waits for anything else. Without it, who resumes starts a process of their own.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use pod_types::ErrorChain;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::boot::reach;
use super::control::Control;
use super::frozen::ThawVmError;
use super::homes::{Home, Homes};
use super::process::{Code, Process, VmmSpawner};

/// How long a new process may take to listen.
pub(super) const REACH_BOUND: Duration = Duration::from_secs(20);
/// Starting one gives way to who waits for an answer, and so many times at most: a host may always be busy.
const GIVE_WAY: Duration = Duration::from_millis(50);
const GIVE_WAY_MAX: u32 = 20;

/// A process without a VM. Dropping it ends it.
pub(super) struct Raised {
    pub(super) process: Process,
    pub(super) control: Control,
    pub(super) home: Home,
}

#[derive(Default)]
enum Place {
    #[default]
    Empty,
    Waiting(Box<Raised>),
    /// For good.
    Closed,
}

pub(crate) struct Standby {
    homes: Arc<Homes>,
    spawner: Arc<dyn VmmSpawner>,
    place: Mutex<Place>,
    wanted: Notify,
}

impl Standby {
    pub(crate) fn new(homes: Arc<Homes>, spawner: Arc<dyn VmmSpawner>) -> Arc<Self> {
        Arc::new(Self {
            homes,
            spawner,
            place: Mutex::default(),
            wanted: Notify::new(),
        })
    }

    pub(super) fn homes(&self) -> &Homes {
        &self.homes
    }

    /// How many wait.
    pub(crate) fn count(&self) -> u32 {
        u32::from(matches!(*self.place(), Place::Waiting(_)))
    }

    /// Something is going to be resumed, likely.
    pub(crate) fn want(&self) {
        self.wanted.notify_one();
    }

    /// The process that waits, or a new one. It will run a user's code.
    pub(super) async fn take(&self) -> Result<Raised, ThawVmError> {
        let waiting = self.waiting();
        self.want();
        match waiting {
            Some(raised) => Ok(raised),
            None => self.raise().await,
        }
    }

    /// Starts a process whenever one is wanted and none waits. Never ends.
    pub(crate) async fn keep(self: Arc<Self>, is_busy: impl Fn() -> bool) {
        loop {
            self.wanted.notified().await;
            for _ in 0..GIVE_WAY_MAX {
                if !is_busy() {
                    break;
                }
                sleep(GIVE_WAY).await;
            }
            if matches!(*self.place(), Place::Empty) {
                match self.raise().await {
                    Ok(raised) => self.put(raised),
                    Err(error) => {
                        tracing::warn!(error = %ErrorChain(&error), "no VM process waits for the next resume");
                    }
                }
            }
        }
    }

    /// Ends the one that waits; there will be no other.
    pub(crate) fn close(&self) {
        *self.place() = Place::Closed;
    }

    async fn raise(&self) -> Result<Raised, ThawVmError> {
        let home = self.homes.empty().map_err(ThawVmError::Home)?;
        let spawned = self
            .spawner
            .spawn(&home.files.dir, Code::User)
            .map_err(ThawVmError::Spawn)?;
        let mut process = Process::new(spawned, self.homes.roster());
        let reached = timeout(REACH_BOUND, reach(&mut process, &home.files)).await;
        let control = reached
            .map_err(|_| ThawVmError::Unreachable)?
            .map_err(ThawVmError::Reach)?;
        Ok(Raised {
            process,
            control,
            home,
        })
    }

    /// Whoever has killed it in the meantime has killed no VM.
    fn waiting(&self) -> Option<Raised> {
        let mut place = self.place();
        if matches!(*place, Place::Closed) {
            return None;
        }
        let Place::Waiting(mut raised) = std::mem::take(&mut *place) else {
            return None;
        };
        drop(place);
        let lives = raised.process.exited().now_or_never().is_none();
        lives.then_some(*raised)
    }

    fn put(&self, raised: Raised) {
        let mut place = self.place();
        if matches!(*place, Place::Empty) {
            *place = Place::Waiting(Box::new(raised));
        }
    }

    fn place(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::Wires;
    use crate::simulation::Simulation;
    use crate::tests::eventually;
    use crate::vm::Roster;

    fn standby() -> (Simulation, Arc<Standby>, tempfile::TempDir) {
        let (simulation, dir) = (Simulation::default(), tempfile::tempdir().unwrap());
        let homes = Homes::new(dir.path().to_owned(), Roster::default(), Wires::new(), 1);
        let standby = Standby::new(homes, Arc::new(simulation.clone()));
        tokio::spawn(Arc::clone(&standby).keep(|| false));
        (simulation, standby, dir)
    }

    fn waits(standby: &Standby) -> Option<u32> {
        match &*standby.place() {
            Place::Waiting(raised) => Some(raised.process.pid()),
            Place::Empty | Place::Closed => None,
        }
    }

    #[tokio::test]
    async fn a_process_waits_when_one_is_wanted_and_is_followed_by_another() {
        let (_simulation, standby, _dir) = standby();
        assert_eq!(waits(&standby), None);
        standby.want();
        eventually("one waits", || waits(&standby).is_some()).await;
        let waiting = waits(&standby);
        let taken = standby.take().await.unwrap();
        assert_eq!(Some(taken.process.pid()), waiting);
        eventually("the next one waits", || waits(&standby).is_some()).await;
        assert_ne!(waits(&standby), waiting);
    }

    #[tokio::test]
    async fn one_that_has_died_is_not_used() {
        let (simulation, standby, _dir) = standby();
        standby.want();
        eventually("one waits", || waits(&standby).is_some()).await;
        let dead = waits(&standby).unwrap();
        simulation.kill(dead);
        assert_ne!(standby.take().await.unwrap().process.pid(), dead);
    }

    #[tokio::test]
    async fn none_is_left_and_none_comes_after_the_end() {
        let (simulation, standby, _dir) = standby();
        standby.want();
        eventually("one waits", || waits(&standby).is_some()).await;
        let waiting = waits(&standby).unwrap();
        standby.close();
        eventually("it has ended", || simulation.has_ended(waiting)).await;
        let taken = standby.take().await.unwrap();
        assert_ne!(taken.process.pid(), waiting);
        assert_eq!(waits(&standby), None);
    }
}
