//! The one error shape of the API: `{"error": "<text>", "code": "<stable>", "hint": "<optional>"}`.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::fields::InvalidRequest;

/// An error on its way to a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    pub code: ErrorCode,
    /// For people.
    pub message: Cow<'static, str>,
    /// What to do about it, where that is not plain.
    pub hint: Option<Cow<'static, str>>,
    /// Seconds after which it is worth trying again; becomes the `Retry-After` header.
    pub retry_after_s: Option<u32>,
}

/// Stable names of what can go wrong. Clients match on them: add, never rename.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The body is not JSON; the text names the line and column.
    MalformedJson,
    /// A field is missing or has a wrong value; the text names it, what was expected and what came.
    InvalidField,
    UnknownTemplate,
    /// The body broke off or was not valid HTTP.
    InvalidBody,
    MissingKey,
    InvalidKey,
    /// A route of the operator's, without the operator's token.
    InvalidOperatorToken,
    TenantNotFound,
    KeyNotFound,
    /// There is no such webhook, or it is another tenant's.
    WebhookNotFound,
    DeliveryNotFound,
    /// The tenant, or the host, has as many webhooks as there may be.
    TooManyWebhooks,
    /// The tenant has as many secrets as there may be.
    TooManySecrets,
    /// The request comes from a web page of another site.
    ForeignOrigin,
    /// There is no such sandbox, or it is another tenant's.
    SandboxNotFound,
    CheckpointNotFound,
    PtyNotFound,
    RouteNotFound,
    MethodNotAllowed,
    /// The sandbox still boots.
    SandboxNotReady,
    /// What is asked for does not go with the state that the sandbox is in.
    StateConflict,
    /// What kept the checkpoint is gone. It can only be deleted.
    CheckpointLost,
    /// There is a tenant of that name.
    TenantExists,
    /// The program on the terminal has exited.
    PtyExited,
    /// The program on the terminal does not read its input.
    PtyNotReading,
    /// Longer than 64 MiB.
    BodyTooLarge,
    /// The tenant has as many sandboxes as it may have.
    TooManySandboxes,
    /// The sandbox has as many checkpoints as it may have.
    TooManyCheckpoints,
    /// The tenant creates sandboxes faster than it may.
    RateLimited,
    /// Too many execs in one sandbox.
    TooManyExecs,
    /// Too many clients use the terminals of one sandbox.
    TooManyPtyStreams,
    /// The VM of this sandbox is gone.
    SandboxFailed,
    /// A new VM did not become ready.
    BootFailed,
    /// No usable copies could be made of a sandbox; it is unharmed.
    ForkFailed,
    /// The sandbox's state could not be kept, or not be gone back to; the sandbox is as it was.
    CheckpointFailed,
    /// The guest's agent could not do what it was asked.
    AgentFailed,
    /// The daemon's own fault.
    Internal,
    /// The database could not do what it was asked.
    StoreFailed,
    /// The host has no room; the text has the figures.
    NoCapacity,
    /// Too many calls wait for their turn.
    HostBusy,
    /// The host starts or stops.
    ShuttingDown,
    /// There is no such file in the sandbox.
    FileNotFound,
    IsADirectory,
    NotADirectory,
    DirectoryNotEmpty,
    /// A pipe, socket or device, or a file that the guest's kernel makes up.
    SpecialFile,
    /// The sandbox's disk is full; what was to be replaced is as it was.
    DiskFull,
    /// The guest's own kernel does not allow it.
    NotPermitted,
    NameTooLong,
    TooManyLinks,
    /// What `If-Match` or `If-None-Match` asked for is not so.
    PreconditionFailed,
    RangeNotSatisfiable,
    InvalidArchive,
    /// It changed while it was read.
    FileChanged,
    /// Too many transfers and watches in one sandbox, or of spaces.
    TooManyTransfers,
    /// There is no such space: never, not any more, or it is another tenant's.
    SpaceNotFound,
    /// The space cannot be resumed, exported or imported on this host as it is; one that is here is kept.
    SpaceUnusable,
    /// The file is damaged, was cut, or is none that a space was exported to.
    InvalidSpaceFile,
    /// The tenant's spaces are as many, or as large, as they may be.
    SpaceQuota,
    /// The sandbox could not be frozen; it goes on.
    FreezeFailed,
    /// The space was not resumed; it is kept.
    ResumeFailed,
    /// The host's own disk is full.
    HostDiskFull,
    /// Nothing listens on that port in the sandbox.
    PortRefused,
    /// What listens on the port takes no connections, or does not answer.
    PortTimeout,
    /// What listens on the port does not speak HTTP, or broke off in its answer's head.
    BadPortAnswer,
    /// Too many connections to ports of one sandbox.
    TooManyPortConnections,
    /// The time of a shared URL is over.
    ShareExpired,
    /// A shared URL that this host has not made, or that was changed.
    ShareInvalid,
    /// The route is one to an upgrade of the connection only.
    UpgradeRequired,
    /// The host's network process does not answer; it is started again.
    NetworkUnavailable,
}

/// The body of every response that is not 2xx.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorBody<'a> {
    /// For people.
    #[serde(borrow)]
    pub error: Cow<'a, str>,
    pub code: ErrorCode,
    /// What to do about it, where that is not plain.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<Cow<'a, str>>,
}

impl ErrorCode {
    /// The HTTP status that goes with it.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::MalformedJson
            | Self::InvalidField
            | Self::UnknownTemplate
            | Self::InvalidBody
            | Self::NameTooLong
            | Self::InvalidArchive
            | Self::InvalidSpaceFile => 400,
            Self::MissingKey | Self::InvalidKey | Self::InvalidOperatorToken => 401,
            Self::ForeignOrigin | Self::ShareExpired | Self::ShareInvalid => 403,
            Self::SandboxNotFound
            | Self::CheckpointNotFound
            | Self::PtyNotFound
            | Self::FileNotFound
            | Self::SpaceNotFound
            | Self::RouteNotFound
            | Self::TenantNotFound
            | Self::KeyNotFound
            | Self::WebhookNotFound
            | Self::DeliveryNotFound => 404,
            Self::MethodNotAllowed => 405,
            // What the file system of the sandbox is like stands against the request. That goes for a full disk, too:
            // the host has room, and trying again without making some does not help.
            Self::IsADirectory
            | Self::NotADirectory
            | Self::DirectoryNotEmpty
            | Self::SpecialFile
            | Self::DiskFull
            | Self::NotPermitted
            | Self::TooManyLinks
            | Self::FileChanged
            | Self::SandboxNotReady
            | Self::StateConflict
            | Self::SpaceUnusable
            | Self::CheckpointLost
            | Self::TenantExists
            | Self::TooManyWebhooks
            | Self::TooManySecrets
            | Self::PtyExited
            | Self::PtyNotReading => 409,
            Self::PreconditionFailed => 412,
            Self::BodyTooLarge => 413,
            Self::RangeNotSatisfiable => 416,
            Self::UpgradeRequired => 426,
            Self::TooManySandboxes
            | Self::TooManyCheckpoints
            | Self::RateLimited
            | Self::TooManyExecs
            | Self::TooManyPtyStreams
            | Self::TooManyTransfers
            | Self::TooManyPortConnections
            | Self::SpaceQuota => 429,
            Self::SandboxFailed
            | Self::BootFailed
            | Self::ForkFailed
            | Self::FreezeFailed
            | Self::ResumeFailed
            | Self::CheckpointFailed
            | Self::AgentFailed
            | Self::StoreFailed
            | Self::Internal => 500,
            Self::PortRefused | Self::BadPortAnswer => 502,
            Self::NoCapacity | Self::HostBusy | Self::ShuttingDown | Self::NetworkUnavailable => 503,
            Self::PortTimeout => 504,
            Self::HostDiskFull => 507,
        }
    }
}

impl ApiError {
    pub fn new(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            message: message.into(),
            hint: None,
            retry_after_s: None,
        }
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    /// The JSON body.
    #[must_use]
    pub fn body(&self) -> ErrorBody<'_> {
        ErrorBody {
            error: Cow::Borrowed(&self.message),
            code: self.code,
            hint: self.hint.as_deref().map(Cow::Borrowed),
        }
    }
}

impl From<InvalidRequest> for ApiError {
    fn from(invalid: InvalidRequest) -> Self {
        let code = match invalid {
            InvalidRequest::Malformed { .. } => ErrorCode::MalformedJson,
            InvalidRequest::NotAnObject { .. }
            | InvalidRequest::Missing { .. }
            | InvalidRequest::Field { .. }
            | InvalidRequest::Meaning { .. } => ErrorCode::InvalidField,
        };
        Self::new(code, invalid.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_has_the_text_the_code_and_a_hint_only_where_there_is_one() {
        let error = ApiError::new(ErrorCode::SandboxNotFound, "sandbox not found");
        assert_eq!(
            serde_json::to_string(&error.body()).unwrap(),
            r#"{"error":"sandbox not found","code":"sandbox_not_found"}"#
        );
        let error = error.hint("create one");
        let text = serde_json::to_string(&error.body()).unwrap();
        assert_eq!(
            serde_json::from_str::<ErrorBody<'_>>(&text).unwrap(),
            error.body()
        );
    }
}
