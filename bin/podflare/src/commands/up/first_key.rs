//! The first key of a new host.

use api::NewKeyRequest;
use client::{Client, ClientError, Endpoint};

use crate::context::Context;
use crate::operator;
use crate::settings::Directories;

/// The tenant of calls without a key.
const DEFAULT_TENANT: &str = "default";

/// Makes a key for the tenant `default` unless it ever had one. A host without one works all the same, so a failure is
/// only said.
pub(super) fn make(context: &Context, directories: &Directories, url: &str) -> Option<String> {
    let token = operator::read(directories).ok()??;
    let client = Client::new(Endpoint::new(url, Some(token)).ok()?);
    match first(&client) {
        Ok(key) => key,
        Err(error) => {
            context.printer.warn(&format!(
                "no first API key was made ({error}); `podflare key create` makes one"
            ));
            None
        }
    }
}

fn first(client: &Client) -> Result<Option<String>, ClientError> {
    if client.keys()?.iter().any(|key| key.tenant == DEFAULT_TENANT) {
        return Ok(None);
    }
    let request = NewKeyRequest {
        tenant: None,
        name: Some("first".to_owned()),
    };
    Ok(Some(client.create_key(&request)?.key))
}
