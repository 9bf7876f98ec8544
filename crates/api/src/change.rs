//! `PATCH /v1/sandboxes/{id}`, the request.

use ::egress::Policy;
use schemars::JsonSchema;
use serde::{Serialize, Serializer};

use crate::create::{SECONDS_MAX, seconds};
use crate::egress::{self, EgressValue};
use crate::fields::{Fields, InvalidRequest, Whole};

/// What is wished for one of a sandbox's times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wish {
    #[default]
    Keep,
    /// As if nothing had ever been asked for.
    Most,
    Seconds(u64),
}

/// What is to change about a sandbox. What is left out stays; `{}` changes nothing and counts as a use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ChangeRequest {
    /// Longest life, in seconds from its creation, capped by the tenant's tier; `null` is the most there is.
    #[serde(skip_serializing_if = "is_kept", serialize_with = "write")]
    #[schemars(with = "Option<u64>", range(min = 1, max = SECONDS_MAX))]
    pub timeout_seconds: Wish,
    /// Longest time without a use, in seconds, capped by the tenant's tier; `null` is the most there is.
    #[serde(skip_serializing_if = "is_kept", serialize_with = "write")]
    #[schemars(with = "Option<u64>", range(min = 1, max = SECONDS_MAX))]
    pub idle_timeout_seconds: Wish,
    /// Freeze instead of destroy when idle. Ignored where the tenant's tier does not have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub persistent: Option<bool>,
    /// What the sandbox may reach from now on. It is in force when this is answered; connections that it does not allow
    /// are reset.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<EgressValue>")]
    pub egress: Option<Policy>,
}

impl ChangeRequest {
    /// Validates a body.
    ///
    /// # Errors
    /// Names the field, what was expected there and what was found.
    pub fn parse(body: &[u8]) -> Result<Self, InvalidRequest> {
        let mut fields = Fields::parse(body)?;
        let range = Whole { min: 1, ..seconds() };
        Ok(Self {
            timeout_seconds: wish(fields.nullable_whole("timeout_seconds", &range)?),
            idle_timeout_seconds: wish(fields.nullable_whole("idle_timeout_seconds", &range)?),
            persistent: fields.flag("persistent")?,
            egress: egress::take(&mut fields)?,
        })
    }
}

fn wish(field: Option<Option<u64>>) -> Wish {
    match field {
        None => Wish::Keep,
        Some(None) => Wish::Most,
        Some(Some(seconds)) => Wish::Seconds(seconds),
    }
}

fn is_kept(wish: &Wish) -> bool {
    *wish == Wish::Keep
}

fn write<S: Serializer>(wish: &Wish, serializer: S) -> Result<S::Ok, S::Error> {
    match wish {
        Wish::Keep | Wish::Most => serializer.serialize_none(),
        Wish::Seconds(seconds) => serializer.serialize_u64(*seconds),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_left_out_stays_and_null_is_the_most() {
        let parse = |body: &str| ChangeRequest::parse(body.as_bytes()).unwrap();
        assert_eq!(parse(""), ChangeRequest::default());
        let change = parse(r#"{"timeout_seconds":null,"idle_timeout_seconds":90}"#);
        assert_eq!(
            (change.timeout_seconds, change.idle_timeout_seconds),
            (Wish::Most, Wish::Seconds(90))
        );
        let refused = ChangeRequest::parse(br#"{"timeout_seconds":0}"#).unwrap_err();
        assert!(
            refused
                .to_string()
                .starts_with("timeout_seconds: expected a whole number of seconds between 1 and"),
            "{refused}"
        );
        assert!(ChangeRequest::parse(br#"{"persistent":1}"#).is_err());
    }

    proptest! {
        #[test]
        fn every_change_survives_the_wire(life in 0..3_u64, idle in 0..3_u64, persistent: Option<bool>, shut: Option<bool>) {
            let wish = |n| [Wish::Keep, Wish::Most, Wish::Seconds(n)][usize::try_from(n).unwrap()];
            let change = ChangeRequest {
                timeout_seconds: wish(life), idle_timeout_seconds: wish(idle), persistent, egress: shut.map(|shut| if shut { Policy::Closed } else { Policy::Open }),
            };
            let wire = serde_json::to_vec(&change).unwrap();
            prop_assert_eq!(ChangeRequest::parse(&wire), Ok(change));
        }
    }
}
