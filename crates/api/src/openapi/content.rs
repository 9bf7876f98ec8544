//! What a body consists of.

use schemars::JsonSchema;
use serde_json::{Value, json};

use super::schemas::{SchemaOf, Schemas};

/// A body's media type and schema.
#[derive(Clone, Copy, Debug)]
pub(super) enum Content {
    Nothing,
    Json(SchemaOf),
    /// One JSON object a line, each sent as it comes to be; empty lines are heartbeats.
    Lines(SchemaOf),
    /// A JSON object of which no more is said.
    Object,
    /// Text of this media type.
    Text(&'static str),
    /// Bytes that mean nothing here, of any of these media types.
    Bytes(&'static [&'static str]),
    /// A JSON object of one of two kinds, or such bytes.
    File(SchemaOf, SchemaOf, &'static [&'static str]),
    /// A JSON object of one of two kinds.
    Either(SchemaOf, SchemaOf),
}

impl Content {
    pub(super) fn json<T: JsonSchema>() -> Self {
        Self::Json(Schemas::response::<T>)
    }

    pub(super) fn lines<T: JsonSchema>() -> Self {
        Self::Lines(Schemas::response::<T>)
    }

    pub(super) fn either<T: JsonSchema, U: JsonSchema>() -> Self {
        Self::Either(Schemas::response::<T>, Schemas::response::<U>)
    }

    pub(super) fn file<T: JsonSchema, U: JsonSchema>(media_types: &'static [&'static str]) -> Self {
        Self::File(Schemas::response::<T>, Schemas::response::<U>, media_types)
    }

    /// The `content` of a request body or response; nothing when there is no body.
    pub(super) fn describe(self, schemas: &mut Schemas) -> Option<Value> {
        let (media_type, schema) = match self {
            Self::Nothing => return None,
            Self::Json(of) => ("application/json", of(schemas)),
            Self::Lines(of) => {
                let item = of(schemas);
                let lines = json!({
                    "type": "string",
                    "contentMediaType": "application/x-ndjson",
                    "contentSchema": item,
                });
                ("application/x-ndjson", lines)
            }
            Self::Object => ("application/json", json!({ "type": "object" })),
            Self::Text(media_type) => (media_type, json!({ "type": "string" })),
            Self::Bytes(media_types) => return Some(bytes(media_types)),
            Self::Either(one, other) => ("application/json", either(one, other, schemas)),
            Self::File(one, other, media_types) => {
                let mut content = bytes(media_types);
                content["application/json"] = json!({ "schema": either(one, other, schemas) });
                return Some(content);
            }
        };
        Some(json!({ media_type: { "schema": schema } }))
    }
}

fn bytes(media_types: &[&str]) -> Value {
    let schema = json!({ "schema": { "type": "string", "format": "binary" } });
    media_types
        .iter()
        .map(|name| ((*name).to_owned(), schema.clone()))
        .collect()
}

fn either(one: SchemaOf, other: SchemaOf, schemas: &mut Schemas) -> Value {
    json!({ "anyOf": [one(schemas), other(schemas)] })
}
