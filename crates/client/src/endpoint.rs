//! Where a host is and with which key it is called.
//!
//! The same environment variables as the official Python client are read, so a shell set up for one works for the
//! other. What is said on the command line wins over the environment, and both win over the host that happens to
//! run on this machine.

use std::fmt;

use thiserror::Error;
use ureq::http::Uri;

/// Where a host listens unless told otherwise.
pub const DEFAULT_URL: &str = "http://127.0.0.1:7070";

/// Variables that name the base URL, strongest first.
const URL_VARIABLES: [&str; 2] = ["PODFLARE_API_URL", "PODFLARE_HOSTD_URL"];

/// Variable that holds the API key.
const KEY_VARIABLE: &str = "PODFLARE_API_KEY";

/// A base URL without trailing slash, and the key to send with every request.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    url: String,
    key: Option<String>,
}

/// What an endpoint is made of, strongest first: arguments, environment, the local host.
#[derive(Clone, Debug, Default)]
pub struct EndpointSources {
    /// Base URL given by the caller.
    pub url: Option<String>,
    /// API key given by the caller.
    pub key: Option<String>,
    /// URL of the host that runs on this machine, when one does.
    pub local_url: Option<String>,
}

/// Why a text cannot be a host's address.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum EndpointError {
    #[error("`{url}` is not a URL like {DEFAULT_URL}")]
    Malformed { url: String },
    #[error("`{url}` is not reached over plain HTTP, the only protocol this client speaks")]
    Scheme { url: String },
    #[error("the API key has characters that no HTTP header can carry")]
    Key,
}

/// Whether the environment names a host. `variable` looks a name up in it.
pub fn names_a_host(variable: impl Fn(&str) -> Option<String>) -> bool {
    url_variable(&variable).is_some()
}

impl Endpoint {
    /// Checks a base URL (a path prefix such as `/r/eu` is kept) and a key.
    ///
    /// # Errors
    /// [`EndpointError`] says what is wrong with either.
    pub fn new(url: &str, key: Option<String>) -> Result<Self, EndpointError> {
        let url = url.trim().trim_end_matches('/');
        let parsed: Uri = url.parse().map_err(|_| malformed(url))?;
        match parsed.scheme_str() {
            Some("http")
                if parsed.host().is_some_and(|host| !host.is_empty()) && parsed.query().is_none() => {}
            Some("http") | None => return Err(malformed(url)),
            Some(_) => return Err(EndpointError::Scheme { url: url.to_owned() }),
        }
        let key = key.filter(|key| !key.is_empty());
        if key
            .as_deref()
            .is_some_and(|key| !key.bytes().all(|byte| byte.is_ascii_graphic()))
        {
            return Err(EndpointError::Key);
        }
        Ok(Self {
            url: url.to_owned(),
            key,
        })
    }

    /// Chooses among the sources. `variable` looks a name up in the environment; an empty value counts as unset.
    ///
    /// # Errors
    /// [`EndpointError`] when the strongest URL or key is malformed; a weaker one is not tried instead.
    pub fn resolve(
        sources: EndpointSources,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, EndpointError> {
        let url = sources
            .url
            .or_else(|| url_variable(&variable))
            .or(sources.local_url)
            .unwrap_or_else(|| DEFAULT_URL.to_owned());
        Self::new(&url, sources.key.or_else(|| non_empty(variable(KEY_VARIABLE))))
    }

    /// The base URL, without a trailing slash.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }
}

/// Shows that there is a key, never the key: endpoints end up in logs.
impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = self.key.as_ref().map(|_| "(set)");
        f.debug_struct("Endpoint")
            .field("url", &self.url)
            .field("key", &key)
            .finish()
    }
}

fn url_variable(variable: &impl Fn(&str) -> Option<String>) -> Option<String> {
    URL_VARIABLES.iter().find_map(|name| non_empty(variable(name)))
}

fn non_empty(value: Option<String>) -> Option<String> {
    value.filter(|value| !value.trim().is_empty())
}

fn malformed(url: &str) -> EndpointError {
    EndpointError::Malformed { url: url.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> impl Fn(&str) -> Option<String> {
        let pairs: Vec<_> = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        move |wanted| {
            pairs
                .iter()
                .find(|(name, _)| name == wanted)
                .map(|(_, value)| value.clone())
        }
    }

    #[test]
    fn arguments_win_over_the_environment_and_both_over_the_local_host() {
        let local = || EndpointSources {
            local_url: Some("http://127.0.0.1:9".into()),
            ..Default::default()
        };
        let both = environment(&[
            ("PODFLARE_API_URL", "http://a:1"),
            ("PODFLARE_HOSTD_URL", "http://b:2"),
        ]);
        let older = environment(&[("PODFLARE_API_URL", " "), ("PODFLARE_HOSTD_URL", "http://b:2/")]);
        let url = |sources, variable: &dyn Fn(&str) -> Option<String>| {
            Endpoint::resolve(sources, variable).unwrap().url().to_owned()
        };

        assert_eq!(
            url(
                EndpointSources {
                    url: Some("http://c:3".into()),
                    ..local()
                },
                &both
            ),
            "http://c:3"
        );
        assert_eq!(url(local(), &both), "http://a:1");
        assert_eq!(url(local(), &older), "http://b:2");
        assert_eq!(url(local(), &environment(&[])), "http://127.0.0.1:9");
        assert_eq!(url(EndpointSources::default(), &environment(&[])), DEFAULT_URL);
    }

    #[test]
    fn a_path_prefix_stays_and_trailing_slashes_go() {
        assert_eq!(
            Endpoint::new("http://edge/r/lab//", None).unwrap().url(),
            "http://edge/r/lab"
        );
    }

    #[test]
    fn what_is_no_plain_http_url_is_refused_with_the_reason() {
        for url in ["", "7070", "localhost:7070", "/v1", "http://", "http://a?b=c"] {
            assert_eq!(
                Endpoint::new(url, None),
                Err(malformed(url.trim_end_matches('/'))),
                "{url}"
            );
        }
        assert_eq!(
            Endpoint::new("https://example.com", None),
            Err(EndpointError::Scheme {
                url: "https://example.com".into()
            })
        );
        assert_eq!(
            Endpoint::new(DEFAULT_URL, Some("a\nb".into())),
            Err(EndpointError::Key)
        );
    }

    #[test]
    fn the_key_is_not_printed() {
        let endpoint = Endpoint::new(DEFAULT_URL, Some("pf_live_secret".into())).unwrap();
        assert!(!format!("{endpoint:?}").contains("secret"));
    }
}
