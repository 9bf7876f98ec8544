//! What has gone over the network of sandboxes.

use api::SandboxNetwork;

use super::Host;
use crate::sandbox::Sandbox;

impl Host {
    /// Nothing when the network process does not answer, or has not been told of the sandbox yet.
    pub(crate) async fn network_of(&self, sandbox: &Sandbox) -> Option<SandboxNetwork> {
        if !self.network.wires.is_up() {
            return None;
        }
        let stats = self.network.questions.stats(Some(sandbox.wire.id())).await.ok()?;
        let counters = stats.wires.first()?.counters;
        Some(SandboxNetwork {
            sent_bytes: counters.bytes_up,
            received_bytes: counters.bytes_down,
            flows: counters.tcp_open + counters.udp_open,
            denied: counters.denied,
        })
    }
}
