//! Which files differ between two sandboxes.
//!
//! Both guests list their files in the same order, and the two lists are compared as they come, without holding either.
//! Content is read, in the guests, only where the metadata leave it open: of files that were written since the two VMs
//! [parted](lifecycle::Ancestry). What guests say about their clocks is believed: they can only hide what is their own.

mod judge;

use std::time::Duration;

use agent_proto::{DIGEST_PATHS_MAX, Entry};
use api::{Diff, DiffEntry, DiffRequest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use thiserror::Error;
use tokio::time::timeout;

use crate::agent::{self, AgentConnection, AgentError, Listing};
use crate::sandbox::Sandbox;

pub(crate) use judge::file_kind;
use judge::{Verdict, judge, order};

/// How long it may take: the whole root file system of an emulated guest takes some seconds.
const DIFF_BOUND: Duration = Duration::from_secs(300);
const CONNECT_BOUND: Duration = Duration::from_secs(10);

/// Most changes in one answer, and most files whose content is read.
const CHANGES_MAX: usize = 20_000;
/// Most bytes of paths in either.
const PATH_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Clocks of guests are set from the host's, some milliseconds late; file times are as coarse.
const CLOCK_SLACK_MS: u64 = 2000;

#[derive(Debug, Error)]
pub(crate) enum DiffError {
    #[error("a sandbox cannot be reached")]
    Connect(#[source] AgentError),
    #[error("the files of a sandbox cannot be listed")]
    List(#[source] AgentError),
    #[error("the files of a sandbox cannot be read")]
    Read(#[source] AgentError),
    #[error("the files were not compared within {} s", DIFF_BOUND.as_secs())]
    Deadline,
}

/// What is known so far.
#[derive(Default)]
struct Findings {
    diff: Diff,
    /// Files that may differ, with their size in both.
    open: Vec<(Vec<u8>, u64)>,
    path_bytes: usize,
}

/// What is different in `after`.
pub(crate) async fn diff(
    before: &Sandbox,
    after: &Sandbox,
    request: &DiffRequest,
) -> Result<Diff, DiffError> {
    let compared = timeout(DIFF_BOUND, compare(before, after, request)).await;
    compared.unwrap_or(Err(DiffError::Deadline))
}

async fn compare(before: &Sandbox, after: &Sandbox, request: &DiffRequest) -> Result<Diff, DiffError> {
    let parted_ms = before.origin.ancestry.parted(&after.origin.ancestry);
    let common_until_ns = i64::try_from(parted_ms.saturating_sub(CLOCK_SLACK_MS))
        .unwrap_or(i64::MAX)
        .saturating_mul(1_000_000);
    let (left, right) = futures_util::try_join!(connect(before), connect(after))?;
    let mut left = Listing::begin(left, request).await.map_err(DiffError::List)?;
    let mut right = Listing::begin(right, request).await.map_err(DiffError::List)?;
    let mut findings = Findings::default();
    let (mut old, mut new) = futures_util::try_join!(left.next(), right.next()).map_err(DiffError::List)?;
    loop {
        let side = match (&old, &new) {
            (None, None) => break,
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some(old), Some(new)) => order(&old.path, &new.path),
        };
        let full = match side {
            std::cmp::Ordering::Less => {
                let gone = std::mem::replace(&mut old, left.next().await.map_err(DiffError::List)?);
                gone.is_some_and(|gone| findings.note(Some(&gone), None, common_until_ns))
            }
            std::cmp::Ordering::Greater => {
                let made = std::mem::replace(&mut new, right.next().await.map_err(DiffError::List)?);
                made.is_some_and(|made| findings.note(None, Some(&made), common_until_ns))
            }
            std::cmp::Ordering::Equal => {
                let full = findings.note(old.as_ref(), new.as_ref(), common_until_ns);
                (old, new) = futures_util::try_join!(left.next(), right.next()).map_err(DiffError::List)?;
                full
            }
        };
        if full {
            // What has not been listed yet is cut off with the connections.
            findings.diff.truncated = true;
            (left, right) = (
                Listing::over(connect(before).await?),
                Listing::over(connect(after).await?),
            );
            break;
        }
    }
    let (mut left, mut right) = (left.into_connection(), right.into_connection());
    findings.settle(&mut left, &mut right).await?;
    before.keep_connection(left);
    after.keep_connection(right);
    Ok(findings.diff)
}

async fn connect(sandbox: &Sandbox) -> Result<AgentConnection, DiffError> {
    let socket = sandbox.files.vsock_socket();
    let connected = timeout(CONNECT_BOUND, agent::connect(&socket)).await;
    connected
        .unwrap_or(Err(AgentError::Silent))
        .map_err(DiffError::Connect)
}

impl Findings {
    /// Takes one path into account. True when there is no room for more.
    fn note(&mut self, before: Option<&Entry>, after: Option<&Entry>, common_until_ns: i64) -> bool {
        self.diff.compared += 1;
        match (judge(before, after, common_until_ns), before, after) {
            (Verdict::Open, _, Some(after)) => {
                self.path_bytes += after.path.len();
                self.open.push((after.path.clone(), after.size));
            }
            (Verdict::Different, before, Some(after)) => {
                let entry = self.entry(
                    &after.path,
                    after,
                    before.map(|before| before.size),
                    Some(after.size),
                );
                match before {
                    Some(_) => self.diff.modified.push(entry),
                    None => self.diff.added.push(entry),
                }
            }
            (Verdict::Different, Some(before), None) => {
                let entry = self.entry(&before.path, before, Some(before.size), None);
                self.diff.removed.push(entry);
            }
            (Verdict::Same | Verdict::Open | Verdict::Different, ..) => {}
        }
        let changes = self.diff.added.len() + self.diff.removed.len() + self.diff.modified.len();
        changes >= CHANGES_MAX || self.open.len() >= CHANGES_MAX || self.path_bytes >= PATH_BYTES_MAX
    }

    fn entry(&mut self, path: &[u8], of: &Entry, before: Option<u64>, after: Option<u64>) -> DiffEntry {
        self.path_bytes += path.len();
        DiffEntry {
            size_before: before,
            size: after,
            ..named(path, of)
        }
    }

    /// Reads the content of what is open in both guests.
    async fn settle(
        &mut self,
        left: &mut AgentConnection,
        right: &mut AgentConnection,
    ) -> Result<(), DiffError> {
        let open = std::mem::take(&mut self.open);
        self.diff.read = open.len() as u64;
        for part in open.chunks(DIGEST_PATHS_MAX) {
            let paths: Vec<Vec<u8>> = part.iter().map(|(path, _)| path.clone()).collect();
            let digests =
                futures_util::try_join!(agent::digests(left, paths.clone()), agent::digests(right, paths));
            let (old, new) = digests.map_err(DiffError::Read)?;
            for ((path, size), (old, new)) in part.iter().zip(old.into_iter().zip(new)) {
                // What disappeared meanwhile has no digest, and is as it was listed on neither side.
                if old != new || old.is_none() {
                    self.diff.modified.push(DiffEntry {
                        size_before: Some(*size),
                        size: Some(*size),
                        ..file(path)
                    });
                }
            }
        }
        self.diff
            .modified
            .sort_by(|a, b| order(a.path.as_bytes(), b.path.as_bytes()));
        Ok(())
    }
}

fn named(path: &[u8], of: &Entry) -> DiffEntry {
    DiffEntry {
        kind: file_kind(of.kind),
        ..file(path)
    }
}

fn file(path: &[u8]) -> DiffEntry {
    let exact = std::str::from_utf8(path).is_ok();
    DiffEntry {
        path: String::from_utf8_lossy(path).into_owned(),
        path_b64: (!exact).then(|| STANDARD.encode(path)),
        kind: api::FileKind::File,
        size_before: None,
        size: None,
    }
}
