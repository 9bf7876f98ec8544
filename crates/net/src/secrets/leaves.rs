//! How to be each name: certificates are made when first needed, and kept for a while.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use egress::Name;
use thiserror::Error;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::server::NoServerSessionStorage;
use tokio_rustls::rustls::{self, ServerConfig};

use super::ALPN;
use super::authority::Authority;

/// Names kept; beyond that the oldest is forgotten, and made again when it is needed.
const KEPT_MAX: usize = 1024;

/// Much less than a certificate is valid.
const KEPT_FOR: Duration = Duration::from_hours(24);

pub(super) struct Leaves {
    authority: Authority,
    kept: Mutex<HashMap<Name, (Instant, Arc<ServerConfig>)>>,
}

#[derive(Debug, Error)]
pub(super) enum LeafError {
    #[error("cannot sign a certificate")]
    Sign(#[source] rcgen::Error),
    #[error("cannot use a certificate")]
    Use(#[source] rustls::Error),
}

impl Leaves {
    pub(super) fn new(authority: Authority) -> Self {
        Self {
            authority,
            kept: Mutex::default(),
        }
    }

    pub(super) fn config_for(&self, name: &Name) -> Result<Arc<ServerConfig>, LeafError> {
        let now = Instant::now();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, config)) = kept.get(name)
            && now < *at + KEPT_FOR
        {
            return Ok(config.clone());
        }
        let config = Arc::new(self.make(name)?);
        if kept.len() >= KEPT_MAX
            && let Some(oldest) = kept
                .iter()
                .min_by_key(|(_, (at, _))| *at)
                .map(|(name, _)| name.clone())
        {
            kept.remove(&oldest);
        }
        kept.insert(name.clone(), (now, config.clone()));
        Ok(config)
    }

    fn make(&self, name: &Name) -> Result<ServerConfig, LeafError> {
        let leaf = self.authority.leaf(name.as_str()).map_err(LeafError::Sign)?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(LeafError::Use)?
            .with_no_client_auth()
            .with_single_cert(vec![leaf.certificate], leaf.key.into())
            .map_err(LeafError::Use)?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        // Guests of all tenants meet here: no session of one is resumed by another.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::super::authority::generate_authority;
    use super::*;

    #[test]
    fn a_name_is_signed_for_once_and_not_all_are_kept() {
        let leaves = Leaves::new(Authority::from_pem(&generate_authority().unwrap()).unwrap());
        let name = |number: usize| format!("n{number}.example").parse::<Name>().unwrap();
        let first = leaves.config_for(&name(0)).unwrap();
        assert!(Arc::ptr_eq(&first, &leaves.config_for(&name(0)).unwrap()));
        // As if many had come since.
        {
            let mut kept = leaves.kept.lock().unwrap();
            for number in 1..KEPT_MAX {
                kept.insert(name(number), (Instant::now(), first.clone()));
            }
        }
        leaves.config_for(&name(KEPT_MAX)).unwrap();
        assert_eq!(leaves.kept.lock().unwrap().len(), KEPT_MAX);
        assert!(!leaves.kept.lock().unwrap().contains_key(&name(0)));
    }
}
