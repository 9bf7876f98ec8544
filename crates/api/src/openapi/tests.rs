//! The table of operations is sound, the checked-in document is the one that is served, and schemas and parsers agree.

mod judge;

use std::collections::BTreeSet;
use std::path::PathBuf;

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::schemas::Schemas;
use super::{document, operations, parameters};
use crate::{
    ChangeRequest, CheckpointRequest, CreateRequest, ErrorCode, ExecRequest, ForkRequest, FreezeRequest,
    NewKeyRequest, NewTenantRequest, PtyCreateRequest, PtyInputRequest, PtyReadRequest, PtyResizeRequest,
    ResumeRequest, RollbackRequest, RotateRequest, SecretRequest, SetTenantRequest, ShareRequest,
    WebhookChange, WebhookRequest,
};
use judge::accepts;

/// Set to write what is generated instead of comparing it.
const UPDATE: &str = "PODFLARE_UPDATE";

#[test]
fn the_checked_in_document_is_the_one_that_is_served() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/openapi.json");
    let generated = serde_json::to_string_pretty(&document()).unwrap() + "\n";
    if std::env::var_os(UPDATE).is_some() {
        std::fs::write(&path, generated).unwrap();
        return;
    }
    let checked_in = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        checked_in == generated,
        "docs/openapi.json is out of date; `cargo xtask generate` writes it anew"
    );
}

#[test]
fn operations_are_named_once_answered_and_their_paths_understood() {
    let (mut ids, mut routes) = (BTreeSet::new(), BTreeSet::new());
    for operation in operations() {
        assert!(ids.insert(operation.id), "{} twice", operation.id);
        assert!(
            routes.insert((operation.path, operation.method)),
            "{} twice",
            operation.id
        );
        assert!(
            !operation.answers.is_empty() || operation.others.is_some(),
            "{} has no answer",
            operation.id
        );
        assert!(
            parameters::of_path(operation.path).is_some(),
            "{}: a name in {{}} is not in parameters.rs",
            operation.path
        );
    }
}

#[test]
fn no_type_means_one_thing_in_requests_and_another_in_responses() {
    let mut schemas = Schemas::new();
    for operation in operations() {
        let body = operation.body.map(|body| body.content);
        let answers = operation.answers.into_iter().map(|answer| answer.content);
        for content in body.into_iter().chain(answers) {
            content.describe(&mut schemas);
        }
    }
    schemas.components().unwrap();
}

#[test]
fn every_reference_leads_to_a_schema() {
    let document = document();
    let text = document.to_string();
    for reference in text.split("\"$ref\":\"#").skip(1) {
        let pointer = reference.split('"').next().unwrap();
        assert!(document.pointer(pointer).is_some(), "{pointer}");
    }
    assert!(!text.contains("[`"), "a link into Rust's documentation is left");
}

#[test]
fn every_error_code_is_an_answer_of_some_operation_or_of_the_router_itself() {
    let router = [ErrorCode::RouteNotFound, ErrorCode::MethodNotAllowed];
    let mut documented: BTreeSet<String> = router.iter().map(|code| json!(code).to_string()).collect();
    for operation in operations() {
        documented.extend(operation.errors.iter().map(|code| json!(code).to_string()));
    }
    let schema = &document()["components"]["schemas"]["ErrorCode"];
    let plain = schema["enum"].as_array().cloned().unwrap_or_default();
    let variants = schema["oneOf"].as_array().cloned().unwrap_or_default();
    let described = variants.iter().flat_map(|variant| match &variant["enum"] {
        Value::Array(names) => names.clone(),
        _ => vec![variant["const"].clone()],
    });
    let all: Vec<Value> = plain.into_iter().chain(described).collect();
    assert!(
        all.len() > 15,
        "the schema of the codes was not understood: {schema}"
    );
    for code in all {
        assert!(
            documented.contains(&code.to_string()),
            "{code} is documented nowhere"
        );
    }
}

/// A request type's schema and its parser.
type Request = (&'static str, fn(&[u8]) -> bool);

const REQUESTS: [Request; 22] = [
    ("CheckpointRequest", |body| CheckpointRequest::parse(body).is_ok()),
    ("RollbackRequest", |body| RollbackRequest::parse(body).is_ok()),
    ("ChangeRequest", |body| ChangeRequest::parse(body).is_ok()),
    ("CreateRequest", |body| CreateRequest::parse(body).is_ok()),
    ("ExecRequest", |body| ExecRequest::parse(body).is_ok()),
    ("FreezeRequest", |body| FreezeRequest::parse(body).is_ok()),
    ("ResumeRequest", |body| ResumeRequest::parse(body).is_ok()),
    ("ShareRequest", |body| ShareRequest::parse(body).is_ok()),
    ("ForkRequest", |body| ForkRequest::parse(body).is_ok()),
    ("PtyCreateRequest", |body| PtyCreateRequest::parse(body).is_ok()),
    ("PtyInputRequest", |body| PtyInputRequest::parse(body).is_ok()),
    ("PtyResizeRequest", |body| PtyResizeRequest::parse(body).is_ok()),
    ("PtyReadRequest", |body| PtyReadRequest::parse(body).is_ok()),
    ("NewTenantRequest", |body| NewTenantRequest::parse(body).is_ok()),
    ("SetTenantRequest", |body| SetTenantRequest::parse(body).is_ok()),
    ("NewKeyRequest", |body| NewKeyRequest::parse(body).is_ok()),
    ("RotateRequest", |body| RotateRequest::parse(body).is_ok()),
    ("FreezeRequest", |body| FreezeRequest::parse(body).is_ok()),
    ("ResumeRequest", |body| ResumeRequest::parse(body).is_ok()),
    ("SecretRequest", |body| SecretRequest::parse(body).is_ok()),
    ("WebhookRequest", |body| WebhookRequest::parse(body).is_ok()),
    ("WebhookChange", |body| WebhookChange::parse(body).is_ok()),
];

#[test]
fn every_json_body_is_compared_with_its_parser_and_its_example_is_accepted_by_both() {
    let document = document();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for operation in methods.as_object().unwrap().values() {
            let media = &operation["requestBody"]["content"]["application/json"];
            let Some(reference) = media["schema"]["$ref"].as_str() else {
                assert!(media.is_null(), "{path}: a request is one named type");
                continue;
            };
            let name = reference.rsplit('/').next().unwrap();
            let known = REQUESTS.iter().find(|(known, _)| *known == name);
            let (_, parses) = known.unwrap_or_else(|| panic!("{name} is missing in REQUESTS"));
            let example = &media["example"];
            assert!(accepts(&document, &media["schema"], example), "{path}: {example}");
            assert!(parses(example.to_string().as_bytes()), "{path}: {example}");
        }
    }
}

/// Values near what a schema allows: its bounds, its words, and everything of another kind.
fn value_for(schema: &Value, document: &Value) -> BoxedStrategy<Value> {
    let mut edges = vec![
        json!(null),
        json!(true),
        json!(""),
        json!("x"),
        json!(-1),
        json!(0),
        json!(1.5),
    ];
    edges.extend([json!([]), json!({}), json!(u64::MAX)]);
    judge::edges(schema, document, &mut edges);
    prop_oneof![
        3 => proptest::sample::select(edges),
        1 => any::<i64>().prop_map(|number| json!(number)),
        1 => any::<String>().prop_map(|text| json!(text)),
    ]
    .boxed()
}

fn body_for(name: &str) -> BoxedStrategy<Value> {
    let document = document();
    let schema = document["components"]["schemas"][name].clone();
    let fields = schema["properties"].as_object().unwrap().clone();
    let fields: Vec<_> = fields
        .into_iter()
        .map(|(field, schema)| {
            let value = value_for(&schema, &document);
            proptest::option::weighted(0.6, value).prop_map(move |value| (field.clone(), value))
        })
        .collect();
    fields
        .prop_map(|fields| {
            let present = fields
                .into_iter()
                .filter_map(|(field, value)| Some((field, value?)));
            let mut body: Map<String, Value> = present.collect();
            body.insert("from_the_future".to_owned(), json!([1]));
            Value::Object(body)
        })
        .boxed()
}

#[test]
fn parsers_accept_exactly_what_their_schemas_allow() {
    let document = document();
    for (name, parses) in REQUESTS {
        let schema = json!({ "$ref": format!("#/components/schemas/{name}") });
        proptest!(|(body in body_for(name))| {
            let text = body.to_string();
            prop_assert_eq!(accepts(&document, &schema, &body), parses(text.as_bytes()), "{} {}", name, text);
        });
    }
}
