//! Reading the fields of a JSON object one by one, with errors a person can act on.
//!
//! Unknown fields are ignored, `null` counts as absent, and of a repeated field the last one wins.

use std::fmt;

use serde_json::{Map, Value};
use thiserror::Error;

/// Longest quotation of a wrong value in an error, in characters.
const QUOTE_CHARS_MAX: usize = 60;

/// Why a request's body cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum InvalidRequest {
    #[error("malformed JSON at line {line}, column {column}: {problem}")]
    Malformed {
        line: usize,
        column: usize,
        problem: String,
    },
    #[error("the body: expected a JSON object, got {got}")]
    NotAnObject { got: String },
    #[error("{field}: required, expected {expected}")]
    Missing { field: &'static str, expected: String },
    #[error("{field}: expected {expected}, got {got}")]
    Field {
        field: &'static str,
        expected: String,
        got: String,
    },
    /// It has the right type, and a sentence says what is wrong with what it means.
    #[error("{field}: {problem}")]
    Meaning { field: &'static str, problem: String },
}

/// The fields of one request that have not been taken yet.
pub(crate) struct Fields(Map<String, Value>);

/// A whole number's permitted range and what it counts, e.g. `MiB`.
pub(crate) struct Whole {
    pub(crate) unit: &'static str,
    pub(crate) min: u64,
    pub(crate) max: u64,
}

impl Fields {
    /// Parses a body; one of nothing but white space is `{}`.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, InvalidRequest> {
        if body.trim_ascii().is_empty() {
            return Ok(Self(Map::new()));
        }
        match serde_json::from_slice(body) {
            Ok(Value::Object(fields)) => Ok(Self(fields)),
            Ok(other) => Err(InvalidRequest::NotAnObject { got: quote(&other) }),
            Err(error) => Err(malformed(&error)),
        }
    }

    pub(crate) fn text(
        &mut self,
        field: &'static str,
        expected: &str,
    ) -> Result<Option<String>, InvalidRequest> {
        match self.take(field) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(wrong(field, expected, &other)),
        }
    }

    pub(crate) fn flag(&mut self, field: &'static str) -> Result<Option<bool>, InvalidRequest> {
        match self.take(field) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(flag)),
            Some(other) => Err(wrong(field, "true or false", &other)),
        }
    }

    pub(crate) fn whole(
        &mut self,
        field: &'static str,
        range: &Whole,
    ) -> Result<Option<u64>, InvalidRequest> {
        let Some(value) = self.take(field) else {
            return Ok(None);
        };
        match value.as_u64() {
            Some(number) if (range.min..=range.max).contains(&number) => Ok(Some(number)),
            _ => Err(wrong(field, &range.to_string(), &value)),
        }
    }

    /// A number where `null` means something: `Some(None)`.
    pub(crate) fn nullable_whole(
        &mut self,
        field: &'static str,
        range: &Whole,
    ) -> Result<Option<Option<u64>>, InvalidRequest> {
        match self.0.get(field) {
            None => Ok(None),
            Some(_) => self.whole(field, range).map(Some),
        }
    }

    /// A flag where `null` means something: `Some(None)`.
    pub(crate) fn nullable_flag(
        &mut self,
        field: &'static str,
    ) -> Result<Option<Option<bool>>, InvalidRequest> {
        match self.0.get(field) {
            None => Ok(None),
            Some(_) => self.flag(field).map(Some),
        }
    }

    pub(crate) fn object(
        &mut self,
        field: &'static str,
        expected: &str,
    ) -> Result<Option<Map<String, Value>>, InvalidRequest> {
        match self.take(field) {
            None => Ok(None),
            Some(Value::Object(object)) => Ok(Some(object)),
            Some(other) => Err(wrong(field, expected, &other)),
        }
    }

    pub(crate) fn take(&mut self, field: &str) -> Option<Value> {
        self.0.remove(field).filter(|value| !value.is_null())
    }
}

impl fmt::Display for Whole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { unit, min, max } = self;
        write!(f, "a whole number of {unit} between {min} and {max}")
    }
}

impl InvalidRequest {
    /// A field whose value has the right type and no meaning here.
    pub(crate) fn value(field: &'static str, expected: &str, got: &str) -> Self {
        wrong(field, expected, &Value::String(got.to_owned()))
    }

    /// The same with any value.
    pub(crate) fn json(field: &'static str, expected: &str, got: &Value) -> Self {
        wrong(field, expected, got)
    }
}

pub(crate) fn wrong(field: &'static str, expected: &str, got: &Value) -> InvalidRequest {
    InvalidRequest::Field {
        field,
        expected: expected.to_owned(),
        got: quote(got),
    }
}

fn quote(value: &Value) -> String {
    match value {
        Value::Array(_) => "an array".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        Value::String(text) => {
            // Cut before it is escaped: the value may be megabytes long.
            let (short, more) = cut(text);
            format!("{}{more}", Value::from(short))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {
            let text = value.to_string();
            let (short, more) = cut(&text);
            format!("{short}{more}")
        }
    }
}

fn cut(text: &str) -> (&str, &'static str) {
    match text.char_indices().nth(QUOTE_CHARS_MAX) {
        Some((end, _)) => (&text[..end], "…"),
        None => (text, ""),
    }
}

fn malformed(error: &serde_json::Error) -> InvalidRequest {
    let text = error.to_string();
    // serde_json ends its texts with the place, which this error carries in fields of its own.
    let problem = text.rfind(" at line ").map_or(text.as_str(), |end| &text[..end]);
    InvalidRequest::Malformed {
        line: error.line(),
        column: error.column(),
        problem: problem.to_owned(),
    }
}
