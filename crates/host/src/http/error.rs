//! Errors as responses; the only place that knows both.

use api::{ApiError, ErrorCode};
use axum::Json;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use lifecycle::{ForkRefused, MergeRefused, QuotaRefused, RunRefused};
use pod_types::ErrorChain;

use crate::host::{ChangeRefused, CreateRefused, ForkError, MergeError, NoRoom};
use crate::network::NetworkDown;
use crate::sandbox::{CreateError, CreateFailure, Sandbox};
use crate::store::StoreError;
use crate::tenants::{ChangeError, TurnRefused};

/// An error that is the whole response.
#[derive(Debug)]
pub(super) struct Failed(pub(super) ApiError);

/// When memory will be free again is not known; a client that hammers helps nobody.
const NO_CAPACITY_RETRY_S: u32 = 5;

/// Another network process is there by then.
const NETWORK_RETRY_S: u32 = 2;

impl From<NetworkDown> for Failed {
    fn from(down: NetworkDown) -> Self {
        let error = ApiError::new(ErrorCode::NetworkUnavailable, down.to_string());
        Self(error.retry_after(NETWORK_RETRY_S))
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        let Self(error) = self;
        let status = StatusCode::from_u16(error.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(error.body())).into_response();
        response.extensions_mut().insert(error.code);
        if let Some(seconds) = error.retry_after_s {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl<E: Into<ApiError>> From<E> for Failed {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

pub(super) fn not_found() -> Failed {
    Failed(ApiError::new(
        ErrorCode::RouteNotFound,
        "there is nothing at this path",
    ))
}

pub(super) fn method_not_allowed(method: &Method, path: &str) -> Failed {
    let text = format!("{path} does not take {method}");
    Failed(ApiError::new(ErrorCode::MethodNotAllowed, text))
}

/// What is answered before the router takes nothing but this.
pub(super) fn only_get(method: &Method, path: &str) -> Response {
    let mut refused = method_not_allowed(method, path).into_response();
    refused
        .headers_mut()
        .insert(header::ALLOW, HeaderValue::from_static("GET,HEAD"));
    refused
}

pub(super) fn no_sandbox() -> Failed {
    Failed(ApiError::new(ErrorCode::SandboxNotFound, "sandbox not found"))
}

pub(super) fn stopping() -> Failed {
    Failed(
        ApiError::new(ErrorCode::ShuttingDown, "the host is shutting down").retry_after(NO_CAPACITY_RETRY_S),
    )
}

pub(super) fn run_refused(refused: RunRefused, sandbox: &Sandbox) -> Failed {
    let text = refused.to_string();
    Failed(match refused {
        RunRefused::Booting => ApiError::new(ErrorCode::SandboxNotReady, text),
        RunRefused::Freezing => ApiError::new(ErrorCode::StateConflict, text)
            .hint("it will be a space; resume that, and run this in the sandbox it becomes")
            .retry_after(1),
        RunRefused::TooMany { .. } => ApiError::new(ErrorCode::TooManyExecs, text)
            .hint("wait for one of them to end")
            .retry_after(1),
        RunRefused::TenantTooMany { .. } => ApiError::new(ErrorCode::TooManyExecs, text)
            .hint("wait for one of them to end; this is a limit of the tenant over all of its sandboxes")
            .retry_after(1),
        RunRefused::Failed { .. } => sandbox_failed(text, sandbox),
        RunRefused::Ended { .. } => return no_sandbox(),
    })
}

/// The VM is gone: why, and what its guest last said.
pub(super) fn sandbox_failed(text: String, sandbox: &Sandbox) -> ApiError {
    let error = ApiError::new(ErrorCode::SandboxFailed, text);
    match sandbox.last_words() {
        Some(words) => error.hint(format!("the guest's last words on its console:\n{words}")),
        None => error.hint("delete the sandbox and create another"),
    }
}

impl From<CreateRefused> for Failed {
    fn from(refused: CreateRefused) -> Self {
        Self(match refused {
            CreateRefused::UnknownSecret(name) => {
                let text = format!("secrets: there is no secret {name:?}");
                ApiError::new(ErrorCode::InvalidField, text).hint("PUT /v1/secrets/{secret} makes it")
            }
            CreateRefused::UnknownTemplate { name, known } => {
                let known = known.join(", ");
                let text = format!("template: there is no template {name:?}; known: {known}");
                ApiError::new(ErrorCode::UnknownTemplate, text)
            }
            CreateRefused::SmallDisk { asked, least } => ApiError::new(
                ErrorCode::InvalidField,
                format!(
                    "rootfs_gb: expected at least {least}, the size of the template's own disk, got {asked}"
                ),
            ),
            CreateRefused::NoTenant => ApiError::new(ErrorCode::InvalidKey, "invalid api key"),
            CreateRefused::Quota(refused) => over_quota(&refused),
            CreateRefused::Turn(refused) => host_busy(refused),
            CreateRefused::NoRoom(no_room) => {
                no_capacity(no_room, "delete a sandbox, or ask for less ram_mib")
            }
            CreateRefused::Stopping => return stopping(),
            CreateRefused::NoId(error) => ApiError::new(ErrorCode::Internal, error.to_string()),
            CreateRefused::NoDirectory(error) => ApiError::new(
                ErrorCode::Internal,
                format!("cannot make the VM's directory: {error}"),
            ),
            CreateRefused::NoRecord(error) => ApiError::new(
                ErrorCode::Internal,
                format!("cannot write down what the sandbox is: {error}"),
            ),
            CreateRefused::Failed(failure) => return create_failed(*failure),
            CreateRefused::Lost => {
                ApiError::new(ErrorCode::Internal, "the sandbox ended while it was created")
            }
        })
    }
}

impl From<ForkError> for Failed {
    fn from(error: ForkError) -> Self {
        let failed = |text: String| {
            ApiError::new(ErrorCode::ForkFailed, text).hint("the sandbox itself is unharmed; try again")
        };
        Self(match error {
            ForkError::Unknown => return no_sandbox(),
            ForkError::Stopping => return stopping(),
            ForkError::Refused(refused) => {
                let text = refused.to_string();
                match refused {
                    ForkRefused::Booting => ApiError::new(ErrorCode::SandboxNotReady, text),
                    ForkRefused::Freezing | ForkRefused::TooMany => {
                        ApiError::new(ErrorCode::StateConflict, text).retry_after(1)
                    }
                    ForkRefused::Failed { .. } => ApiError::new(ErrorCode::SandboxFailed, text),
                    ForkRefused::Ended { .. } => return no_sandbox(),
                }
            }
            ForkError::Quota(refused) => over_quota(&refused),
            ForkError::Turn(refused) => host_busy(refused),
            ForkError::NoRoom(no_room) => no_capacity(no_room, "delete a sandbox, or make fewer children"),
            ForkError::Clone(error) => failed(ErrorChain(&error).to_string()),
            ForkError::Carry(error) => failed(format!(
                "a child does not say whether the run in progress goes on in it: {}",
                ErrorChain(&error)
            )),
            ForkError::Record(error) => failed(format!("cannot write down what the children are: {error}")),
            ForkError::Raise(error) => failed(format!("a child is of no use: {}", ErrorChain(&error))),
        })
    }
}

impl From<ChangeRefused> for Failed {
    fn from(refused: ChangeRefused) -> Self {
        let short = match refused {
            ChangeRefused::Unknown => return no_sandbox(),
            ChangeRefused::TooShort(short) => short,
            ChangeRefused::NotInForce => {
                let text = "the host's network does not say whether what the sandbox may reach is in force; it is as soon as \
                            the network answers";
                let error = ApiError::new(ErrorCode::NetworkUnavailable, text);
                return Self(error.retry_after(NETWORK_RETRY_S));
            }
        };
        let text = format!("timeout_seconds: expected more than {}: {short}", short.age_s);
        let error = ApiError::new(ErrorCode::InvalidField, text);
        Self(error.hint("a life is counted from the sandbox's creation; DELETE ends it now"))
    }
}

impl From<MergeError> for Failed {
    fn from(error: MergeError) -> Self {
        let refused = match error {
            MergeError::Unknown => return no_sandbox(),
            MergeError::Record(error) => {
                let text = format!("the merge is done, and cannot be written down: {error}");
                return Self(ApiError::new(ErrorCode::Internal, text).hint(
                    "make room on the host's disk: if the daemon is restarted before that, the merge may be undone",
                ));
            }
            MergeError::Refused(refused) => refused,
        };
        let text = refused.to_string();
        Self(match refused {
            MergeRefused::Itself => ApiError::new(ErrorCode::InvalidField, text),
            MergeRefused::Booting => ApiError::new(ErrorCode::SandboxNotReady, text),
            MergeRefused::Freezing | MergeRefused::WinnerFailed { .. } => {
                ApiError::new(ErrorCode::StateConflict, text)
            }
            MergeRefused::LoserEnded | MergeRefused::WinnerEnded => return no_sandbox(),
        })
    }
}

/// The tenant has what it may have.
pub(super) fn over_quota(refused: &QuotaRefused) -> ApiError {
    let (code, hint) = match refused {
        QuotaRefused::Never { .. } => (ErrorCode::TooManySandboxes, "ask for fewer at once"),
        QuotaRefused::TooMany { .. } => (ErrorCode::TooManySandboxes, "delete a sandbox first"),
        QuotaRefused::TooFast { .. } => (ErrorCode::RateLimited, "wait as long as Retry-After says"),
    };
    let error = ApiError::new(code, refused.to_string()).hint(hint);
    match refused.retry_after_s() {
        Some(seconds) => error.retry_after(u32::try_from(seconds).unwrap_or(u32::MAX)),
        None => error,
    }
}

pub(super) fn host_busy(refused: TurnRefused) -> ApiError {
    ApiError::new(ErrorCode::HostBusy, refused.to_string()).retry_after(NO_CAPACITY_RETRY_S)
}

impl From<ChangeError> for Failed {
    fn from(error: ChangeError) -> Self {
        let text = error.to_string();
        Self(match error {
            ChangeError::NoTenant { .. } => ApiError::new(ErrorCode::TenantNotFound, text),
            ChangeError::NoKey { .. } => ApiError::new(ErrorCode::KeyNotFound, text),
            ChangeError::Exists { .. } => ApiError::new(ErrorCode::TenantExists, text),
            ChangeError::InUse { .. } => {
                ApiError::new(ErrorCode::StateConflict, text).hint("add ?force=true to delete them, too")
            }
            ChangeError::Needed
            | ChangeError::Environment
            | ChangeError::Spent
            | ChangeError::TooMany { .. } => ApiError::new(ErrorCode::StateConflict, text),
            ChangeError::NoRandomness(error) => ApiError::new(ErrorCode::Internal, error.to_string()),
            ChangeError::Store(error) => return error.into(),
        })
    }
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Self {
        tracing::error!(error = %ErrorChain(&error), "the database did not do what it was asked");
        let text = ErrorChain(&error).to_string();
        Self(match error {
            StoreError::Busy => ApiError::new(ErrorCode::HostBusy, text).retry_after(1),
            _ => ApiError::new(ErrorCode::StoreFailed, text),
        })
    }
}

pub(super) fn no_capacity(no_room: NoRoom, hint: &'static str) -> ApiError {
    let over = match no_room {
        NoRoom::Disk(full) => {
            let (free, reserve) = (full.free_mib, full.reserve_mib);
            let text = format!("disk full: the host has {free} MiB free and keeps {reserve} MiB for itself");
            let error = ApiError::new(ErrorCode::NoCapacity, text).retry_after(NO_CAPACITY_RETRY_S);
            return error.hint("delete sandboxes or files in them, or make room on the host's disk");
        }
        NoRoom::OverBudget(over) => over,
        NoRoom::TooLittle(little) => {
            let (wanted, available, floor) = (little.wanted_mib, little.available_mib, little.floor_mib);
            let text = format!(
                "no room for {wanted} MiB: the host has {available} MiB available and keeps {floor} for itself"
            );
            let error = ApiError::new(ErrorCode::NoCapacity, text).retry_after(NO_CAPACITY_RETRY_S);
            return error.hint(hint);
        }
    };
    let (wanted, used, total) = (over.wanted_mib, over.used_mib, over.total_mib);
    let text =
        format!("no room for {wanted} MiB of guest memory: {used} of {total} MiB are in use on this host");
    let error = ApiError::new(ErrorCode::NoCapacity, text).retry_after(NO_CAPACITY_RETRY_S);
    error.hint(if wanted > total {
        "this host will never have that much; ask for less"
    } else {
        hint
    })
}

fn create_failed(failure: CreateFailure) -> Failed {
    let CreateFailure {
        error,
        console,
        stderr,
    } = failure;
    match error {
        CreateError::Shutdown => return stopping(),
        // Somebody else of this tenant did it; nothing has failed.
        CreateError::Deleted => return Failed(ApiError::new(ErrorCode::StateConflict, error.to_string())),
        CreateError::Spawn(_) | CreateError::Deadline(_) | CreateError::Boot(_) => {}
    }
    let answer = ApiError::new(ErrorCode::BootFailed, ErrorChain(&error).to_string());
    let mut hint = String::new();
    for (what, tail) in [("VM process", stderr), ("guest's console", console)] {
        if !tail.is_empty() {
            hint.push_str(&format!("last words of the {what}:\n{tail}\n"));
        }
    }
    Failed(if hint.is_empty() {
        answer
    } else {
        answer.hint(hint)
    })
}
