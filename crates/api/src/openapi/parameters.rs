//! Parameters in paths and queries.

use serde_json::{Value, json};

use crate::admin::TENANT_NAME_PATTERN;
use crate::files::FILE_PATH_BYTES_MAX;
use crate::secret::SECRET_NAME_PATTERN;

/// Longer ones are legal and mean nothing here.
const HEADER_LEN_MAX: usize = 1024;

/// A parameter of the query, or a header.
#[derive(Debug)]
pub(super) struct Parameter {
    place: &'static str,
    name: &'static str,
    kind: QueryType,
    description: &'static str,
}

/// What a parameter of the query is; all but the path of a file may be left out.
#[derive(Clone, Copy, Debug)]
pub(super) enum QueryType {
    /// `true`, `1` or nothing at all, `false` or `0`.
    Flag,
    /// Any number of times, each an absolute path; at most so many.
    Paths(usize),
    /// The path of a file, which has to be there.
    File,
    /// One of these.
    Word(&'static [&'static str]),
    /// A whole number in this range.
    Whole(u64, u64),
    /// Text of at most so many characters.
    Text(usize),
    /// Permissions in octal.
    Mode,
}

/// What each name in `{}` of a path stands for, and how it looks. Names mean the same on every route.
const SEGMENTS: [(&str, &str, &str); 14] = [
    ("id", "^sbx_[0-9a-f]{32}$", "The sandbox."),
    ("space", "^spc_[0-9a-f]{32}$", "The space."),
    ("pty", "^pty_[0-9a-f]{32}$", "The terminal."),
    (
        "checkpoint",
        "^[A-Za-z0-9._-]{1,64}$",
        "The id or the name of the checkpoint.",
    ),
    ("name", TENANT_NAME_PATTERN, "The tenant."),
    ("key", "^key_[0-9a-f]+$", "The `id` of the key."),
    ("webhook", "^whk_[0-9a-f]{32}$", "The webhook."),
    ("secret", SECRET_NAME_PATTERN, "The name of the secret."),
    ("delivery", "^dlv_[0-9a-f]{32}$", "The delivery."),
    ("port", "^[1-9][0-9]{0,4}$", "The port, 1 to 65535."),
    ("token", "^[A-Za-z0-9_-]{1,200}$", "What a share has given."),
    (
        "path",
        "^.*$",
        "The rest of the path, slashes and all, as it is to be asked for there.",
    ),
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
            place: "query",
            name,
            kind,
            description,
        }
    }

    pub(super) fn header(name: &'static str, description: &'static str) -> Self {
        Self {
            place: "header",
            name,
            kind: QueryType::Text(HEADER_LEN_MAX),
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
            QueryType::File => json!({ "type": "string", "minLength": 1, "maxLength": FILE_PATH_BYTES_MAX }),
            QueryType::Word(words) => json!({ "type": "string", "enum": words }),
            QueryType::Whole(min, max) => json!({ "type": "integer", "minimum": min, "maximum": max }),
            QueryType::Text(max) => json!({ "type": "string", "maxLength": max }),
            QueryType::Mode => json!({ "type": "string", "pattern": "^0*[0-7]{1,4}$" }),
        };
        json!({
            "name": self.name,
            "in": self.place,
            "required": matches!(self.kind, QueryType::File),
            "description": self.description,
            "schema": schema,
        })
    }
}

/// The parameters in a path; `None` for a name that is not known.
pub(super) fn of_path(path: &str) -> Option<Vec<Value>> {
    path.split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
        .map(|name| name.trim_start_matches('*'))
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
