//! Why a command failed, with what to do about it: the form in which errors reach the printer.

use std::error::Error;
use std::io;

use client::ClientError;
use pod_types::ErrorChain;
use serde::Serialize;

/// An error as it is shown: the chain in one text, and a remedy when there is one.
#[derive(Debug, Serialize)]
pub(crate) struct Failure {
    /// The error and its sources, joined.
    #[serde(rename = "error")]
    text: String,
    /// Stable name of the kind of failure, for programs.
    code: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

/// Code of the failure that needs no words: whoever read our output has had enough of it.
const NO_READER: &str = "no_reader";

/// Code of arguments that make no sense.
const USAGE: &str = "usage";

impl Failure {
    /// A failure in words of our own.
    pub(crate) fn new(code: &str, text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            code: code.to_owned(),
            hint: None,
        }
    }

    /// Arguments that make no sense.
    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self::new(USAGE, text)
    }

    /// Whether the arguments are at fault.
    pub(crate) fn is_usage(&self) -> bool {
        self.code == USAGE
    }

    /// A failure of something below, with all of its sources.
    pub(crate) fn because(code: &str, error: &dyn Error) -> Self {
        Self::new(code, ErrorChain(error).to_string())
    }

    /// A failure while doing something: `what`, then the error and its sources.
    pub(crate) fn while_doing(code: &str, what: &str, error: &dyn Error) -> Self {
        Self::new(code, format!("{what}: {}", ErrorChain(error)))
    }

    /// Says what to do about it.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Whether there is nobody to tell.
    pub(crate) fn is_silent(&self) -> bool {
        self.code == NO_READER
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    pub(crate) fn remedy(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let failure = Self::because(error.code(), &error);
        match error.hint() {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

/// Output that cannot be written. A reader that has gone away is silent: see [`Failure::is_silent`].
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        let code = if error.kind() == io::ErrorKind::BrokenPipe {
            NO_READER
        } else {
            "output"
        };
        Self::while_doing(code, "cannot write the output", &error)
    }
}
