//! What the image's template asks of the agent.

use std::fs;
use std::io;

use serde::Deserialize;
use thiserror::Error;

/// Optional; `{"imports": ["pandas as pd", "numpy"]}`.
const PATH: &str = "/etc/podflare/template.json";

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Template {
    /// Imported into the REPL before it is ready, each as it would follow `import`.
    #[serde(default)]
    imports: Vec<String>,
}

#[derive(Debug, Error)]
pub(crate) enum TemplateError {
    #[error("cannot read {PATH}")]
    Read(#[source] io::Error),
    #[error("{PATH} is not what it should be")]
    Parse(#[source] serde_json::Error),
}

pub(crate) fn imports() -> Result<Vec<String>, TemplateError> {
    match fs::read(PATH) {
        Ok(text) => parse(&text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(TemplateError::Read(error)),
    }
}

fn parse(text: &[u8]) -> Result<Vec<String>, TemplateError> {
    let template: Template = serde_json::from_slice(text).map_err(TemplateError::Parse)?;
    Ok(template.imports)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_template_is_refused() {
        assert_eq!(
            parse(br#"{"imports": ["numpy as np"]}"#).unwrap(),
            ["numpy as np"]
        );
        assert!(parse(b"{}").unwrap().is_empty());
        assert!(parse(br#"{"import": []}"#).is_err());
    }
}
