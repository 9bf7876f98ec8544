//! The standard variables of OpenTelemetry, as far as they are decided here; the SDK reads the rest
//! (`OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_TRACES_SAMPLER`, `OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_BSP_*`,
//! `OTEL_BLRP_*`).

use std::time::Duration;

use thiserror::Error;

/// The standard's own default.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The only protocol that is built in.
const PROTOCOL: &str = "http/protobuf";

/// Where to send what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtlpSettings {
    /// Whole URL for traces, when they are wanted.
    pub traces: Option<String>,
    /// The same for logs.
    pub logs: Option<String>,
    pub timeout: Duration,
}

#[derive(Debug, Error, PartialEq, Eq)]
pub enum OtlpConfigError {
    #[error(
        "{variable}: expected a URL that begins with http://, got {value:?}; for TLS run a collector on this host, which \
         sends on"
    )]
    Url { variable: String, value: String },
    #[error("{variable}: only {PROTOCOL} is built in, got {value:?}; collectors listen for it on port 4318")]
    Protocol { variable: String, value: String },
    #[error("OTEL_EXPORTER_OTLP_TIMEOUT: expected a whole number of milliseconds, got {0:?}")]
    Timeout(String),
}

impl OtlpSettings {
    /// `None` when no collector is named, which is the rule.
    ///
    /// # Errors
    /// A variable is set to what cannot be done.
    pub fn from_variables(
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Self>, OtlpConfigError> {
        let variable = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        if variable("OTEL_SDK_DISABLED").is_some_and(|value| value.trim().eq_ignore_ascii_case("true")) {
            return Ok(None);
        }
        let url = |signal: &str, path: &str| -> Result<Option<String>, OtlpConfigError> {
            if variable(&format!("OTEL_{signal}_EXPORTER")).is_some_and(|value| value.trim() == "none") {
                return Ok(None);
            }
            let own = format!("OTEL_EXPORTER_OTLP_{signal}_ENDPOINT");
            let common = "OTEL_EXPORTER_OTLP_ENDPOINT".to_owned();
            let found = variable(&own)
                .map(|value| (own, value.clone(), value))
                .or_else(|| {
                    let value = variable(&common)?;
                    let whole = format!("{}/{path}", value.trim().trim_end_matches('/'));
                    Some((common, value, whole))
                });
            let Some((name, value, whole)) = found else {
                return Ok(None);
            };
            let protocols = [
                format!("OTEL_EXPORTER_OTLP_{signal}_PROTOCOL"),
                "OTEL_EXPORTER_OTLP_PROTOCOL".to_owned(),
            ];
            for name in protocols {
                match variable(&name) {
                    Some(value) if value.trim() == PROTOCOL => break,
                    Some(value) => {
                        return Err(OtlpConfigError::Protocol {
                            variable: name,
                            value,
                        });
                    }
                    None => {}
                }
            }
            let rest = whole.trim().strip_prefix("http://").unwrap_or_default();
            if rest.is_empty() || rest.starts_with('/') || rest.contains(char::is_whitespace) {
                return Err(OtlpConfigError::Url {
                    variable: name,
                    value,
                });
            }
            Ok(Some(whole.trim().to_owned()))
        };
        let settings = Self {
            traces: url("TRACES", "v1/traces")?,
            logs: url("LOGS", "v1/logs")?,
            timeout: match variable("OTEL_EXPORTER_OTLP_TIMEOUT") {
                None => TIMEOUT,
                Some(text) => match text.trim().parse() {
                    Ok(milliseconds) => Duration::from_millis(milliseconds),
                    Err(_) => return Err(OtlpConfigError::Timeout(text)),
                },
            },
        };
        Ok((settings.traces.is_some() || settings.logs.is_some()).then_some(settings))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Option<OtlpSettings>, OtlpConfigError> {
        OtlpSettings::from_variables(|name| {
            let found = pairs.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn nothing_is_sent_unless_a_collector_is_named() {
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(read(&[("OTEL_EXPORTER_OTLP_ENDPOINT", " ")]), Ok(None));
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318/");
        assert_eq!(read(&[endpoint, ("OTEL_SDK_DISABLED", "true")]), Ok(None));
        let both = read(&[endpoint, ("OTEL_EXPORTER_OTLP_TIMEOUT", "250")])
            .unwrap()
            .unwrap();
        let expected = OtlpSettings {
            traces: Some("http://collector:4318/v1/traces".to_owned()),
            logs: Some("http://collector:4318/v1/logs".to_owned()),
            timeout: Duration::from_millis(250),
        };
        assert_eq!(both, expected);
        let one = read(&[
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://x/traces"),
            ("OTEL_LOGS_EXPORTER", "none"),
            endpoint,
        ]);
        let one = one.unwrap().unwrap();
        assert_eq!((one.traces.as_deref(), one.logs), (Some("http://x/traces"), None));
    }

    #[test]
    fn what_cannot_be_done_is_said_with_the_variable_and_a_way_out() {
        for (pairs, text) in [
            (
                vec![("OTEL_EXPORTER_OTLP_ENDPOINT", "https://collector")],
                "OTEL_EXPORTER_OTLP_ENDPOINT: expected a URL that begins with http://",
            ),
            (
                vec![
                    ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4317"),
                    ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
                ],
                "OTEL_EXPORTER_OTLP_PROTOCOL: only http/protobuf",
            ),
            (
                vec![
                    ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c"),
                    ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon"),
                ],
                "OTEL_EXPORTER_OTLP_TIMEOUT: expected",
            ),
        ] {
            let error = read(&pairs).unwrap_err().to_string();
            assert!(error.starts_with(text), "{error}");
        }
    }
}
