//! `/v1/admin/…` and `GET /v1/usage`: tenants, keys, usage and the audit log.

mod audit;
mod key;
mod tenant;
mod usage;

pub use audit::{AUDIT_LIMIT_MAX, AuditEntry, AuditPage, AuditQuery, StoreReport};
#[cfg(test)]
pub(crate) use key::KEY_NAME_PATTERN;
pub use key::{GRACE_SECONDS_MAX, KeyInfo, KeyList, KeyState, NewKey, NewKeyRequest, RotateRequest};
pub use tenant::{NewTenantRequest, SetTenantRequest, TenantInfo, TenantList};
pub use usage::{USAGE_DAYS_MAX, UsageDay, UsageFigures, UsageList, UsageQuery, UsageReport};

use crate::fields::InvalidRequest;

/// Longest name of a tenant or key.
pub(crate) const NAME_LEN_MAX: usize = 64;

const TENANT_NAME: &str =
    "a name of 1 to 64 lowercase letters, digits, `.`, `_` and `-`, beginning with a letter or digit";

/// The same as a pattern.
pub(crate) const TENANT_NAME_PATTERN: &str = "^[a-z0-9][a-z0-9._-]{0,63}$";

/// Names of tenants stand in paths and logs.
fn tenant_name(field: &'static str, name: String) -> Result<String, InvalidRequest> {
    let sound = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let first = name.bytes().next().is_some_and(sound);
    let rest = name.bytes().all(|byte| sound(byte) || b"._-".contains(&byte));
    if first && rest && name.len() <= NAME_LEN_MAX {
        Ok(name)
    } else {
        Err(InvalidRequest::value(field, TENANT_NAME, &name))
    }
}

/// The values of a query by name; of a repeated one the last counts.
pub(crate) fn query_value<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    let mut pairs = query.rsplit('&').filter_map(|pair| pair.split_once('='));
    let found = pairs.find(|(key, value)| *key == name && !value.is_empty());
    found.map(|(_, value)| value)
}

pub(crate) fn query_number(
    query: &str,
    name: &'static str,
    range: (u64, u64),
) -> Result<Option<u64>, InvalidRequest> {
    let Some(text) = query_value(query, name) else {
        return Ok(None);
    };
    let (min, max) = range;
    match text.parse() {
        Ok(number) if (min..=max).contains(&number) => Ok(Some(number)),
        _ => {
            let expected = format!("a whole number between {min} and {max}");
            Err(InvalidRequest::value(name, &expected, text))
        }
    }
}
