//! `/v1/webhooks…`: who is told what happens to a tenant's sandboxes, and what came of telling.

mod delivery;
mod event;
mod hook;

pub use delivery::{
    AttemptInfo, DELIVERIES_LIMIT_MAX, DeliveriesQuery, DeliveryInfo, DeliveryList, DeliveryState,
};
pub use event::{WEBHOOK_TEST_TYPE, WebhookEvent, WebhookPayload};
pub use hook::{NewWebhook, WebhookChange, WebhookInfo, WebhookList, WebhookRequest};
