//! How many attempts one receiver gets at the same time, whoever's webhooks they are.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

const PER_RECEIVER: usize = 16;

/// Receivers that nobody sends to are forgotten when there are more than this.
const SWEEP_AT: usize = 256;

/// By host and port.
#[derive(Debug, Default)]
pub(super) struct Gates(Mutex<HashMap<String, Weak<Semaphore>>>);

/// Leave to send, until it is dropped.
#[derive(Debug)]
pub(super) struct Pass {
    _permit: Option<OwnedSemaphorePermit>,
}

impl Gates {
    pub(super) async fn enter(&self, receiver: &str) -> Pass {
        let gate = self.gate(receiver);
        Pass {
            // It is never closed.
            _permit: gate.acquire_owned().await.ok(),
        }
    }

    fn gate(&self, receiver: &str) -> Arc<Semaphore> {
        let mut gates = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(gate) = gates.get(receiver).and_then(Weak::upgrade) {
            return gate;
        }
        if gates.len() >= SWEEP_AT {
            gates.retain(|_, gate| gate.strong_count() > 0);
        }
        let gate = Arc::new(Semaphore::new(PER_RECEIVER));
        gates.insert(receiver.to_owned(), Arc::downgrade(&gate));
        gate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_receiver_has_so_many_places_and_another_its_own() {
        let gates = Gates::default();
        let mut passes = Vec::new();
        for _ in 0..PER_RECEIVER {
            passes.push(gates.enter("a:443").await);
        }
        assert_eq!(gates.gate("a:443").available_permits(), 0);
        drop(gates.enter("b:443").await);
        passes.pop();
        assert_eq!(gates.gate("a:443").available_permits(), 1);
    }
}
