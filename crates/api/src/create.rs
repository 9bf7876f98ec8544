//! `POST /v1/sandboxes`, the request.

use ::egress::Policy;
use schemars::JsonSchema;
use serde::Serialize;

use crate::egress::{self, EgressValue};
use crate::fields::{Fields, InvalidRequest, Whole};
use crate::openapi::SecretName;
use crate::secret::{self, SECRETS_MAX};

/// Least guest memory, in MiB: below it Debian does not boot.
pub const RAM_MIB_MIN: u32 = 128;
/// Most guest memory, in MiB.
pub const RAM_MIB_MAX: u32 = 65_536;
/// Largest root disk, in GiB. Disks are sparse: only what is written takes room.
pub const ROOTFS_GB_MAX: u32 = 1024;

/// Seconds in a field are capped only by what a clock can add; nobody waits a century.
pub(crate) const SECONDS_MAX: u64 = 100 * 365 * 24 * 3600;

/// What kind of sandbox to create. Every field is optional; `{}` and an empty body are legal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct CreateRequest {
    /// Name of a template; `default` when absent or empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// Longest life, in seconds, capped by the tenant's tier. 0 counts as absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = SECONDS_MAX))]
    pub timeout_seconds: Option<u64>,
    /// Seconds without a use after which the sandbox ends, capped by the tenant's tier: without an exec, traffic of a
    /// terminal or of files. 0 counts as absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = SECONDS_MAX))]
    pub idle_timeout_seconds: Option<u64>,
    /// Guest memory in MiB; the host's default when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = RAM_MIB_MIN, max = RAM_MIB_MAX))]
    pub ram_mib: Option<u32>,
    /// Size of the root disk in GiB, at least the template's own size, which it has when this is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = ROOTFS_GB_MAX))]
    pub rootfs_gb: Option<u32>,
    /// Freeze instead of destroy when idle.
    #[schemars(with = "Option<bool>")]
    pub persistent: bool,
    /// What the sandbox may reach; everything public when absent. Forks inherit it, and it can be changed at any time.
    #[schemars(with = "Option<EgressValue>")]
    pub egress: Policy,
    /// Names of secrets that it may use: see `PUT /v1/secrets/{secret}`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Option<Vec<SecretName>>", length(max = SECRETS_MAX))]
    pub secrets: Vec<String>,
}

impl CreateRequest {
    /// Validates a body.
    ///
    /// # Errors
    /// Names the field, what was expected there and what was found.
    pub fn parse(body: &[u8]) -> Result<Self, InvalidRequest> {
        let mut fields = Fields::parse(body)?;
        let seconds = seconds();
        let ram = Whole {
            unit: "MiB",
            min: RAM_MIB_MIN.into(),
            max: RAM_MIB_MAX.into(),
        };
        let rootfs = Whole {
            unit: "GiB",
            min: 1,
            max: ROOTFS_GB_MAX.into(),
        };
        Ok(Self {
            template: fields
                .text("template", "the name of a template")?
                .filter(|name| !name.is_empty()),
            timeout_seconds: fields.whole("timeout_seconds", &seconds)?.filter(|s| *s > 0),
            idle_timeout_seconds: fields.whole("idle_timeout_seconds", &seconds)?.filter(|s| *s > 0),
            ram_mib: small(fields.whole("ram_mib", &ram)?),
            rootfs_gb: small(fields.whole("rootfs_gb", &rootfs)?),
            persistent: fields.flag("persistent")?.unwrap_or(false),
            egress: egress::take(&mut fields)?.unwrap_or_default(),
            secrets: secret::names(&mut fields)?,
        })
    }
}

impl Default for CreateRequest {
    /// What an empty body asks for.
    fn default() -> Self {
        Self {
            template: None,
            timeout_seconds: None,
            idle_timeout_seconds: None,
            ram_mib: None,
            rootfs_gb: None,
            persistent: false,
            egress: Policy::Open,
            secrets: Vec::new(),
        }
    }
}

pub(crate) fn seconds() -> Whole {
    Whole {
        unit: "seconds",
        min: 0,
        max: SECONDS_MAX,
    }
}

/// The range has been checked already, so nothing is lost.
fn small(number: Option<u64>) -> Option<u32> {
    number.and_then(|number| u32::try_from(number).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn refusal(body: &str) -> String {
        CreateRequest::parse(body.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn no_body_white_space_and_an_empty_object_ask_for_the_defaults() {
        for body in [
            "",
            " \n",
            "{}",
            r#"{"template":"","ram_mib":null,"from_the_future":[1]}"#,
        ] {
            assert_eq!(
                CreateRequest::parse(body.as_bytes()),
                Ok(CreateRequest::default())
            );
        }
    }

    #[test]
    fn a_wrong_value_is_answered_with_the_field_the_expectation_and_the_value() {
        assert_eq!(
            refusal(r#"{"ram_mib":"abc"}"#),
            r#"ram_mib: expected a whole number of MiB between 128 and 65536, got "abc""#
        );
        assert_eq!(
            refusal(r#"{"ram_mib":12.5}"#),
            "ram_mib: expected a whole number of MiB between 128 and 65536, got 12.5"
        );
        assert_eq!(
            refusal(r#"{"timeout_seconds":-1}"#),
            format!(
                "timeout_seconds: expected a whole number of seconds between 0 and {SECONDS_MAX}, got -1"
            )
        );
        assert_eq!(
            refusal(r#"{"egress":"no"}"#),
            r#"egress: expected true, false or {"allow": […], "deny": […]}, got "no""#
        );
        assert_eq!(
            refusal(r#"{"template":["a"]}"#),
            "template: expected the name of a template, got an array"
        );
        assert_eq!(refusal("[1]"), "the body: expected a JSON object, got an array");
    }

    #[test]
    fn malformed_json_is_answered_with_the_place() {
        let text = refusal("{\n  \"ram_mib\": oops }");
        assert!(text.starts_with("malformed JSON at line 2, column "), "{text}");
        assert_eq!(text.matches("line").count(), 1, "{text}");
    }

    #[test]
    fn a_huge_wrong_value_is_not_quoted_whole() {
        let body = format!(r#"{{"egress":"{}"}}"#, "é".repeat(1_000_000));
        assert!(refusal(&body).len() < 300);
    }

    proptest! {
        #[test]
        fn arbitrary_bodies_never_panic(body: Vec<u8>) {
            drop(CreateRequest::parse(&body));
        }

        #[test]
        fn whatever_is_accepted_is_in_range_and_survives_the_wire(ram: u32, rootfs: u32, seconds: u64, on: bool) {
            let body = serde_json::json!({
                "ram_mib": ram, "rootfs_gb": rootfs, "timeout_seconds": seconds, "egress": on, "persistent": on
            });
            if let Ok(request) = CreateRequest::parse(body.to_string().as_bytes()) {
                prop_assert!((RAM_MIB_MIN..=RAM_MIB_MAX).contains(&request.ram_mib.unwrap()));
                prop_assert!((1..=ROOTFS_GB_MAX).contains(&request.rootfs_gb.unwrap()));
                let wire = serde_json::to_vec(&request).unwrap();
                prop_assert_eq!(CreateRequest::parse(&wire), Ok(request));
            }
        }
    }
}
