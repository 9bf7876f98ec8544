//! Routes of webhooks.

use api::{
    DeliveryInfo, DeliveryList, NewWebhook, RotateRequest, WebhookChange, WebhookInfo, WebhookList,
    WebhookRequest, percent_encoded,
};

use crate::client::{Client, NOTHING};
use crate::error::ClientError;
use crate::transport::Call;

impl Client {
    /// This tenant's webhooks, oldest first.
    ///
    /// # Errors
    /// [`ClientError`], as for all of these.
    pub fn webhooks(&self) -> Result<WebhookList, ClientError> {
        let call = Call::new("GET", "/v1/webhooks", "listing webhooks");
        self.transport.json(call, NOTHING)
    }

    /// # Errors
    /// [`ClientError`].
    pub fn create_webhook(&self, request: &WebhookRequest) -> Result<NewWebhook, ClientError> {
        let call = Call::new("POST", "/v1/webhooks", "registering a webhook");
        self.transport.json(call, Some(request))
    }

    /// # Errors
    /// [`ClientError`].
    pub fn webhook(&self, id: &str) -> Result<WebhookInfo, ClientError> {
        let path = path(id, "");
        self.transport
            .json(Call::new("GET", &path, "looking at a webhook"), NOTHING)
    }

    /// # Errors
    /// [`ClientError`].
    pub fn set_webhook(&self, id: &str, change: &WebhookChange) -> Result<WebhookInfo, ClientError> {
        let path = path(id, "");
        self.transport
            .json(Call::new("PATCH", &path, "changing a webhook"), Some(change))
    }

    /// # Errors
    /// [`ClientError`].
    pub fn remove_webhook(&self, id: &str) -> Result<(), ClientError> {
        let path = path(id, "");
        self.transport
            .text(Call::new("DELETE", &path, "removing a webhook"), NOTHING)
            .map(drop)
    }

    /// # Errors
    /// [`ClientError`].
    pub fn rotate_webhook(&self, id: &str, grace_seconds: u64) -> Result<NewWebhook, ClientError> {
        let path = path(id, "/rotate");
        let call = Call::new("POST", &path, "replacing a webhook's secret");
        self.transport.json(call, Some(&RotateRequest { grace_seconds }))
    }

    /// Sends a test event and waits for what comes of it.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn test_webhook(&self, id: &str) -> Result<DeliveryInfo, ClientError> {
        let path = path(id, "/test");
        self.transport
            .json(Call::new("POST", &path, "testing a webhook"), NOTHING)
    }

    /// A page of a webhook's deliveries, newest first.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn deliveries(
        &self,
        id: &str,
        limit: u64,
        before: Option<&str>,
    ) -> Result<DeliveryList, ClientError> {
        let before = before.map_or_else(String::new, |before| {
            format!("&before={}", percent_encoded(before.as_bytes()))
        });
        let path = path(id, &format!("/deliveries?limit={limit}{before}"));
        self.transport
            .json(Call::new("GET", &path, "reading a webhook's log"), NOTHING)
    }

    /// # Errors
    /// [`ClientError`].
    pub fn replay_delivery(&self, id: &str, delivery: &str) -> Result<DeliveryInfo, ClientError> {
        let delivery = percent_encoded(delivery.as_bytes());
        let path = path(id, &format!("/deliveries/{delivery}/replay"));
        self.transport
            .json(Call::new("POST", &path, "replaying a delivery"), NOTHING)
    }
}

fn path(id: &str, rest: &str) -> String {
    format!("/v1/webhooks/{}{rest}", percent_encoded(id.as_bytes()))
}
