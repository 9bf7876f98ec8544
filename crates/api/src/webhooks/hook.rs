//! Webhooks: what is asked for, and what is shown.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::event::WebhookEvent;
use crate::fields::{Fields, InvalidRequest};

/// Longest address, in characters.
const URL_LEN_MAX: usize = 2048;
const URL: &str = "an http or https URL of at most 2048 characters";

const DESCRIPTION_LEN_MAX: usize = 256;
const DESCRIPTION: &str = "a text of at most 256 characters";

/// Whatever is repeated counts once.
const EVENTS_MAX: usize = 32;

/// A webhook to make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct WebhookRequest {
    /// Where to send: `https://…`, or `http://…` for receivers nearby. Without user and password.
    #[schemars(length(min = 1, max = URL_LEN_MAX))]
    pub url: String,
    /// What to send; everything when absent or empty.
    #[schemars(with = "Option<Vec<WebhookEvent>>", length(max = EVENTS_MAX))]
    pub events: Vec<WebhookEvent>,
    /// For people.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = DESCRIPTION_LEN_MAX))]
    pub description: Option<String>,
}

/// What to change of a webhook; what is absent stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct WebhookChange {
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = URL_LEN_MAX))]
    pub url: Option<String>,
    /// Takes the place of the list; an empty one is everything.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = EVENTS_MAX))]
    pub events: Option<Vec<WebhookEvent>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = DESCRIPTION_LEN_MAX))]
    pub description: Option<String>,
    /// `false` stops it: what happens meanwhile is not told later. `true` starts it again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
}

/// One webhook. Its secret is shown only when it is made and when it is rotated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WebhookInfo {
    /// `whk_` and 32 hexadecimal digits.
    pub id: String,
    pub url: String,
    /// What it is sent.
    pub events: Vec<WebhookEvent>,
    #[serde(default)]
    pub description: String,
    pub enabled: bool,
    /// Why it is not, if the host has stopped it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled_reason: Option<String>,
    /// Milliseconds since the Unix epoch.
    pub created_at_ms: u64,
    /// No attempt has succeeded since then, in milliseconds since the Unix epoch; absent while all is well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing_since_ms: Option<u64>,
    /// Milliseconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_success_ms: Option<u64>,
    /// The secret before a rotation counts until then, in milliseconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_secret_until_ms: Option<u64>,
    /// Deliveries that wait to be sent, or sent again.
    pub pending: u64,
}

/// A webhook with its secret, which is shown this once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NewWebhook {
    /// `whsec_` and the key of the signatures in base64.
    pub secret: String,
    #[serde(flatten)]
    pub info: WebhookInfo,
}

/// All webhooks of a tenant, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WebhookList {
    pub webhooks: Vec<WebhookInfo>,
}

impl WebhookRequest {
    /// Validates a body. Whether the host sends to such an address is the host's to say.
    ///
    /// # Errors
    /// Names the field, what was expected there and what was found.
    pub fn parse(body: &[u8]) -> Result<Self, InvalidRequest> {
        let mut fields = Fields::parse(body)?;
        let url = url(&mut fields)?.ok_or_else(|| InvalidRequest::Missing {
            field: "url",
            expected: URL.to_owned(),
        })?;
        Ok(Self {
            url,
            events: events(&mut fields)?.unwrap_or_default(),
            description: description(&mut fields)?,
        })
    }
}

impl WebhookChange {
    /// Validates a body.
    ///
    /// # Errors
    /// Names the field, what was expected there and what was found.
    pub fn parse(body: &[u8]) -> Result<Self, InvalidRequest> {
        let mut fields = Fields::parse(body)?;
        Ok(Self {
            url: url(&mut fields)?,
            events: events(&mut fields)?,
            description: description(&mut fields)?,
            enabled: fields.flag("enabled")?,
        })
    }
}

fn url(fields: &mut Fields) -> Result<Option<String>, InvalidRequest> {
    match fields.text("url", URL)? {
        Some(url) if url.is_empty() || url.chars().count() > URL_LEN_MAX => {
            Err(InvalidRequest::value("url", URL, &url))
        }
        url => Ok(url),
    }
}

fn description(fields: &mut Fields) -> Result<Option<String>, InvalidRequest> {
    match fields.text("description", DESCRIPTION)? {
        Some(text) if text.chars().count() > DESCRIPTION_LEN_MAX => {
            Err(InvalidRequest::value("description", DESCRIPTION, &text))
        }
        text => Ok(text),
    }
}

/// Sorted, each once.
fn events(fields: &mut Fields) -> Result<Option<Vec<WebhookEvent>>, InvalidRequest> {
    let expected = || format!("a list of {}", WebhookEvent::names());
    let wrong = |got: &Value| InvalidRequest::json("events", &expected(), got);
    let items = match fields.take("events") {
        None => return Ok(None),
        Some(Value::Array(items)) if items.len() <= EVENTS_MAX => items,
        Some(other) => return Err(wrong(&other)),
    };
    let mut events = Vec::with_capacity(items.len());
    for item in &items {
        let event = item.as_str().and_then(|text| text.parse().ok());
        events.push(event.ok_or_else(|| wrong(item))?);
    }
    events.sort_unstable();
    events.dedup();
    Ok(Some(events))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_event_is_named_together_with_those_there_are() {
        let body = br#"{"url":"https://a.example","events":["sandbox.created","sandbox.eaten"]}"#;
        let text = WebhookRequest::parse(body).unwrap_err().to_string();
        assert!(
            text.starts_with("events: expected a list of sandbox.created,"),
            "{text}"
        );
        assert!(text.ends_with("got \"sandbox.eaten\""), "{text}");
        let text = WebhookRequest::parse(b"{}").unwrap_err().to_string();
        assert!(text.starts_with("url: required"), "{text}");
    }

    #[test]
    fn an_event_that_is_named_twice_counts_once() {
        let body = br#"{"events":["sandbox.destroyed","sandbox.created","sandbox.destroyed"]}"#;
        let change = WebhookChange::parse(body).unwrap();
        assert_eq!(
            change.events,
            Some(vec![WebhookEvent::Created, WebhookEvent::Destroyed])
        );
    }
}
