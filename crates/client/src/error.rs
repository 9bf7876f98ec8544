//! Why a call failed, split by whose turn it is: start the host, change the request, or try again.

use thiserror::Error;

/// A call to a host that brought no answer, or not the one wanted.
#[derive(Debug, Error)]
pub enum ClientError {
    /// No connection could be made: most often no host runs there.
    #[error("no Podflare host answers at {url}")]
    Unreachable {
        url: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The host answered, and its answer is no.
    #[error("{0}")]
    Refused(Refusal),
    /// The connection was made and ended, or fell silent, before the answer was complete.
    #[error("the connection to {url} broke while {during}")]
    Broken {
        url: String,
        during: &'static str,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Something answers there that does not speak this API.
    #[error("{url} answered with something that is not the Podflare API, while {during}")]
    NotPodflare {
        url: String,
        during: &'static str,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// The host's own words for why it did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{text}")]
pub struct Refusal {
    /// HTTP status.
    pub status: u16,
    /// Stable, machine-readable name of the reason; empty when the host gave none.
    pub code: String,
    /// For people.
    pub text: String,
    /// What to do about it, when the host knows.
    pub hint: Option<String>,
}

impl ClientError {
    /// What the caller can do about it, in one sentence.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unreachable { .. } => Some("start one with `podflare up`".to_owned()),
            Self::Refused(refusal) => refusal.hint(),
            Self::Broken { .. } => {
                Some("`podflare status` and `podflare logs` say what became of the host".to_owned())
            }
            Self::NotPodflare { .. } => {
                Some("check the URL; another program may be listening there".to_owned())
            }
        }
    }

    /// A stable name of the kind of failure, for programs.
    #[must_use]
    pub fn code(&self) -> &str {
        match self {
            Self::Unreachable { .. } => "unreachable",
            Self::Refused(refusal) if refusal.code.is_empty() => "refused",
            Self::Refused(refusal) => &refusal.code,
            Self::Broken { .. } => "connection_broken",
            Self::NotPodflare { .. } => "not_podflare",
        }
    }

    /// Whether the host said that what was named does not exist.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused(Refusal { status: 404, .. }))
    }
}

impl Refusal {
    /// The host's hint, or one for statuses whose remedy is always the same.
    fn hint(&self) -> Option<String> {
        self.hint.clone().or_else(|| {
            let remedy = match self.status {
                401 => "give the key with --api-key or in PODFLARE_API_KEY",
                404 => "`podflare sandbox ls` lists what exists; a sandbox is gone once its lifetime or idle time is over",
                429 | 503 => "try again in a moment, or remove sandboxes with `podflare sandbox rm`",
                _ => return None,
            };
            Some(remedy.to_owned())
        })
    }
}
