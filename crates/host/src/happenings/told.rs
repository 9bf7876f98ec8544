//! One happening, with all that can be said of it later.

use pod_types::SandboxId;

use super::Happening;
use crate::auth::Tenant;
use crate::clock;
use crate::sandbox::Sandbox;

#[derive(Clone, Debug)]
#[allow(dead_code, reason = "read by listeners")]
pub(crate) struct Told {
    pub(crate) at_ms: u64,
    pub(crate) tenant: Tenant,
    pub(crate) sandbox: SandboxId,
    pub(crate) happening: Happening,
}

impl Told {
    pub(super) fn now(id: SandboxId, sandbox: &Sandbox, happening: Happening) -> Self {
        Self {
            at_ms: clock::now_ms(),
            tenant: sandbox.tenant,
            sandbox: id,
            happening,
        }
    }
}
