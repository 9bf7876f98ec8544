//! Parameters in paths and queries.

use serde_json::{Value, json};

/// A parameter of the query.
#[derive(Debug)]
pub(super) struct Parameter {
    name: &'static str,
    kind: QueryType,
    description: &'static str,
}

/// What a parameter of the query is; all of them may be left out.
#[derive(Clone, Copy, Debug)]
pub(super) enum QueryType {
    /// `true`, `1` or nothing at all, `false` or `0`.
    Flag,
    /// Any number of times, each an absolute path; at most so many.
    Paths(usize),
}

/// What each name in `{}` of a path stands for, and how it looks. Names mean the same on every route.
const SEGMENTS: [(&str, &str, &str); 3] = [
    ("id", "^sbx_[0-9a-f]{32}$", "The sandbox."),
    ("other", "^sbx_[0-9a-f]{32}$", "The sandbox to compare with."),
    (
        "winner",
        "^sbx_[0-9a-f]{32}$",
        "The sandbox that takes the place of the other.",
    ),
];

impl Parameter {
    pub(super) fn query(name: &'static str, kind: QueryType, description: &'static str) -> Self {
        Self {
            name,
            kind,
            description,
        }
    }

    pub(super) fn describe(&self) -> Value {
        let schema = match self.kind {
            QueryType::Flag => json!({ "type": "string", "enum": ["true", "1", "", "false", "0"] }),
            QueryType::Paths(max) => json!({
                "type": "array",
                "items": { "type": "string", "pattern": "^/" },
                "maxItems": max,
            }),
        };
        json!({
            "name": self.name,
            "in": "query",
            "required": false,
            "description": self.description,
            "schema": schema,
        })
    }
}

/// The parameters in a path; `None` for a name that is not known.
pub(super) fn of_path(path: &str) -> Option<Vec<Value>> {
    path.split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
        .map(|name| {
            let (_, pattern, description) = SEGMENTS.iter().find(|(known, ..)| *known == name)?;
            Some(json!({
                "name": name,
                "in": "path",
                "required": true,
                "description": description,
                "schema": { "type": "string", "pattern": pattern },
            }))
        })
        .collect()
}
