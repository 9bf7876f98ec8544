//! One look at a host.

use std::time::Instant;

use api::{Capacity, SandboxInfo};
use client::{Client, ClientError};

#[derive(Debug)]
pub(super) struct Sample {
    pub(super) taken: Instant,
    pub(super) sandboxes: Vec<SandboxInfo>,
    pub(super) capacity: Capacity,
}

impl Sample {
    pub(super) fn take(client: &Client) -> Result<Self, ClientError> {
        let sandboxes = client.list_with_usage()?;
        // As close to the figures as can be: rates are taken from the time between two looks.
        let taken = Instant::now();
        Ok(Self {
            taken,
            sandboxes,
            capacity: client.capacity()?,
        })
    }
}
