//! What the image's template asks of the agent.

use std::fs;
use std::io;

use serde::Deserialize;
use thiserror::Error;

/// Optional; `{"imports": ["pandas as pd", "json"], "warm_up": ["pd.DataFrame()"]}`.
const PATH: &str = "/etc/podflare/template.json";

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Template {
    /// Loaded into the REPL before it is ready, each as it would follow `import`; a name is bound only with `as`.
    #[serde(default)]
    pub(crate) imports: Vec<String>,
    /// Python statements run after that, which leave no names.
    #[serde(default)]
    pub(crate) warm_up: Vec<String>,
}

#[derive(Debug, Error)]
pub(crate) enum TemplateError {
    #[error("cannot read {PATH}")]
    Read(#[source] io::Error),
    #[error("{PATH} is not what it should be")]
    Parse(#[source] serde_json::Error),
}

pub(crate) fn read() -> Result<Template, TemplateError> {
    match fs::read(PATH) {
        Ok(text) => serde_json::from_slice(&text).map_err(TemplateError::Parse),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Template::default()),
        Err(error) => Err(TemplateError::Read(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_template_is_refused() {
        let parse = |text| serde_json::from_str::<Template>(text);
        assert_eq!(
            parse(r#"{"imports": ["numpy as np"]}"#).unwrap().imports,
            ["numpy as np"]
        );
        assert!(parse("{}").unwrap().imports.is_empty());
        assert!(parse(r#"{"import": []}"#).is_err());
    }
}
