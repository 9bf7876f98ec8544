//! HTTP to the collector. It is called by the SDK's own threads, so it may block.

use std::time::Duration;

use async_trait::async_trait;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use ureq::Agent;

/// A collector answers with next to nothing.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

#[derive(Debug)]
pub(super) struct Client(Agent);

impl Client {
    /// Every request is given up after so long, whatever it waits for.
    pub(super) fn new(timeout: Duration) -> Self {
        let config = Agent::config_builder()
            .timeout_global(Some(timeout))
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .build();
        Self(config.into())
    }
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (head, body) = request.into_parts();
        let sent = self.0.run(Request::from_parts(head, body.as_ref()))?;
        let (head, mut body) = sent.into_parts();
        let answer = body.with_config().limit(ANSWER_BYTES_MAX).read_to_vec()?;
        Ok(Response::from_parts(head, answer.into()))
    }
}
