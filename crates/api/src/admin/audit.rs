//! The audit log, and how the database is.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{NAME_LEN_MAX, query_number, query_value};
use crate::fields::InvalidRequest;

/// Most entries of one page.
pub const AUDIT_LIMIT_MAX: u64 = 1000;

const LIMIT_DEFAULT: u64 = 100;

/// `GET /v1/admin/audit?limit=100&before=ID&tenant=NAME&action=NAME`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditQuery {
    pub limit: u64,
    /// Only entries older than this one.
    pub before: Option<u64>,
    pub tenant: Option<String>,
    pub action: Option<String>,
}

/// A page of the audit log, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuditPage {
    pub entries: Vec<AuditEntry>,
    /// The `before` of the next page, while there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_before: Option<u64>,
}

/// Who did what, when, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuditEntry {
    pub id: u64,
    /// Milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// `tenant`, `operator` or `host`.
    pub actor: String,
    pub tenant: String,
    /// The key that it was done with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_id: Option<String>,
    /// Where the call came from. In a software host that is always its gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote: Option<String>,
    pub action: String,
    /// The sandbox, tenant or key that it was done to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// `ok`, or the code of the error.
    pub result: String,
    /// What more there is to say, such as the children of a fork.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// What a look at the whole database found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StoreReport {
    /// Whether there are no problems.
    pub ok: bool,
    /// For people, one each.
    pub problems: Vec<String>,
    /// Size of the database on the disk.
    pub bytes: u64,
}

impl AuditQuery {
    /// Validates a query.
    ///
    /// # Errors
    /// Names what is wrong with it.
    pub fn parse(query: &str) -> Result<Self, InvalidRequest> {
        let name = |name: &'static str| match query_value(query, name) {
            Some(value) if value.len() > NAME_LEN_MAX => Err(InvalidRequest::value(
                name,
                "a name of at most 64 characters",
                value,
            )),
            value => Ok(value.map(str::to_owned)),
        };
        Ok(Self {
            limit: query_number(query, "limit", (1, AUDIT_LIMIT_MAX))?.unwrap_or(LIMIT_DEFAULT),
            before: query_number(query, "before", (1, i64::MAX.unsigned_abs()))?,
            tenant: name("tenant")?,
            action: name("action")?,
        })
    }

    /// The query that says so.
    #[must_use]
    pub fn to_query(&self) -> String {
        let mut query = format!("limit={}", self.limit);
        let before = self.before.map(|id| id.to_string());
        let pairs = [
            ("before", &before),
            ("tenant", &self.tenant),
            ("action", &self.action),
        ];
        for (name, value) in pairs {
            if let Some(value) = value {
                query += &format!("&{name}={value}");
            }
        }
        query
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_as_it_is_written_and_nonsense_is_named() {
        let query = AuditQuery {
            limit: 7,
            before: Some(9),
            tenant: Some("acme".to_owned()),
            action: None,
        };
        assert_eq!(AuditQuery::parse(&query.to_query()), Ok(query));
        assert_eq!(AuditQuery::parse("").unwrap().limit, 100);
        for (wrong, field) in [
            ("limit=0", "limit"),
            ("limit=x", "limit"),
            ("before=-1", "before"),
        ] {
            let refusal = AuditQuery::parse(wrong).unwrap_err().to_string();
            assert!(refusal.starts_with(field), "{refusal}");
        }
    }
}
