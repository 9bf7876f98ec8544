//! `POST /v1/sandboxes/{id}/exec`, the request.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::fields::{Fields, InvalidRequest, Whole};

/// Longest time a run may ask for, in milliseconds: one week.
pub const TIMEOUT_MS_MAX: u64 = 7 * 24 * 3600 * 1000;

/// Code to run, and as what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ExecRequest {
    pub code: String,
    /// Python when absent.
    #[schemars(with = "Option<Language>")]
    pub language: Language,
    /// Milliseconds the run may take, counted from its start and not from its place in the queue. Without it the
    /// sandbox's life is the limit.
    #[schemars(range(min = 1, max = TIMEOUT_MS_MAX))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Language {
    /// The sandbox's one live interpreter: names persist from run to run.
    #[default]
    Python,
    /// A fresh shell per run.
    Bash,
}

impl ExecRequest {
    /// Validates a body.
    ///
    /// # Errors
    /// Names the field, what was expected there and what was found.
    pub fn parse(body: &[u8]) -> Result<Self, InvalidRequest> {
        const LANGUAGES: &str = r#""python" or "bash""#;
        let mut fields = Fields::parse(body)?;
        let code = fields
            .text("code", "a string with the code to run")?
            .ok_or_else(|| InvalidRequest::Missing {
                field: "code",
                expected: "a string with the code to run".to_owned(),
            })?;
        let language = match fields.text("language", LANGUAGES)?.as_deref() {
            None | Some("python") => Language::Python,
            Some("bash") => Language::Bash,
            Some(other) => return Err(InvalidRequest::value("language", LANGUAGES, other)),
        };
        let milliseconds = Whole {
            unit: "milliseconds",
            min: 1,
            max: TIMEOUT_MS_MAX,
        };
        Ok(Self {
            code,
            language,
            timeout_ms: fields.whole("timeout_ms", &milliseconds)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_language_is_python_unless_named() {
        let request = ExecRequest::parse(br#"{"code":"print(1)"}"#).unwrap();
        assert_eq!(request.language, Language::Python);
        let request = ExecRequest::parse(br#"{"code":"ls","language":"bash"}"#).unwrap();
        assert_eq!(request.language, Language::Bash);
    }

    #[test]
    fn an_unknown_language_and_missing_code_name_themselves() {
        let refusal = |body: &str| ExecRequest::parse(body.as_bytes()).unwrap_err().to_string();
        assert_eq!(
            refusal(r#"{"code":"1","language":"ruby"}"#),
            r#"language: expected "python" or "bash", got "ruby""#
        );
        assert_eq!(
            refusal("{}"),
            "code: required, expected a string with the code to run"
        );
        assert_eq!(
            refusal(r#"{"code":7}"#),
            "code: expected a string with the code to run, got 7"
        );
        assert_eq!(
            refusal(r#"{"code":"","timeout_ms":0}"#),
            "timeout_ms: expected a whole number of milliseconds between 1 and 604800000, got 0"
        );
    }

    proptest! {
        #[test]
        fn any_code_survives_the_wire(code: String, timeout_ms in proptest::option::of(1..=TIMEOUT_MS_MAX)) {
            let request = ExecRequest { code, language: Language::Bash, timeout_ms };
            let wire = serde_json::to_vec(&request).unwrap();
            prop_assert_eq!(ExecRequest::parse(&wire), Ok(request));
        }
    }
}
