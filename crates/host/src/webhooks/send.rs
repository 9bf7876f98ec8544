//! One attempt: the name is resolved, every address judged, the connection made to one that was judged, and the answer
//! read as far as it is of interest. Redirects are not followed, nothing is reused, and all of it has a deadline.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper::{Request, Response, body::Incoming, header};
use hyper_util::rt::TokioIo;
use pod_types::ErrorChain;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tokio_util::task::AbortOnDropHandle;

use super::address::{AddressRefused, Allowed};
use super::target::{Place, Target, TargetError};

const RESOLVE_BOUND: Duration = Duration::from_secs(5);
/// Of one address.
const CONNECT_BOUND: Duration = Duration::from_secs(5);
/// From the beginning until the head of the answer is there. Standard Webhooks asks for 15 to 30 s.
const ANSWER_BOUND: Duration = Duration::from_secs(15);
/// For the beginning of the answer's body, which is only for people.
const EXCERPT_BOUND: Duration = Duration::from_secs(2);
const EXCERPT_BYTES_MAX: usize = 1024;
/// Of the answer's head.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 4;

const USER_AGENT: &str = concat!("Podflare-Webhooks/", env!("CARGO_PKG_VERSION"));

/// What makes attempts.
pub(super) struct Sender {
    tls: TlsConnector,
    allowed: Allowed,
}

/// What is sent.
#[derive(Clone, Debug)]
pub(super) struct Parcel {
    pub(super) url: String,
    /// The event's.
    pub(super) id: String,
    pub(super) timestamp_s: u64,
    pub(super) signatures: String,
    pub(super) body: String,
}

/// What came of an attempt.
#[derive(Clone, Debug, Default)]
pub(super) struct Answered {
    pub(super) status: Option<u16>,
    /// Nothing when it succeeded.
    pub(super) error: Option<String>,
    pub(super) excerpt: String,
    pub(super) took: Duration,
}

#[derive(Debug, Error)]
enum SendError {
    #[error("cannot send to this URL")]
    Target(#[source] TargetError),
    #[error("{name} cannot be resolved")]
    Resolve {
        name: String,
        #[source]
        source: io::Error,
    },
    #[error("{name} has no address")]
    NoAddress { name: String },
    #[error("nothing is sent there")]
    Refused(#[source] AddressRefused),
    #[error("cannot connect to {address}")]
    Connect {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("no TLS with {name}")]
    Tls {
        name: String,
        #[source]
        source: io::Error,
    },
    #[error("no answer of HTTP")]
    Http(#[source] hyper::Error),
    #[error("the request cannot be written")]
    Request(#[source] hyper::http::Error),
    #[error("{what} took longer than {} s", .bound.as_secs())]
    Late { what: &'static str, bound: Duration },
}

impl Sender {
    /// Trusts the roots of Mozilla, which are compiled in: the host may run where there are no files of them.
    pub(super) fn new(allowed: Allowed) -> Result<Self, tokio_rustls::rustls::Error> {
        let roots = RootCertStore {
            roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
        };
        let provider = Arc::new(ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            tls: TlsConnector::from(Arc::new(config)),
            allowed,
        })
    }

    pub(super) fn allowed(&self) -> &Allowed {
        &self.allowed
    }

    pub(super) async fn send(&self, parcel: &Parcel) -> Answered {
        let started = Instant::now();
        let late = |_| SendError::Late {
            what: "the answer",
            bound: ANSWER_BOUND,
        };
        let result = timeout(ANSWER_BOUND, self.exchange(parcel)).await;
        let mut answered = match result.map_err(late).and_then(|result| result) {
            Ok((response, _connection)) => read(response).await,
            Err(error) => Answered {
                error: Some(ErrorChain(&error).to_string()),
                ..Answered::default()
            },
        };
        answered.took = started.elapsed();
        answered
    }

    async fn exchange(
        &self,
        parcel: &Parcel,
    ) -> Result<(Response<Incoming>, AbortOnDropHandle<()>), SendError> {
        let target = Target::parse(&parcel.url, &self.allowed).map_err(SendError::Target)?;
        let stream = self.connect(&target).await?;
        if !target.tls {
            return talk(stream, &target, parcel).await;
        }
        let (name, server) = match &target.place {
            Place::Name(name) => (name.clone(), ServerName::try_from(name.clone())),
            Place::Address(address) => (address.to_string(), Ok(ServerName::from(*address))),
        };
        let refused = |source| SendError::Tls {
            name: name.clone(),
            source,
        };
        let server = server.map_err(|error| refused(io::Error::other(error)))?;
        let stream = self.tls.connect(server, stream).await.map_err(refused)?;
        talk(stream, &target, parcel).await
    }

    /// To an address that was judged, and to no other: a name is asked for once.
    async fn connect(&self, target: &Target) -> Result<TcpStream, SendError> {
        let mut failed = None;
        for address in self.addresses(target).await? {
            let address = SocketAddr::new(address, target.port);
            let error = match timeout(CONNECT_BOUND, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    // It costs some time without, at worst.
                    let _ = stream.set_nodelay(true);
                    return Ok(stream);
                }
                Ok(Err(source)) => SendError::Connect { address, source },
                Err(_) => SendError::Late {
                    what: "connecting",
                    bound: CONNECT_BOUND,
                },
            };
            failed = Some(error);
        }
        Err(failed.unwrap_or_else(|| SendError::NoAddress {
            name: target.authority.clone(),
        }))
    }

    async fn addresses(&self, target: &Target) -> Result<Vec<IpAddr>, SendError> {
        let name = match &target.place {
            Place::Address(address) => {
                return self.judge([*address].into_iter());
            }
            Place::Name(name) => name,
        };
        let late = |_| SendError::Late {
            what: "resolving the name",
            bound: RESOLVE_BOUND,
        };
        let found = timeout(RESOLVE_BOUND, lookup_host((name.as_str(), target.port)))
            .await
            .map_err(late)?;
        let found = found.map_err(|source| SendError::Resolve {
            name: name.clone(),
            source,
        })?;
        self.judge(found.map(|address| address.ip()))
    }

    /// Those that may be used; why not, when that is none.
    fn judge(&self, addresses: impl Iterator<Item = IpAddr>) -> Result<Vec<IpAddr>, SendError> {
        let mut refusal = None;
        let mut fit = Vec::new();
        for address in addresses {
            match self.allowed.judge(address) {
                Ok(address) => fit.push(address),
                Err(refused) => refusal = Some(refused),
            }
        }
        fit.truncate(ADDRESSES_MAX);
        match refusal {
            Some(refused) if fit.is_empty() => Err(SendError::Refused(refused)),
            _ => Ok(fit),
        }
    }
}

/// The connection lives as long as what is given beside the response.
async fn talk<S>(
    stream: S,
    target: &Target,
    parcel: &Parcel,
) -> Result<(Response<Incoming>, AbortOnDropHandle<()>), SendError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let request = Request::post(&target.path)
        .header(header::HOST, &target.authority)
        .header(header::USER_AGENT, USER_AGENT)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::CONNECTION, "close")
        .header("webhook-id", &parcel.id)
        .header("webhook-timestamp", parcel.timestamp_s)
        .header("webhook-signature", &parcel.signatures)
        .body(Full::new(Bytes::from(parcel.body.clone())));
    let request = request.map_err(SendError::Request)?;
    let mut builder = http1::Builder::new();
    builder.max_buf_size(HEAD_BYTES_MAX);
    let (mut sender, connection) = builder
        .handshake(TokioIo::new(stream))
        .await
        .map_err(SendError::Http)?;
    // How it ends shows in the response.
    let connection = AbortOnDropHandle::new(tokio::spawn(async move { drop(connection.await) }));
    let response = sender.send_request(request).await.map_err(SendError::Http)?;
    Ok((response, connection))
}

async fn read(response: Response<Incoming>) -> Answered {
    let status = response.status();
    let error = if status.is_success() {
        None
    } else if status.is_redirection() {
        Some(format!(
            "the receiver answered {status}; redirects are not followed"
        ))
    } else {
        Some(format!("the receiver answered {status}"))
    };
    let mut beginning = Vec::new();
    let mut body = response.into_body();
    let reading = async {
        while beginning.len() < EXCERPT_BYTES_MAX {
            let Some(Ok(frame)) = body.frame().await else {
                return;
            };
            if let Ok(data) = frame.into_data() {
                let room = EXCERPT_BYTES_MAX - beginning.len();
                beginning.extend_from_slice(&data[..data.len().min(room)]);
            }
        }
    };
    // What came in time is shown.
    let _ = timeout(EXCERPT_BOUND, reading).await;
    Answered {
        status: Some(status.as_u16()),
        error,
        excerpt: printable(&beginning),
        took: Duration::ZERO,
    }
}

/// A receiver writes what it likes, and people read it on a terminal.
fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let shown = |character: char| match character {
        '\n' | '\t' => ' ',
        other if other.is_control() => '\u{fffd}',
        other => other,
    };
    text.chars().map(shown).collect::<String>().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tls_settings_are_sound_and_an_answer_does_no_harm_on_a_terminal() {
        assert!(Sender::new(Allowed::default()).is_ok());
        assert_eq!(printable(b"a\x1b[31m\nb\xff "), "a\u{fffd}[31m b\u{fffd}");
    }

    #[tokio::test]
    async fn a_name_that_resolves_to_this_host_is_not_connected_to() {
        let sender = Sender::new(Allowed::default()).unwrap();
        let parcel = Parcel {
            url: "http://localhost:9/".to_owned(),
            id: "evt_1".to_owned(),
            timestamp_s: 1,
            signatures: "v1,x".to_owned(),
            body: "{}".to_owned(),
        };
        let answered = sender.send(&parcel).await;
        assert_eq!(answered.status, None);
        let error = answered.error.unwrap();
        assert!(error.contains("is not public (this host)"), "{error}");
    }
}
