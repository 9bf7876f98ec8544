//! Secrets.

use serde_json::json;

use super::admin::STORE;
use crate::error::ErrorCode;
use crate::openapi::content::Content;
use crate::openapi::operation::{Method, Operation};
use crate::secret::{SecretInfo, SecretList, SecretRequest};

const TAG: &str = "secrets";
const SECRET: &str = "/v1/secrets/{secret}";

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::new(Method::Get, "/v1/secrets", "list_secrets", TAG, "List secrets")
            .describe("All of the tenant, by name, without their values.")
            .answers(200, "What is told of them.", Content::json::<SecretList>())
            .fails(&STORE),
        Operation::new(Method::Put, SECRET, "put_secret", TAG, "Set a secret")
            .describe(
                "A sandbox that was created with its name in `secrets` sends the placeholder, and the host's network puts \
                 the value in its place: in headers and in the target of requests over HTTPS to these hosts, and nowhere \
                 else. The value never enters the sandbox. Sandboxes that run have a new value when this is answered.",
            )
            .json_body::<SecretRequest>(
                true,
                json!({ "value": "sk-live-0000", "hosts": ["api.example.com"] }),
            )
            .answers(200, "It holds.", Content::json::<SecretInfo>())
            .fails(&[
                ErrorCode::InvalidField,
                ErrorCode::TooManySecrets,
                ErrorCode::NetworkUnavailable,
                ErrorCode::Internal,
            ])
            .fails(&STORE),
        Operation::new(Method::Delete, SECRET, "delete_secret", TAG, "Revoke a secret")
            .describe(
                "No sandbox uses it any more when this is answered. One that is not there counts as revoked.",
            )
            .answers(204, "It is gone.", Content::Nothing)
            .fails(&[ErrorCode::NetworkUnavailable])
            .fails(&STORE),
    ]
}
