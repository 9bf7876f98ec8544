//! Tenants.

use pod_types::{Limit, Limits, Overrides, Tier};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{TENANT_NAME, TENANT_NAME_PATTERN, tenant_name};
use crate::fields::{Fields, InvalidRequest};
use crate::openapi::{LimitsObject, OverridesObject, TierText};

/// A tenant to make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct NewTenantRequest {
    /// Lowercase letters, digits, `.`, `_` and `-`.
    #[schemars(extend("pattern" = TENANT_NAME_PATTERN))]
    pub name: String,
    /// The host's default tier when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<TierText>")]
    pub tier: Option<Tier>,
    /// Limits that differ from the tier's; `null` lifts one.
    #[serde(skip_serializing_if = "Overrides::is_empty")]
    #[schemars(with = "Option<OverridesObject>")]
    pub limits: Overrides,
    /// Whether a request to run something in a frozen sandbox of its, open a terminal or handle a file resumes it under its
    /// old id; as the host is set when absent or `null`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wake: Option<bool>,
}

/// What to change of a tenant; what is absent stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct SetTenantRequest {
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<TierText>")]
    pub tier: Option<Tier>,
    /// All limits that are to differ from the tier's, from now on.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<OverridesObject>")]
    pub limits: Option<Overrides>,
    /// Whether requests resume its frozen sandboxes under their old ids; `null`: as the host is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<bool>")]
    pub wake: Option<Option<bool>>,
}

/// One tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TenantInfo {
    pub name: String,
    #[schemars(with = "TierText")]
    pub tier: Tier,
    /// What holds for it; `null` is no limit.
    #[schemars(with = "LimitsObject")]
    pub limits: Limits,
    /// Those that differ from its tier's.
    #[serde(default)]
    #[schemars(with = "OverridesObject")]
    pub overrides: Overrides,
    /// Whether requests resume its frozen sandboxes under their old ids; `null`: as the host is set.
    #[serde(default)]
    pub wake: Option<bool>,
    /// Milliseconds since the Unix epoch.
    pub created_at_ms: u64,
    /// Keys that are valid now.
    pub keys: u32,
    /// Sandboxes it has now, those that are being made included.
    pub sandboxes: u64,
    /// Runs in progress or queued now.
    pub runs: u64,
}

/// All tenants, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TenantList {
    pub tenants: Vec<TenantInfo>,
}

impl NewTenantRequest {
    /// Validates a body.
    ///
    /// # Errors
    /// Names the field, what was expected there and what was found.
    pub fn parse(body: &[u8]) -> Result<Self, InvalidRequest> {
        let mut fields = Fields::parse(body)?;
        let name = fields.text("name", TENANT_NAME)?.ok_or(InvalidRequest::Missing {
            field: "name",
            expected: TENANT_NAME.to_owned(),
        })?;
        Ok(Self {
            name: tenant_name("name", name)?,
            tier: tier(&mut fields)?,
            limits: limits(&mut fields)?.unwrap_or_default(),
            wake: fields.flag("wake")?,
        })
    }
}

impl SetTenantRequest {
    /// Validates a body.
    ///
    /// # Errors
    /// Names the field, what was expected there and what was found.
    pub fn parse(body: &[u8]) -> Result<Self, InvalidRequest> {
        let mut fields = Fields::parse(body)?;
        Ok(Self {
            tier: tier(&mut fields)?,
            limits: limits(&mut fields)?,
            wake: fields.nullable_flag("wake")?,
        })
    }
}

fn tier(fields: &mut Fields) -> Result<Option<Tier>, InvalidRequest> {
    let expected = format!("one of {}", Tier::NAMES);
    let named = fields.text("tier", &expected)?;
    let tier = named.map(|name| {
        name.parse()
            .map_err(|_| InvalidRequest::value("tier", &expected, &name))
    });
    tier.transpose()
}

fn limits(fields: &mut Fields) -> Result<Option<Overrides>, InvalidRequest> {
    let expected = format!("an object with numbers or null for any of {}", Limit::NAMES);
    let Some(values) = fields.object("limits", &expected)? else {
        return Ok(None);
    };
    let one = |(name, value): (String, serde_json::Value)| {
        let limit: Limit = name
            .parse()
            .map_err(|_| InvalidRequest::value("limits", &expected, &name))?;
        let (min, max) = limit.range();
        let number = match (value.as_u64(), value.is_null()) {
            (None, true) => None,
            (Some(number), _) if (min..=max).contains(&number) => Some(number),
            _ => {
                let expected = format!("{limit} to be null or a whole number between {min} and {max}");
                return Err(InvalidRequest::json("limits", &expected, &value));
            }
        };
        Ok((limit, number))
    };
    values.into_iter().map(one).collect::<Result<_, _>>().map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_is_read_and_what_is_wrong_is_named() {
        let body = br#"{"name":"acme-2","tier":"pro","limits":{"sandboxes":3,"runs":null}}"#;
        let request = NewTenantRequest::parse(body).unwrap();
        assert_eq!(
            request.limits,
            Overrides::from([(Limit::Sandboxes, Some(3)), (Limit::Runs, None)])
        );
        assert_eq!(
            NewTenantRequest::parse(&serde_json::to_vec(&request).unwrap()),
            Ok(request)
        );
        for (body, field) in [
            ("{}", "name: required"),
            (r#"{"name":"A"}"#, "name: expected a name of"),
            (r#"{"name":"a/b"}"#, "name: expected a name of"),
            (r#"{"name":"a","tier":"gold"}"#, "tier: expected one of free, pro"),
            (r#"{"name":"a","limits":[]}"#, "limits: expected an object"),
            (r#"{"name":"a","limits":{"x":1}}"#, "limits: expected an object"),
            (
                r#"{"name":"a","limits":{"ram_mib":1}}"#,
                "limits: expected ram_mib to be null or",
            ),
        ] {
            let refusal = NewTenantRequest::parse(body.as_bytes()).unwrap_err().to_string();
            assert!(refusal.starts_with(field), "{refusal}");
        }
    }

    #[test]
    fn what_is_absent_stays_and_no_limits_is_not_the_same_as_none_named() {
        assert_eq!(SetTenantRequest::parse(b"").unwrap(), SetTenantRequest::default());
        let cleared = SetTenantRequest::parse(br#"{"limits":{}}"#).unwrap();
        assert_eq!(cleared.limits, Some(Overrides::new()));
        assert_eq!(cleared.wake, None);
        for (body, wake) in [
            (r#"{"wake":true}"#, Some(Some(true))),
            (r#"{"wake":null}"#, Some(None)),
        ] {
            let request = SetTenantRequest::parse(body.as_bytes()).unwrap();
            assert_eq!(request.wake, wake);
            assert_eq!(serde_json::to_string(&request).unwrap(), body);
        }
        let refused = SetTenantRequest::parse(br#"{"wake":"on"}"#).unwrap_err();
        assert!(refused.to_string().starts_with("wake: expected true or false"));
    }
}
