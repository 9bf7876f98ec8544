//! The files of a guest, one after the other.

use std::collections::VecDeque;

use agent_proto::{Entry, Inventory, Reply, Request};
use api::DiffRequest;

use super::connection::{AgentConnection, AgentError};

/// Most files of one guest that are looked at: a guest that lists for ever ends somewhere.
const ENTRIES_MAX: u64 = 20_000_000;

/// An inventory on its way. Dropping it before its end cuts it off.
#[derive(Debug)]
pub(crate) struct Listing {
    connection: AgentConnection,
    waiting: VecDeque<Entry>,
    over: bool,
    count: u64,
}

impl Listing {
    pub(crate) async fn begin(
        mut connection: AgentConnection,
        request: &DiffRequest,
    ) -> Result<Self, AgentError> {
        let inventory = Request::Inventory(Inventory {
            roots: request.roots.clone(),
            skip: request.skip.clone(),
        });
        connection.send(&inventory).await?;
        Ok(Self {
            over: false,
            ..Self::over(connection)
        })
    }

    /// One that has come to its end.
    pub(crate) fn over(connection: AgentConnection) -> Self {
        Self {
            connection,
            waiting: VecDeque::new(),
            over: true,
            count: 0,
        }
    }

    /// The next file, in the order of [`Inventory`].
    pub(crate) async fn next(&mut self) -> Result<Option<Entry>, AgentError> {
        loop {
            if let Some(entry) = self.waiting.pop_front() {
                self.count += 1;
                return Ok(Some(entry));
            }
            if self.over || self.count > ENTRIES_MAX {
                return Ok(None);
            }
            match self.connection.reply().await? {
                Reply::Entries(entries) => self.waiting = entries.into(),
                Reply::Done => self.over = true,
                Reply::Failed(failure) => return Err(AgentError::Failed(failure.message)),
                _ => {
                    return Err(AgentError::Unexpected {
                        expected: "Inventory",
                    });
                }
            }
        }
    }

    /// The connection, free again once the end has been reached.
    pub(crate) fn into_connection(self) -> AgentConnection {
        self.connection
    }
}

/// SHA-256 of files, in the order of the paths; none of what is not a readable file.
pub(crate) async fn digests(
    connection: &mut AgentConnection,
    paths: Vec<Vec<u8>>,
) -> Result<Vec<Option<[u8; 32]>>, AgentError> {
    let count = paths.len();
    match connection.ask(&Request::Digests { paths }).await? {
        Reply::Digests(digests) if digests.len() == count => Ok(digests),
        Reply::Failed(failure) => Err(AgentError::Failed(failure.message)),
        _ => Err(AgentError::Unexpected { expected: "Digests" }),
    }
}
