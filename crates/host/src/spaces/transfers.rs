//! How many spaces come and go at once. Each transfer holds a thread for as long as its client takes.

use std::sync::{Arc, PoisonError};

use thiserror::Error;

use super::Spaces;
use crate::auth::Tenant;

/// Of one tenant. A second import would not know how much of the quota the first is going to take.
const EXPORTS: usize = 4;
const IMPORTS: usize = 1;
/// Of all tenants together.
const ALL: usize = 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Export,
    Import,
}

/// Dropping it lets another one begin.
#[derive(Debug)]
pub(crate) struct Transfer {
    spaces: Arc<Spaces>,
    what: (Tenant, Direction),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum TooMany {
    #[error("another import of this tenant is in progress")]
    Imports,
    #[error("{EXPORTS} exports of this tenant are in progress")]
    Exports,
    #[error("{ALL} spaces are being imported or exported on this host")]
    All,
}

impl Transfer {
    pub(crate) fn export(spaces: &Arc<Spaces>, tenant: Tenant) -> Result<Self, TooMany> {
        Self::begin(spaces, (tenant, Direction::Export), (EXPORTS, TooMany::Exports))
    }

    pub(crate) fn import(spaces: &Arc<Spaces>, tenant: Tenant) -> Result<Self, TooMany> {
        Self::begin(spaces, (tenant, Direction::Import), (IMPORTS, TooMany::Imports))
    }

    fn begin(
        spaces: &Arc<Spaces>,
        what: (Tenant, Direction),
        (most, refused): (usize, TooMany),
    ) -> Result<Self, TooMany> {
        let mut transfers = spaces.transfers.lock().unwrap_or_else(PoisonError::into_inner);
        if transfers.iter().filter(|of| **of == what).count() >= most {
            return Err(refused);
        }
        if transfers.len() >= ALL {
            return Err(TooMany::All);
        }
        transfers.push(what);
        drop(transfers);
        Ok(Self {
            spaces: Arc::clone(spaces),
            what,
        })
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        let transfers = &self.spaces.transfers;
        let mut transfers = transfers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = transfers.iter().position(|of| *of == self.what) {
            transfers.swap_remove(at);
        }
    }
}
