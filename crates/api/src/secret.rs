//! Secrets that sandboxes use without having them.

use egress::NameRule;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::fields::{Fields, InvalidRequest};

/// Most secrets of a tenant, and of a sandbox.
pub const SECRETS_MAX: usize = 64;

/// As it stands in paths and in `secrets` of a creation.
pub(crate) const SECRET_NAME_PATTERN: &str = "^[A-Za-z0-9._-]{1,64}$";
/// What goes into a header has to be ASCII.
pub(crate) const SECRET_VALUE_PATTERN: &str = "^[ -~]{1,8192}$";
/// One that is met by chance would put the secret where it does not belong.
pub(crate) const PLACEHOLDER_PATTERN: &str = "^[!-~]{8,256}$";

const NAME: &str = "a name of 1 to 64 letters, digits, dots, dashes and underscores";
const NAME_LEN_MAX: usize = 64;
const VALUE_LEN_MAX: usize = 8192;
const PLACEHOLDER_LEN_MIN: usize = 8;
const PLACEHOLDER_LEN_MAX: usize = 256;
const HOSTS_MAX: usize = 32;
const HOST_CHARS_MAX: usize = 300;

/// `PUT /v1/secrets/{secret}`, the request.
#[derive(Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct SecretRequest {
    /// What nobody is shown again: printable ASCII.
    #[schemars(extend("pattern" = SECRET_VALUE_PATTERN))]
    pub value: String,
    /// Names it is for, and no others: `api.example.com`, `*.example.org`, each with a port or for all of them.
    #[schemars(with = "Vec<String>", length(min = 1, max = HOSTS_MAX), inner(length(min = 1, max = HOST_CHARS_MAX)))]
    pub hosts: Vec<NameRule>,
    /// What stands for it in sandboxes; what it was before, or else one that is made up, when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("pattern" = PLACEHOLDER_PATTERN))]
    pub placeholder: Option<String>,
}

/// What is told of a secret, which is not its value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SecretInfo {
    pub name: String,
    /// What programs in sandboxes send in its place.
    pub placeholder: String,
    pub hosts: Vec<String>,
    /// Milliseconds since the Unix epoch.
    pub created_at_ms: u64,
    pub changed_at_ms: u64,
}

/// Answer to `GET /v1/secrets`, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SecretList {
    pub secrets: Vec<SecretInfo>,
}

impl std::fmt::Debug for SecretRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SecretRequest")
            .field("hosts", &self.hosts)
            .finish_non_exhaustive()
    }
}

impl SecretRequest {
    /// Validates a body.
    ///
    /// # Errors
    /// Names the field and what was expected there, and never what came for the value.
    pub fn parse(body: &[u8]) -> Result<Self, InvalidRequest> {
        let mut fields = Fields::parse(body)?;
        Ok(Self {
            value: value(&mut fields)?,
            hosts: hosts(&mut fields)?,
            placeholder: placeholder(&mut fields)?,
        })
    }
}

impl SecretInfo {
    /// A name that is in a path.
    ///
    /// # Errors
    /// No secret can be called that.
    pub fn parse_name(name: &str) -> Result<&str, InvalidRequest> {
        if is_secret_name(name) {
            Ok(name)
        } else {
            Err(InvalidRequest::value("the secret", NAME, name))
        }
    }
}

fn is_secret_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=NAME_LEN_MAX).contains(&name.len()) && name.bytes().all(plain)
}

/// The secrets that a sandbox is created with: sorted, each once.
pub(crate) fn names(fields: &mut Fields) -> Result<Vec<String>, InvalidRequest> {
    let expected = || format!("a list of at most {SECRETS_MAX} names of secrets");
    let items = match fields.take("secrets") {
        None => return Ok(Vec::new()),
        Some(Value::Array(items)) if items.len() <= SECRETS_MAX => items,
        Some(other) => return Err(InvalidRequest::json("secrets", &expected(), &other)),
    };
    let one = |item: &Value| match item {
        Value::String(name) if is_secret_name(name) => Ok(name.clone()),
        _ => Err(InvalidRequest::json("secrets", NAME, item)),
    };
    let mut names: Vec<String> = items.iter().map(one).collect::<Result<_, _>>()?;
    names.sort_unstable();
    names.dedup();
    Ok(names)
}

fn value(fields: &mut Fields) -> Result<String, InvalidRequest> {
    let expected = || format!("1 to {VALUE_LEN_MAX} characters of printable ASCII");
    let fits = |text: &str| {
        (1..=VALUE_LEN_MAX).contains(&text.len()) && text.bytes().all(|byte| (b' '..=b'~').contains(&byte))
    };
    match fields.take("value") {
        Some(Value::String(text)) if fits(&text) => Ok(text),
        None => Err(InvalidRequest::Missing {
            field: "value",
            expected: expected(),
        }),
        // It may be the secret but for a line's end, so it is not quoted.
        Some(_) => Err(InvalidRequest::Meaning {
            field: "value",
            problem: format!("expected {}", expected()),
        }),
    }
}

fn hosts(fields: &mut Fields) -> Result<Vec<NameRule>, InvalidRequest> {
    let expected = || format!("a list of 1 to {HOSTS_MAX} names like api.example.com");
    let items = match fields.take("hosts") {
        Some(Value::Array(items)) if (1..=HOSTS_MAX).contains(&items.len()) => items,
        None => {
            return Err(InvalidRequest::Missing {
                field: "hosts",
                expected: expected(),
            });
        }
        Some(other) => return Err(InvalidRequest::json("hosts", &expected(), &other)),
    };
    let one = |item: &Value| match item.as_str() {
        Some(text) => text
            .parse()
            .map_err(|problem: egress::InvalidRule| InvalidRequest::Meaning {
                field: "hosts",
                problem: problem.to_string(),
            }),
        None => Err(InvalidRequest::json("hosts", &expected(), item)),
    };
    items.iter().map(one).collect()
}

fn placeholder(fields: &mut Fields) -> Result<Option<String>, InvalidRequest> {
    let expected =
        format!("{PLACEHOLDER_LEN_MIN} to {PLACEHOLDER_LEN_MAX} characters of ASCII without white space");
    let fits = |text: &str| {
        (PLACEHOLDER_LEN_MIN..=PLACEHOLDER_LEN_MAX).contains(&text.len())
            && text.bytes().all(|byte| (b'!'..=b'~').contains(&byte))
    };
    match fields.text("placeholder", &expected)? {
        Some(text) if !fits(&text) => Err(InvalidRequest::value("placeholder", &expected, &text)),
        text => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_never_quoted_and_hosts_are_names() {
        let refusal = |body: &str| SecretRequest::parse(body.as_bytes()).unwrap_err().to_string();
        let text = refusal(r#"{"value":"hunter2\n","hosts":["a.example"]}"#);
        assert!(text.starts_with("value: expected 1 to 8192"), "{text}");
        assert!(!text.contains("hunter2"));
        let text = refusal(r#"{"value":"hunter2","hosts":["10.0.0.1"]}"#);
        assert!(text.starts_with("hosts: the rule \"10.0.0.1\""), "{text}");
        assert!(refusal(r#"{"value":"hunter2","hosts":[]}"#).starts_with("hosts: expected a list of 1 to"));
        let request = br#"{"value":"hunter2","hosts":["A.example"],"placeholder":"@@TOKEN@@"}"#;
        let request = SecretRequest::parse(request).unwrap();
        assert!(!format!("{request:?}").contains("hunter2"));
        let wire = serde_json::to_vec(&request).unwrap();
        assert_eq!(SecretRequest::parse(&wire).unwrap(), request);
    }
}
