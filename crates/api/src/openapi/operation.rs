//! What is said about one route, as data.

use schemars::JsonSchema;
use serde_json::Value;

use super::content::Content;
use super::parameters::{Parameter, QueryType};
use super::schemas::Schemas;
use crate::ErrorCode;

/// One method of one path.
#[derive(Debug)]
pub struct Operation {
    pub method: Method,
    /// As the router has it: `{name}` stands for one segment.
    pub path: &'static str,
    /// Stable name for generated clients.
    pub id: &'static str,
    pub(super) tag: &'static str,
    pub(super) summary: &'static str,
    pub(super) description: &'static str,
    /// Whom it serves.
    pub(super) guard: Guard,
    /// Those in the query and the headers.
    pub(super) parameters: Vec<Parameter>,
    pub(super) body: Option<Body>,
    pub(super) answers: Vec<Answer>,
    pub(super) errors: Vec<ErrorCode>,
    /// What its answers are is not this host's to say: why.
    pub(super) others: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Method {
    Get,
    Head,
    Put,
    Post,
    Patch,
    Delete,
    Options,
}

/// Who may call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Guard {
    /// Whoever has a tenant's key.
    Key,
    /// The operator alone.
    Operator,
    /// The operator, and whoever has the key of the metrics.
    Metrics,
    Nobody,
}

/// What a request carries.
#[derive(Debug)]
pub(super) struct Body {
    pub(super) content: Content,
    pub(super) required: bool,
    pub(super) example: Option<Value>,
}

/// A response that is no error.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) description: &'static str,
    pub(super) content: Content,
    pub(super) headers: Vec<Header>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) name: &'static str,
    pub(super) description: &'static str,
}

/// Where the time of a request went.
pub(super) const SERVER_TIMING: Header = Header {
    name: "Server-Timing",
    description: "Where the time of the request went, in milliseconds: one entry for each step.",
};

/// What every route that wants a key can answer.
const GUARDED: [ErrorCode; 4] = [
    ErrorCode::MissingKey,
    ErrorCode::InvalidKey,
    ErrorCode::ForeignOrigin,
    ErrorCode::ShuttingDown,
];

/// What every route of the operator's can answer.
const OPERATORS: [ErrorCode; 3] = [
    ErrorCode::InvalidOperatorToken,
    ErrorCode::ForeignOrigin,
    ErrorCode::ShuttingDown,
];

/// What every route that takes a JSON body can answer.
const WITH_BODY: [ErrorCode; 4] = [
    ErrorCode::MalformedJson,
    ErrorCode::InvalidField,
    ErrorCode::InvalidBody,
    ErrorCode::BodyTooLarge,
];

impl Operation {
    /// A route that wants a key.
    pub(super) fn new(
        method: Method,
        path: &'static str,
        id: &'static str,
        tag: &'static str,
        summary: &'static str,
    ) -> Self {
        Self {
            method,
            path,
            id,
            tag,
            summary,
            description: "",
            guard: Guard::Key,
            parameters: Vec::new(),
            body: None,
            answers: Vec::new(),
            errors: GUARDED.to_vec(),
            others: None,
        }
    }

    /// Nobody is asked for a key here.
    pub(super) fn open(mut self) -> Self {
        self.guard = Guard::Nobody;
        self.errors.retain(|code| !GUARDED.contains(code));
        self
    }

    /// Only the operator's token is accepted here.
    pub(super) fn operators(mut self) -> Self {
        self.guard = Guard::Operator;
        self.errors.retain(|code| !GUARDED.contains(code));
        self.fails(&OPERATORS)
    }

    /// The operator's token is accepted here, and a key that opens nothing else.
    pub(super) fn metrics(mut self) -> Self {
        self.guard = Guard::Metrics;
        self
    }

    /// Markdown, shown below the summary.
    pub(super) fn describe(mut self, text: &'static str) -> Self {
        self.description = text;
        self
    }

    pub(super) fn query(mut self, name: &'static str, kind: QueryType, description: &'static str) -> Self {
        self.parameters.push(Parameter::query(name, kind, description));
        self
    }

    /// A header of the request that says something beyond HTTP's common ones.
    pub(super) fn header(mut self, name: &'static str, description: &'static str) -> Self {
        self.parameters.push(Parameter::header(name, description));
        self
    }

    /// A JSON object, which may be left out when no field is required.
    pub(super) fn json_body<T: JsonSchema>(mut self, required: bool, example: Value) -> Self {
        self.body = Some(Body {
            content: Content::Json(Schemas::request::<T>),
            required,
            example: Some(example),
        });
        self.fails(&WITH_BODY)
    }

    /// Bytes of any of these media types.
    pub(super) fn bytes_body(mut self, media_types: &'static [&'static str]) -> Self {
        self.body = Some(Body {
            content: Content::Bytes(media_types),
            required: false,
            example: None,
        });
        self.fails(&[ErrorCode::InvalidBody])
    }

    pub(super) fn answers(mut self, status: u16, description: &'static str, content: Content) -> Self {
        self.answers.push(Answer {
            status,
            description,
            content,
            headers: Vec::new(),
        });
        self
    }

    /// Somebody else answers, with any status and any content.
    pub(super) fn answers_by_others(mut self, description: &'static str) -> Self {
        self.others = Some(description);
        self
    }

    /// The last answer carries this header.
    pub(super) fn with_header(mut self, header: Header) -> Self {
        if let Some(answer) = self.answers.last_mut() {
            answer.headers.push(header);
        }
        self
    }

    /// Errors beside those that routes of this kind have in common.
    pub(super) fn fails(mut self, codes: &[ErrorCode]) -> Self {
        for code in codes {
            if !self.errors.contains(code) {
                self.errors.push(*code);
            }
        }
        self
    }
}

impl Method {
    /// As HTTP writes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Put => "PUT",
            Self::Post => "POST",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
            Self::Options => "OPTIONS",
        }
    }
}
