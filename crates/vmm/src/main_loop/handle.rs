//! What the loop does between two turns: events of the VM, requests of daemons.

use std::os::fd::OwnedFd;
use std::time::Instant;

use event_manager::SubscriberOps as _;
use pod_types::ErrorChain;
use vmm_proto::{CloneReport, Command, EndCause, FromVmm, Outcome, Reply, Request};

use super::{MainLoop, Turn, lock};
use crate::clone::{self, Delivered, Order};
use crate::control::Incoming;
use crate::events::MachineEvent;
use crate::freeze::Files;
use crate::log;
use crate::machine::RestoreError;
use crate::memory::PageSource;
use crate::requests::{CloneRequest, Waiter};
use crate::run_state::Action;
use crate::session::{Actions, Session};
use crate::virtio::net;

/// What a request leads to.
enum Response {
    Now(Outcome),
    /// The answer comes with these, or later.
    Actions(Actions),
    /// The VM ends.
    End(EndCause),
}

/// Clones that were made, before anybody is told.
struct Made {
    waiter: Waiter,
    since: Instant,
    pids: Vec<u32>,
    error: Option<String>,
}

impl MainLoop {
    pub(super) fn handle_events(&mut self) -> Option<Turn> {
        for event in self.events.drain() {
            let session = self.session.as_mut()?;
            match event {
                MachineEvent::Parked { vcpu, state } => {
                    let actions = session.parked(vcpu, state);
                    if let Some(turn) = self.perform(actions) {
                        return Some(turn);
                    }
                }
                MachineEvent::Panicked => session.panicked(),
                MachineEvent::Ended(cause) => return Some(Turn::Ended(session.judge(cause))),
            }
        }
        self.session.as_ref()?.overdue().map(Turn::Ended)
    }

    pub(super) fn handle_requests(&mut self) -> Option<Turn> {
        let requests = lock(&self.control.as_ref()?.server).take_requests();
        for incoming in requests {
            let waiter = Waiter {
                connection: incoming.from,
                request: incoming.request.id,
            };
            match self.handle(waiter, incoming) {
                Response::Now(outcome) => self.reply(waiter, outcome),
                Response::Actions(actions) => {
                    if let Some(turn) = self.perform(actions) {
                        return Some(turn);
                    }
                }
                Response::End(cause) => {
                    self.reply(waiter, Outcome::Done);
                    return Some(Turn::Ended(cause));
                }
            }
        }
        None
    }

    fn handle(&mut self, waiter: Waiter, incoming: Incoming) -> Response {
        let Incoming { request, files, .. } = incoming;
        let Request { version, command, .. } = request;
        let since = Instant::now();
        if version != vmm_proto::VERSION {
            let ours = vmm_proto::VERSION;
            return refuse(&format!(
                "protocol version {version} is not {ours}, which this process speaks"
            ));
        }
        match (command, &mut self.session) {
            (Command::Start(_) | Command::Restore(_) | Command::Thaw(_), Some(_)) => {
                refuse("this process has started its VM already")
            }
            (Command::Start(config), None) => match self.start(&config, None) {
                Ok(()) => Response::Now(Outcome::Done),
                Err(error) => refuse(&ErrorChain(&error).to_string()),
            },
            (Command::Restore(config), None) => restored(self.restore(&config)),
            (Command::Thaw(config), None) => restored(self.thaw(&config)),
            (
                Command::Snapshot { .. } | Command::RecordWorkingSet { .. } | Command::Freeze(_),
                Some(session),
            ) if !session.is_paused() => refuse("the VM must be paused"),
            (Command::Freeze(config), Some(session)) => {
                let frozen = Files::new(config, files).and_then(|files| session.write_frozen(&files));
                match frozen {
                    Ok(report) => Response::Now(Outcome::Frozen(report)),
                    Err(error) => refuse(&ErrorChain(&error).to_string()),
                }
            }
            (Command::RecordWorkingSet { file }, Some(session)) => {
                match session.record_working_set(&file, PageSource(&self.proc)) {
                    Ok(()) => Response::Now(Outcome::Done),
                    Err(error) => refuse(&ErrorChain(&error).to_string()),
                }
            }
            (Command::Snapshot { dir }, Some(session)) => {
                match session.snapshot(&dir, PageSource(&self.proc)) {
                    Ok(()) => Response::Now(Outcome::Done),
                    Err(error) => refuse(&ErrorChain(&error).to_string()),
                }
            }
            (Command::Wire, Some(session)) => match wire_of(files) {
                Ok(wire) => {
                    session.rewire(wire);
                    Response::Now(Outcome::Done)
                }
                Err(why) => refuse(&why),
            },
            (Command::Pause, Some(session)) => Response::Actions(session.pause(waiter)),
            (Command::Resume, Some(session)) => Response::Actions(session.resume(waiter)),
            (Command::Clone(config), Some(session)) => match Order::new(config, files) {
                Ok(order) => Response::Actions(session.clone(CloneRequest { waiter, order, since })),
                Err(why) => refuse(&why),
            },
            (Command::Stats, session) => {
                Response::Now(Outcome::Stats(Session::stats(session.as_ref(), &self.proc)))
            }
            (Command::Stop, _) => Response::End(EndCause::Stopped),
            (
                Command::Pause
                | Command::Resume
                | Command::Clone(_)
                | Command::Freeze(_)
                | Command::Snapshot { .. }
                | Command::RecordWorkingSet { .. }
                | Command::Wire,
                None,
            ) => refuse("no VM has been started"),
        }
    }

    /// Does what the state of the VM asks for. In a clone that is made on the way, returns at once.
    fn perform(&mut self, actions: Actions) -> Option<Turn> {
        let mut made = Vec::new();
        for action in actions {
            let session = self.session.as_mut()?;
            match action {
                Action::ParkAll => session.park_all(),
                Action::RunAll => session.run_all(),
                Action::Answer(waiter) => self.reply(waiter, Outcome::Done),
                Action::Clone(CloneRequest { waiter, order, since }) => {
                    match clone::deliver(order, session) {
                        Delivered::Parent { pids, error } => made.push(Made {
                            waiter,
                            since,
                            pids,
                            error,
                        }),
                        Delivered::Child(birth) => return Some(Turn::Born(birth)),
                    }
                }
            }
        }
        // Now that the VM runs on.
        for made in made {
            let (waiter, outcome) = made.outcome();
            self.reply(waiter, outcome);
        }
        None
    }

    fn reply(&mut self, waiter: Waiter, outcome: Outcome) {
        let Some(control) = &self.control else { return };
        let reply = FromVmm::Reply(Reply {
            id: waiter.request,
            outcome,
        });
        match self.manager.event_ops(control.id) {
            Ok(mut ops) => lock(&control.server).send(waiter.connection, &reply, &mut ops),
            Err(error) => log::line(format_args!("lost a reply: {error}")),
        }
    }
}

impl Made {
    fn outcome(self) -> (Waiter, Outcome) {
        let outcome = match (self.pids.is_empty(), self.error) {
            (true, Some(error)) => Outcome::Failed(error),
            (_, error) => Outcome::Cloned(CloneReport {
                pids: self.pids,
                error,
                paused_us: u64::try_from(self.since.elapsed().as_micros()).unwrap_or(u64::MAX),
            }),
        };
        (self.waiter, outcome)
    }
}

fn restored(result: Result<(), RestoreError>) -> Response {
    match result {
        Ok(()) => Response::Now(Outcome::Done),
        Err(error) if error.is_of_the_snapshot() => {
            Response::Now(Outcome::Unusable(ErrorChain(&error).to_string()))
        }
        Err(error) => refuse(&ErrorChain(&error).to_string()),
    }
}

/// The wire that came with a request, if one did and it is one.
pub(super) fn wire_of(files: Vec<OwnedFd>) -> Result<OwnedFd, String> {
    let came = files.len();
    let [wire] =
        <[OwnedFd; 1]>::try_from(files).map_err(|_| format!("{came} descriptors came instead of one"))?;
    net::check(&wire).map_err(|error| ErrorChain(&error).to_string())?;
    Ok(wire)
}

fn refuse(why: &str) -> Response {
    Response::Now(Outcome::Failed(why.to_owned()))
}
