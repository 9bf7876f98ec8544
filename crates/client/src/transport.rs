//! The only file that knows which HTTP library is used.
//!
//! Requests go straight to the host: proxies from the environment are ignored, because the host is nearly always on
//! loopback, and redirects are not followed, because the API has none.

use std::io::Read;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
pub(crate) use ureq::http::StatusCode;
use ureq::http::{Request, Response};
use ureq::{Agent, AsSendBody, Body, SendBody, Timeout};

use crate::endpoint::Endpoint;
use crate::error::{ClientError, Refusal};

/// A loopback host answers a connection at once; a remote one within a few round trips.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest silence on a connection. A host sends a heartbeat every 10 s on every stream, so three missed ones mean
/// that it hangs or is gone; ordinary answers are due within 30 s by contract.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// Longest silence while a VM boots: far beyond the time after which the host itself gives a boot up.
const BOOT_SILENCE_MAX: Duration = Duration::from_secs(180);

/// Upload of one request's body, at most 64 MiB, over a slow link.
const SEND_TIMEOUT: Duration = Duration::from_secs(120);

/// Most bytes of an error answer that are looked at.
const ERROR_BODY_BYTES_MAX: u64 = 64 * 1024;

/// Most bytes of an ordinary answer (a list of sandboxes, a console log).
const BODY_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// An endpoint and the connections kept open to it.
#[derive(Clone, Debug)]
pub(crate) struct Transport {
    endpoint: Endpoint,
    agent: Agent,
}

/// One request: method, path below the base URL, and what the caller is doing, for error texts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call<'a> {
    method: &'static str,
    path: &'a str,
    during: &'static str,
    silence_max: Duration,
}

impl<'a> Call<'a> {
    pub(crate) fn new(method: &'static str, path: &'a str, during: &'static str) -> Self {
        Self {
            method,
            path,
            during,
            silence_max: SILENCE_MAX,
        }
    }

    /// For calls that may take a VM's boot on a busy machine without hardware virtualization.
    pub(crate) fn with_a_boot(self) -> Self {
        Self {
            silence_max: BOOT_SILENCE_MAX,
            ..self
        }
    }
}

impl Transport {
    pub(crate) fn new(endpoint: Endpoint) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            .user_agent(concat!("podflare/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_send_body(Some(SEND_TIMEOUT))
            .build();
        Self {
            endpoint,
            agent: config.new_agent(),
        }
    }

    pub(crate) fn key(&self) -> Option<&str> {
        self.endpoint.key()
    }

    pub(crate) fn url(&self) -> &str {
        self.endpoint.url()
    }

    /// Sends a request and hands the body of a good answer over as a stream.
    pub(crate) fn stream<B: Serialize>(
        &self,
        call: Call<'_>,
        body: Option<&B>,
    ) -> Result<impl Read + Send + use<B>, ClientError> {
        Ok(self.send(call, body)?.into_body().into_reader())
    }

    /// Sends a request and reads a good answer as text.
    pub(crate) fn text<B: Serialize>(&self, call: Call<'_>, body: Option<&B>) -> Result<String, ClientError> {
        let answer = self.send(call, body)?;
        self.read_text(call, answer)
    }

    fn read_text(&self, call: Call<'_>, answer: Response<Body>) -> Result<String, ClientError> {
        answer
            .into_body()
            .into_with_config()
            .limit(BODY_BYTES_MAX)
            .lossy_utf8(true)
            .read_to_string()
            .map_err(|error| self.broken(call, error))
    }

    /// Sends a request and reads a good answer as JSON.
    pub(crate) fn json<B: Serialize, T: DeserializeOwned>(
        &self,
        call: Call<'_>,
        body: Option<&B>,
    ) -> Result<T, ClientError> {
        let text = self.text(call, body)?;
        serde_json::from_str(&text).map_err(|error| self.not_podflare(call, error))
    }

    /// An answer that ended early or went silent.
    pub(crate) fn broken(
        &self,
        call: Call<'_>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> ClientError {
        ClientError::Broken {
            url: self.url().to_owned(),
            during: call.during,
            source: source.into(),
        }
    }

    /// An answer that makes no sense.
    pub(crate) fn not_podflare(
        &self,
        call: Call<'_>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> ClientError {
        ClientError::NotPodflare {
            url: self.url().to_owned(),
            during: call.during,
            source: source.into(),
        }
    }

    /// Sends bytes as they come and returns a good answer as text. Of a body of unknown length only its end tells.
    pub(crate) fn upload(
        &self,
        call: Call<'_>,
        content_type: &'static str,
        length: Option<u64>,
        body: &mut dyn Read,
    ) -> Result<String, ClientError> {
        let mut request = self
            .request(call)
            .header("content-type", content_type)
            // What cannot be written is refused before it is sent.
            .header("expect", "100-continue");
        if let Some(length) = length {
            request = request.header("content-length", length);
        }
        let answer = request
            .body(SendBody::from_reader(body))
            .map_err(ureq::Error::from)
            .and_then(|request| {
                let request = self.agent.configure_request(request);
                let request = request
                    .timeout_send_body(None)
                    .timeout_per_read(Some(BOOT_SILENCE_MAX));
                self.agent.run(request.build())
            });
        let answer = self.good(call, answer)?;
        self.read_text(call, answer)
    }

    /// Sends a request without a body and hands over a good answer, header and all.
    pub(crate) fn download(&self, call: Call<'_>) -> Result<Response<Body>, ClientError> {
        self.send(call, None::<&()>)
    }

    fn send<B: Serialize>(&self, call: Call<'_>, body: Option<&B>) -> Result<Response<Body>, ClientError> {
        let request = self.request(call);
        let answer = match body {
            Some(body) => {
                let bytes = serde_json::to_vec(body).map_err(|error| self.not_podflare(call, error))?;
                self.run(
                    call,
                    request.header("content-type", "application/json").body(bytes),
                )
            }
            None => self.run(call, request.body(())),
        };
        self.good(call, answer)
    }

    fn request(&self, call: Call<'_>) -> ureq::http::request::Builder {
        let request = Request::builder()
            .method(call.method)
            .uri(format!("{}{}", self.url(), call.path));
        match self.endpoint.key() {
            Some(key) => request.header("authorization", format!("Bearer {key}")),
            None => request,
        }
    }

    fn good(
        &self,
        call: Call<'_>,
        answer: Result<Response<Body>, ureq::Error>,
    ) -> Result<Response<Body>, ClientError> {
        let answer = answer.map_err(|error| self.no_answer(call, error))?;
        if answer.status().is_success() {
            Ok(answer)
        } else {
            Err(self.refused(call, answer))
        }
    }

    fn run<S: AsSendBody>(
        &self,
        call: Call<'_>,
        request: Result<Request<S>, ureq::http::Error>,
    ) -> Result<Response<Body>, ureq::Error> {
        let request = self
            .agent
            .configure_request(request?)
            .timeout_per_read(Some(call.silence_max));
        self.agent.run(request.build())
    }

    fn no_answer(&self, call: Call<'_>, error: ureq::Error) -> ClientError {
        if is_connect_failure(&error) {
            return ClientError::Unreachable {
                url: self.url().to_owned(),
                source: plain(error),
            };
        }
        match error {
            error @ (ureq::Error::Protocol(_)
            | ureq::Error::Http(_)
            | ureq::Error::LargeResponseHeader(..)) => self.not_podflare(call, error),
            error => self.broken(call, plain(error)),
        }
    }

    /// Reads the error body of the contract; what is not one is still shown by its status.
    fn refused(&self, call: Call<'_>, answer: Response<Body>) -> ClientError {
        let status = answer.status();
        let mut text = String::new();
        let body = answer
            .into_body()
            .into_reader()
            .take(ERROR_BODY_BYTES_MAX)
            .read_to_string(&mut text);
        if body.is_err() {
            text.clear();
        }
        self.refusal(call, status, &text)
    }

    /// What an answer of this status and with this body says.
    pub(crate) fn refusal(&self, call: Call<'_>, status: StatusCode, body: &str) -> ClientError {
        match serde_json::from_str::<ErrorWords>(body).ok() {
            Some(words) => ClientError::Refused(Refusal {
                status: status.as_u16(),
                code: words.code,
                text: words.error,
                hint: words.hint,
            }),
            None if status == StatusCode::NOT_FOUND || status.is_redirection() => {
                self.not_podflare(call, format!("HTTP status {status}"))
            }
            None => ClientError::Refused(Refusal {
                status: status.as_u16(),
                code: String::new(),
                text: format!(
                    "the host answered with HTTP status {status} while {}",
                    call.during
                ),
                hint: None,
            }),
        }
    }
}

/// The error body as lenient as can be: only its text is required.
#[derive(serde::Deserialize)]
struct ErrorWords {
    error: String,
    #[serde(default)]
    code: String,
    #[serde(default)]
    hint: Option<String>,
}

/// The operating system's own error where there is one; the library's words around it add nothing.
fn plain(error: ureq::Error) -> Box<dyn std::error::Error + Send + Sync> {
    match error {
        ureq::Error::Io(error) => Box::new(error),
        error => Box::new(error),
    }
}

/// Whether the request never left, as opposed to one whose answer did not come.
fn is_connect_failure(error: &ureq::Error) -> bool {
    use std::io::ErrorKind;
    match error {
        ureq::Error::HostNotFound
        | ureq::Error::ConnectionFailed
        | ureq::Error::Timeout(Timeout::Resolve | Timeout::Connect) => true,
        ureq::Error::Io(error) => matches!(
            error.kind(),
            ErrorKind::ConnectionRefused
                | ErrorKind::HostUnreachable
                | ErrorKind::NetworkUnreachable
                | ErrorKind::AddrNotAvailable
        ),
        _ => false,
    }
}
