//! The one place that writes to stdout and stderr.
//!
//! Results go to stdout, in words or as JSON; everything else (progress, notes, failures) goes to stderr, so that a
//! pipe gets only the result. A reader that has gone away is not an error worth a message: `podflare … | head` ends
//! quietly.

use std::io::{self, Write};

use serde::Serialize;

use crate::failure::Failure;
use crate::output::Paint;

/// In which form results are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// For people.
    Words,
    /// One JSON document per result, on one line.
    Json,
}

/// A result: its fields are the JSON form, and it knows its words.
pub(crate) trait Show: Serialize {
    /// The form for people, without a newline at the end. Nothing is printed when it is empty.
    fn words(&self, paint: Paint) -> String;
}

/// Where all output goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Printer {
    form: Form,
    out: Paint,
    err: Paint,
}

impl Printer {
    pub(crate) fn new(form: Form) -> Self {
        Self {
            form,
            out: Paint::for_stream(&io::stdout()),
            err: Paint::for_stream(&io::stderr()),
        }
    }

    pub(crate) fn form(&self) -> Form {
        self.form
    }

    /// Style of words for stderr.
    pub(crate) fn err_paint(&self) -> Paint {
        self.err
    }

    /// Writes a result.
    ///
    /// # Errors
    /// When stdout cannot be written, e.g. because its reader has gone.
    pub(crate) fn show(&self, result: &impl Show) -> io::Result<()> {
        let text = match self.form {
            Form::Words => result.words(self.out),
            Form::Json => serde_json::to_string(result)?,
        };
        if text.is_empty() {
            Ok(())
        } else {
            self.out(format!("{text}\n").as_bytes())
        }
    }

    /// Writes bytes to stdout as they are, and at once.
    ///
    /// # Errors
    /// When stdout cannot be written.
    pub(crate) fn out(&self, bytes: &[u8]) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(bytes)?;
        stdout.flush()
    }

    /// Writes bytes to stderr as they are.
    ///
    /// # Errors
    /// When stderr cannot be written.
    pub(crate) fn err(&self, bytes: &[u8]) -> io::Result<()> {
        io::stderr().lock().write_all(bytes)
    }

    /// Says something on stderr that is not the result.
    pub(crate) fn note(&self, text: &str) {
        // Nobody is left to be told that stderr is gone.
        let _ = self.err(format!("{text}\n").as_bytes());
    }

    /// Says something that helps a person and would only be in the way of a program.
    pub(crate) fn hint(&self, text: &str) {
        if self.form == Form::Words {
            self.note(text);
        }
    }

    /// Says something on stderr that deserves attention.
    pub(crate) fn warn(&self, text: &str) {
        self.note(&format!("{} {text}", self.err.yellow("warning:")));
    }

    /// Says why the command failed, and what to do about it.
    pub(crate) fn failure(&self, failure: &Failure) {
        if failure.is_silent() {
            return;
        }
        match self.form {
            Form::Json => match serde_json::to_string(failure) {
                Ok(json) => self.note(&json),
                Err(_) => self.note(failure.text()),
            },
            Form::Words => {
                self.note(&format!("{} {}", self.err.red("error:"), failure.text()));
                if let Some(remedy) = failure.remedy() {
                    // Some hosts send several lines; they stay one paragraph.
                    let remedy = remedy.trim_end().replace('\n', "\n       ");
                    self.note(&format!("{} {remedy}", self.err.bold(" hint:")));
                }
            }
        }
    }
}
