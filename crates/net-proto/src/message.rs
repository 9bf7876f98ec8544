//! The messages of the control socket.

use egress::Policy;
use serde::{Deserialize, Serialize};

use crate::{LogPage, NetStats, Secret};

/// Chosen by the daemon, never used again for another wire.
pub type WireId = u64;

/// From the daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// [`crate::VERSION`] of the sender.
    pub version: u16,
    /// Chosen by the sender; comes back in the [`Reply`].
    pub id: u64,
    pub command: Command,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Answered with [`Outcome::Welcome`].
    Hello,
    /// Serve a wire; brings one descriptor, see [`Attach`].
    Attach(Box<Attach>),
    /// Answered when in force: flows that are no longer allowed have been reset by then.
    SetPolicy { wire: WireId, policy: Policy },
    /// End the wire and forget it, its log included. Fine for a wire that is not known.
    Detach { wire: WireId },
    /// What was reached or refused, oldest first; answered with [`Outcome::Log`]. To begin with, `after` is 0.
    Log { wire: WireId, after: u64, max: u16 },
    /// Of one wire, or of all; answered with [`Outcome::Stats`].
    Stats { wire: Option<WireId> },
    /// The secrets of a wire from now on, instead of those it had. Answered when in force: connections in which an
    /// earlier one could still be sent have been reset by then.
    SetSecrets { wire: WireId, secrets: Vec<Secret> },
}

/// A wire to be served.
///
/// With the request comes, as ancillary data (`SCM_RIGHTS`) at the message's first byte, the network process's end of the
/// pair: a connected `AF_UNIX` socket of type `SOCK_SEQPACKET`. A wire that is known already gets this socket instead of the
/// one it had: its flows end, its log and counters go on. A wire ends by itself when the other end is closed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attach {
    pub wire: WireId,
    pub policy: Policy,
    /// The wire of the VM that this one was cloned from: what its guest has of that one's connections is reset here.
    /// What is known of names is taken over, and so are secrets. Of a wire that is not known (any more), nothing is.
    pub clone_of: Option<WireId>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    pub id: u64,
    pub outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Done,
    Welcome {
        /// Ascending.
        wires: Vec<WireId>,
    },
    Log(LogPage),
    Stats(NetStats),
    /// The wire is not known: it ended, or another process served it.
    NoWire,
    /// Nothing was changed. The text is a whole error chain.
    Failed(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_messages_are_written_as_people_would_read_them() {
        let attach = Request {
            version: 1,
            id: 7,
            command: Command::Attach(Box::new(Attach {
                wire: 3,
                policy: Policy::Closed,
                clone_of: Some(2),
            })),
        };
        let written = serde_json::to_string(&attach).unwrap();
        assert_eq!(
            written,
            r#"{"version":1,"id":7,"command":{"attach":{"wire":3,"policy":false,"clone_of":2}}}"#
        );
        assert_eq!(serde_json::from_str::<Request>(&written).unwrap(), attach);
        let hello = r#"{"version":1,"id":1,"command":"hello"}"#;
        assert_eq!(
            serde_json::from_str::<Request>(hello).unwrap().command,
            Command::Hello
        );
        let welcome = Reply {
            id: 1,
            outcome: Outcome::Welcome { wires: vec![1, 2] },
        };
        assert_eq!(
            serde_json::to_string(&welcome).unwrap(),
            r#"{"id":1,"outcome":{"welcome":{"wires":[1,2]}}}"#
        );
    }
}
