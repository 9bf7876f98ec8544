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
    /// Bytes that mean nothing here, of this media type.
    #[expect(dead_code, reason = "for routes that carry files")]
    Bytes(&'static str),
}

impl Content {
    pub(super) fn json<T: JsonSchema>() -> Self {
        Self::Json(Schemas::response::<T>)
    }

    pub(super) fn lines<T: JsonSchema>() -> Self {
        Self::Lines(Schemas::response::<T>)
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
            Self::Bytes(media_type) => (media_type, json!({ "type": "string", "format": "binary" })),
        };
        Some(json!({ media_type: { "schema": schema } }))
    }
}
