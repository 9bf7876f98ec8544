//! What `up` says when there is a host.

use std::time::Duration;

use serde::Serialize;
use softhost::{HostKind, Status};

use crate::context::Context;
use crate::local::kind_name;
use crate::output::{Paint, Show, duration};

/// A host that answers.
#[derive(Serialize)]
pub(crate) struct Report {
    url: String,
    kind: HostKind,
    reason: String,
    /// Whether this call has started it.
    started: bool,
    boot_ms: Option<u64>,
    retries: u32,
    /// The first key of the tenant `default`; shown once.
    #[serde(skip_serializing_if = "Option::is_none")]
    api_key: Option<String>,
    /// Options with which other commands find this host; empty when they do without.
    #[serde(skip)]
    options: String,
}

impl Report {
    pub(crate) fn started(status: &Status, context: &Context) -> Self {
        Self {
            url: status.url.clone(),
            kind: status.kind,
            reason: status.reason.clone(),
            started: true,
            boot_ms: status.boot_ms,
            retries: status.retries,
            api_key: None,
            options: context.options_of_local_commands(),
        }
    }

    pub(crate) fn already(status: &Status, context: &Context) -> Self {
        Self {
            started: false,
            ..Self::started(status, context)
        }
    }

    pub(crate) fn with_key(self, api_key: Option<String>) -> Self {
        Self { api_key, ..self }
    }
}

impl Show for Report {
    fn words(&self, paint: Paint) -> String {
        let Self { url, options, .. } = self;
        let host = kind_name(self.kind);
        let how = match (self.started, self.boot_ms) {
            (false, _) => format!("{host}, running already"),
            (true, Some(ms)) => format!("{host}, ready in {}", duration(Duration::from_millis(ms))),
            (true, None) => host.to_owned(),
        };
        let tries = match self.retries {
            0 => String::new(),
            1 => ", at the second try".to_owned(),
            retries => format!(", after {retries} retries"),
        };
        let key = self.api_key.as_ref().map_or_else(String::new, |key| {
            format!(
                "\n\nA first API key, shown only now; on this machine none is needed unless you ask for one:\n  \
                 export PODFLARE_API_KEY={key}"
            )
        });
        format!(
            "Podflare is up at {} ({how}{tries})\n\n\
             Try it:\n  podflare {options}run -c 'print(6 * 7)'\n\n\
             From Python, after `pip install podflare`:\n  \
             from podflare import Sandbox\n  \
             with Sandbox(host=\"{url}\") as sandbox:\n      \
             print(sandbox.run_code(\"print(6 * 7)\").stdout){key}",
            paint.bold(url)
        )
    }
}
