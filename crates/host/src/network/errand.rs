//! What the network process is to be told about one wire.

use std::os::fd::OwnedFd;

use egress::Policy;
use net_proto::{Attach, Command, Secret, WireId};

#[derive(Debug)]
pub(super) struct Errand {
    pub(super) wire: WireId,
    pub(super) what: What,
}

#[derive(Debug)]
pub(super) enum What {
    Attach {
        /// Which of the wire's policies it is.
        revision: u64,
        policy: Policy,
        clone_of: Option<WireId>,
        socket: OwnedFd,
    },
    SetPolicy {
        revision: u64,
        policy: Policy,
    },
    SetSecrets {
        revision: u64,
        secrets: Vec<Secret>,
    },
    /// What has gone over it in all, before it is detached.
    Count,
    Detach,
}

/// What an answer will be about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum About {
    Attach { revision: u64 },
    Policy { revision: u64 },
    Secrets { revision: u64 },
    Count,
    Detach,
}

impl Errand {
    /// The message, the descriptor that goes with it, and what its answer will be about.
    pub(super) fn command(self) -> (Command, Option<OwnedFd>, About) {
        let wire = self.wire;
        match self.what {
            What::Attach {
                revision,
                policy,
                clone_of,
                socket,
            } => {
                let attach = Attach {
                    wire,
                    policy,
                    clone_of,
                };
                let command = Command::Attach(Box::new(attach));
                (command, Some(socket), About::Attach { revision })
            }
            What::SetPolicy { revision, policy } => (
                Command::SetPolicy { wire, policy },
                None,
                About::Policy { revision },
            ),
            What::SetSecrets { revision, secrets } => (
                Command::SetSecrets { wire, secrets },
                None,
                About::Secrets { revision },
            ),
            What::Count => (Command::Stats { wire: Some(wire) }, None, About::Count),
            What::Detach => (Command::Detach { wire }, None, About::Detach),
        }
    }
}
