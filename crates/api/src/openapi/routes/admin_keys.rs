//! API keys, for the operator.

use serde_json::json;

use super::admin::STORE;
use crate::admin::{KeyInfo, KeyList, NewKey, NewKeyRequest, RotateRequest};
use crate::error::ErrorCode;
use crate::openapi::content::Content;
use crate::openapi::operation::{Method, Operation};

const TAG: &str = "admin";

const KEYS: &str = "/v1/admin/keys";

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::new(Method::Get, KEYS, "list_keys", TAG, "List keys")
            .operators()
            .describe("Never with the keys themselves, which are not known any more.")
            .answers(200, "All of them.", Content::json::<KeyList>()),
        Operation::new(Method::Post, KEYS, "create_key", TAG, "Create a key")
            .operators()
            .json_body::<NewKeyRequest>(false, json!({ "tenant": "acme", "name": "ci" }))
            .answers(200, "It is valid. It is shown this once.", Content::json::<NewKey>())
            .fails(&[ErrorCode::TenantNotFound, ErrorCode::StateConflict, ErrorCode::Internal])
            .fails(&STORE),
        Operation::new(Method::Delete, "/v1/admin/keys/{key}", "revoke_key", TAG, "Revoke a key")
            .operators()
            .describe("It stays in the list. A second time says the same.")
            .answers(200, "It is not valid any more.", Content::json::<KeyInfo>())
            .fails(&[ErrorCode::KeyNotFound, ErrorCode::StateConflict])
            .fails(&STORE),
        Operation::new(Method::Post, "/v1/admin/keys/{key}/rotate", "rotate_key", TAG, "Replace a key")
            .operators()
            .describe("The new key has the tenant and the name of the old one, which stays valid for a while if that is asked for.")
            .json_body::<RotateRequest>(false, json!({ "grace_seconds": 3600 }))
            .answers(200, "The new key. It is shown this once.", Content::json::<NewKey>())
            .fails(&[ErrorCode::KeyNotFound, ErrorCode::StateConflict, ErrorCode::Internal])
            .fails(&STORE),
    ]
}
