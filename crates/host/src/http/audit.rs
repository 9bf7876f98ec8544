//! What of a request goes into the audit log: who changed or ran what, never with what content.

use api::ErrorCode;
use axum::http::{Method, Request};
use axum::response::Response;

use crate::tenants::{Action, AuditLog, AuditNote, Caller};

/// A request that is worth a row.
pub(super) struct Deed {
    action: Action,
    target: String,
    detail: Option<String>,
}

impl Deed {
    /// Reading is not; nor are the keystrokes of a terminal. A creation is noted where its outcome is known.
    pub(super) fn of<B>(request: &Request<B>) -> Option<Self> {
        let (method, path) = (request.method(), request.uri().path());
        // All that a sandbox holds leaves the host.
        let exports = *method == Method::GET && path.starts_with("/v1/spaces/") && path.ends_with("/export");
        if matches!(*method, Method::GET | Method::HEAD) && !exports {
            return None;
        }
        if let Some(rest) = path.strip_prefix("/v1/webhooks") {
            return Some(Self::to_webhook(method, rest));
        }
        if let Some(name) = path.strip_prefix("/v1/secrets/") {
            return Some(Self {
                action: Action::Secret,
                target: name.chars().take(64).collect(),
                detail: Some(method.to_string()),
            });
        }
        if let Some(rest) = path.strip_prefix("/v1/spaces/") {
            return Self::of_space(method, rest);
        }
        let mut parts = path.strip_prefix("/v1/sandboxes/")?.split('/');
        let target = parts.next()?.to_owned();
        let parts: Vec<&str> = parts.collect();
        let (action, detail) = match (method, parts.as_slice()) {
            (&Method::DELETE, []) => (Action::Delete, None),
            (&Method::PATCH, []) => (Action::Change, None),
            (_, ["exec"]) => (Action::Exec, None),
            (_, ["freeze"]) => (Action::Freeze, None),
            (_, ["fork"]) => (Action::Fork, None),
            (_, ["merge_into", winner]) => (Action::Merge, Some((*winner).to_owned())),
            (&Method::POST, ["checkpoints"]) => (Action::Checkpoint, None),
            (&Method::DELETE, ["checkpoints", key]) => (Action::DeleteCheckpoint, Some((*key).to_owned())),
            (_, ["rollback"]) => (Action::Rollback, None),
            (_, ["share", port]) => (Action::Share, Some((*port).to_owned())),
            (_, ["pty"]) => (Action::Pty, None),
            (_, ["pty", session, "kill"]) => (Action::Kill, Some((*session).to_owned())),
            (_, ["files", ..]) => (Action::Files, Some(method.to_string())),
            _ => return None,
        };
        Some(Self {
            action,
            // What a client made up is cut to the length of an id.
            target: target.chars().take(64).collect(),
            detail: detail.map(|detail| detail.chars().take(64).collect()),
        })
    }

    /// `rest` is what comes after the collection's path.
    fn to_webhook(method: &Method, rest: &str) -> Self {
        let rest = rest.trim_start_matches('/');
        let (id, what) = rest.split_once('/').unwrap_or((rest, ""));
        Self {
            action: Action::Webhook,
            target: id.chars().take(64).collect(),
            detail: Some(format!("{method} {what}").trim().chars().take(64).collect()),
        }
    }

    fn of_space(method: &Method, rest: &str) -> Option<Self> {
        let (target, rest) = rest.split_once('/').unwrap_or((rest, ""));
        let action = match (method, rest) {
            (&Method::DELETE, "") => Action::DeleteSpace,
            (_, "resume") => Action::Resume,
            (_, "export") => Action::ExportSpace,
            (_, "") if target == "import" => Action::ImportSpace,
            _ => return None,
        };
        Some(Self {
            action,
            target: target.chars().take(64).collect(),
            detail: None,
        })
    }

    pub(super) fn note(self, log: &AuditLog, caller: &Caller, response: &Response) {
        let noted = response
            .extensions()
            .get::<AuditNote>()
            .cloned()
            .unwrap_or_default();
        let note = AuditNote {
            target: noted.target.or(Some(self.target)),
            detail: noted.detail.or(self.detail),
        };
        let code = response.extensions().get::<ErrorCode>().copied();
        log.note(caller, self.action, note, result(code));
    }
}

/// `ok`, or the code of the error as the API has it.
pub(super) fn result(code: Option<ErrorCode>) -> String {
    let name = code.and_then(|code| serde_json::to_value(code).ok());
    let name = name.and_then(|name| name.as_str().map(str::to_owned));
    name.unwrap_or_else(|| "ok".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deed(method: &str, path: &str) -> Option<(Action, Option<String>)> {
        let request = Request::builder().method(method).uri(path).body(()).unwrap();
        Deed::of(&request).map(|deed| (deed.action, deed.detail))
    }

    #[test]
    fn what_changes_something_is_noted_and_keystrokes_are_not() {
        assert_eq!(deed("DELETE", "/v1/sandboxes/x"), Some((Action::Delete, None)));
        assert_eq!(deed("POST", "/v1/sandboxes/x/exec"), Some((Action::Exec, None)));
        let merge = deed("POST", "/v1/sandboxes/x/merge_into/y");
        assert_eq!(merge, Some((Action::Merge, Some("y".to_owned()))));
        let test = deed("POST", "/v1/webhooks/x/test");
        assert_eq!(test, Some((Action::Webhook, Some("POST test".to_owned()))));
        assert_eq!(
            deed("PUT", "/v1/secrets/token"),
            Some((Action::Secret, Some("PUT".to_owned())))
        );
        assert_eq!(
            deed("PUT", "/v1/sandboxes/x/files"),
            Some((Action::Files, Some("PUT".to_owned())))
        );
        assert_eq!(
            deed("POST", "/v1/sandboxes/x/freeze"),
            Some((Action::Freeze, None))
        );
        assert_eq!(deed("POST", "/v1/spaces/x/resume"), Some((Action::Resume, None)));
        assert_eq!(deed("DELETE", "/v1/spaces/x"), Some((Action::DeleteSpace, None)));
        assert_eq!(
            deed("POST", "/v1/spaces/import"),
            Some((Action::ImportSpace, None))
        );
        assert_eq!(
            deed("GET", "/v1/spaces/x/export"),
            Some((Action::ExportSpace, None))
        );
        for (method, path) in [
            ("GET", "/v1/spaces/x"),
            ("GET", "/v1/sandboxes/x"),
            ("POST", "/v1/sandboxes"),
            ("POST", "/v1/sandboxes/x/pty/p/input"),
            ("POST", "/v1/other"),
            ("GET", "/v1/webhooks/x"),
        ] {
            assert_eq!(deed(method, path), None, "{method} {path}");
        }
        assert_eq!(result(Some(ErrorCode::TooManyExecs)), "too_many_execs");
    }
}
