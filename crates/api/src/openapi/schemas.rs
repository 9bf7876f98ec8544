//! JSON schemas of the types that travel, collected as they are needed.

use schemars::JsonSchema;
use schemars::generate::{Contract, SchemaGenerator, SchemaSettings};
use serde_json::{Map, Value};

/// Gives a type's schema, mostly a reference into the components.
pub(super) type SchemaOf = fn(&mut Schemas) -> Value;

/// What is read may leave out more than what is written, so there are two collections.
pub(super) struct Schemas {
    read: SchemaGenerator,
    written: SchemaGenerator,
}

/// A type whose schema differs between requests and responses; give them two names.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TwoMeanings(pub(super) String);

impl Schemas {
    pub(super) fn new() -> Self {
        Self {
            read: generator(Contract::Deserialize),
            written: generator(Contract::Serialize),
        }
    }

    pub(super) fn request<T: JsonSchema>(&mut self) -> Value {
        plain(self.read.subschema_for::<T>().to_value())
    }

    pub(super) fn response<T: JsonSchema>(&mut self) -> Value {
        plain(self.written.subschema_for::<T>().to_value())
    }

    /// All that was referred to, by name.
    pub(super) fn components(mut self) -> Result<Map<String, Value>, TwoMeanings> {
        let mut all = self.read.take_definitions(true);
        for (name, schema) in self.written.take_definitions(true) {
            if all.get(&name).is_some_and(|other| *other != schema) {
                return Err(TwoMeanings(name));
            }
            all.insert(name, schema);
        }
        all.sort_keys();
        Ok(all
            .into_iter()
            .map(|(name, schema)| (name, plain(schema)))
            .collect())
    }
}

fn generator(contract: Contract) -> SchemaGenerator {
    let mut settings = SchemaSettings::draft2020_12();
    settings.definitions_path = "/components/schemas".into();
    settings.meta_schema = None;
    settings.contract = contract;
    settings.into_generator()
}

/// Schemas are for people who do not read Rust: no links into its documentation, no line breaks of the source, no
/// names of its number types.
fn plain(mut schema: Value) -> Value {
    visit(&mut schema);
    schema
}

fn visit(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            let rust_only = |format: &Value| {
                let format = format.as_str().unwrap_or_default();
                format.starts_with("uint") || format.starts_with("int") || format == "double"
            };
            if fields.get("format").is_some_and(rust_only) {
                fields.remove("format");
            }
            if let Some(Value::String(text)) = fields.get_mut("description") {
                *text = text.replace("[`", "`").replace("`]", "`").replace('\n', " ");
            }
            fields.values_mut().for_each(visit);
        }
        Value::Array(items) => items.iter_mut().for_each(visit),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
