//! Webhooks and their deliveries.

use serde_json::json;

use super::admin::STORE;
use crate::admin::RotateRequest;
use crate::error::ErrorCode;
use crate::openapi::content::Content;
use crate::openapi::operation::{Method, Operation};
use crate::openapi::parameters::QueryType;
use crate::webhooks::{
    DELIVERIES_LIMIT_MAX, DeliveryInfo, DeliveryList, NewWebhook, WebhookChange, WebhookInfo, WebhookList,
    WebhookRequest,
};

const TAG: &str = "webhooks";

const HOOKS: &str = "/v1/webhooks";
const HOOK: &str = "/v1/webhooks/{webhook}";

pub(super) fn operations() -> Vec<Operation> {
    let mut all = hooks();
    all.extend(deliveries());
    all
}

fn hooks() -> Vec<Operation> {
    vec![
        Operation::new(Method::Post, HOOKS, "create_webhook", TAG, "Register a webhook")
            .describe(
                "From now on the host posts what happens to this tenant's sandboxes to the URL, at least once, signed \
                 as [Standard Webhooks](https://www.standardwebhooks.com) has it. Addresses that are not public are \
                 refused unless the host's setting `webhook_allow` has them.",
            )
            .json_body::<WebhookRequest>(
                true,
                json!({ "url": "https://hooks.example.com/podflare", "events": ["sandbox.frozen"] }),
            )
            .answers(200, "It is there. The secret is shown this once.", Content::json::<NewWebhook>())
            .fails(&[ErrorCode::TooManyWebhooks, ErrorCode::Internal])
            .fails(&STORE),
        Operation::new(Method::Get, HOOKS, "list_webhooks", TAG, "List webhooks")
            .answers(200, "All of the tenant, oldest first.", Content::json::<WebhookList>())
            .fails(&STORE),
        Operation::new(Method::Get, HOOK, "get_webhook", TAG, "Show a webhook")
            .answers(200, "What is known of it.", Content::json::<WebhookInfo>())
            .fails(&[ErrorCode::WebhookNotFound])
            .fails(&STORE),
        Operation::new(Method::Patch, HOOK, "set_webhook", TAG, "Change a webhook")
            .describe("`enabled: true` also starts one again that the host has stopped.")
            .json_body::<WebhookChange>(false, json!({ "enabled": true }))
            .answers(200, "It is changed.", Content::json::<WebhookInfo>())
            .fails(&[ErrorCode::WebhookNotFound])
            .fails(&STORE),
        Operation::new(Method::Delete, HOOK, "delete_webhook", TAG, "Remove a webhook")
            .describe("Its deliveries go with it. One that is not there counts as removed.")
            .answers(204, "It is gone.", Content::Nothing)
            .fails(&STORE),
        Operation::new(
            Method::Post,
            "/v1/webhooks/{webhook}/rotate",
            "rotate_webhook",
            TAG,
            "Replace a webhook's secret",
        )
        .describe("For `grace_seconds` every delivery carries two signatures, one with each secret.")
        .json_body::<RotateRequest>(false, json!({ "grace_seconds": 86400 }))
        .answers(200, "The new secret, shown this once.", Content::json::<NewWebhook>())
        .fails(&[ErrorCode::WebhookNotFound, ErrorCode::Internal])
        .fails(&STORE),
        Operation::new(
            Method::Post,
            "/v1/webhooks/{webhook}/test",
            "test_webhook",
            TAG,
            "Send a test event",
        )
        .describe("Sends `webhook.test` at once, once, also where the webhook is disabled, and says what came of it.")
        .answers(200, "What came of it.", Content::json::<DeliveryInfo>())
        .fails(&[ErrorCode::WebhookNotFound, ErrorCode::Internal])
        .fails(&STORE),
    ]
}

fn deliveries() -> Vec<Operation> {
    vec![
        Operation::new(
            Method::Get,
            "/v1/webhooks/{webhook}/deliveries",
            "list_deliveries",
            TAG,
            "Read a webhook's log",
        )
        .query(
            "limit",
            QueryType::Whole(1, DELIVERIES_LIMIT_MAX),
            "Most deliveries of the answer; 50 when absent.",
        )
        .query(
            "before",
            QueryType::Text(64),
            "Only deliveries older than this one: the `next_before` of the page before.",
        )
        .answers(
            200,
            "Deliveries with all attempts, newest first.",
            Content::json::<DeliveryList>(),
        )
        .fails(&[ErrorCode::WebhookNotFound, ErrorCode::InvalidField])
        .fails(&STORE),
        Operation::new(
            Method::Post,
            "/v1/webhooks/{webhook}/deliveries/{delivery}/replay",
            "replay_delivery",
            TAG,
            "Send a delivery again",
        )
        .describe("The same event with the same `webhook-id`, as a delivery of its own.")
        .answers(
            200,
            "The new delivery, which waits to be sent.",
            Content::json::<DeliveryInfo>(),
        )
        .fails(&[
            ErrorCode::WebhookNotFound,
            ErrorCode::DeliveryNotFound,
            ErrorCode::StateConflict,
            ErrorCode::Internal,
        ])
        .fails(&STORE),
    ]
}
