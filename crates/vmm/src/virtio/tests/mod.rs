//! The devices as a guest meets them: registers, rings in memory, and an event loop in a thread of its own.

mod block;
mod clone;
mod net;
mod rng;
mod transport;
mod vsock;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::driver::{Driver, Loop, Used};
use super::{OwnFiles, VirtioDevice, fuzz};

/// A driver whose device is up and served by a thread.
struct Guest {
    driver: Driver,
    stop: Arc<AtomicBool>,
    server: Option<JoinHandle<()>>,
}

impl Guest {
    fn start(device: impl VirtioDevice + 'static) -> Self {
        let (mut driver, events) = Driver::new(Box::new(device));
        let stop = Arc::new(AtomicBool::new(false));
        let server = Some(serve(events, Arc::clone(&stop)));
        driver.start();
        Self { driver, stop, server }
    }

    /// The device goes on as that of a clone.
    fn become_clone(&mut self, mut files: OwnFiles) {
        self.stop_serving();
        let events = self.driver.become_clone(&mut files);
        self.stop = Arc::new(AtomicBool::new(false));
        self.server = Some(serve(events, Arc::clone(&self.stop)));
    }

    fn stop_serving(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(server) = self.server.take() {
            server.join().unwrap();
        }
    }

    /// The next chain given back, which must come soon.
    #[track_caller]
    fn wait_used(&mut self, queue: usize) -> Used {
        wait_for("a used buffer", || self.driver.poll(queue))
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.stop_serving();
    }
}

fn serve(mut events: Loop, stop: Arc<AtomicBool>) -> JoinHandle<()> {
    thread::spawn(move || {
        while !stop.load(Ordering::SeqCst) {
            events.run_with_timeout(5).unwrap();
        }
    })
}

/// Waits until `probe` finds something; a device that is silent for two minutes has failed.
#[track_caller]
fn wait_for<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited 120 s for {what}");
        thread::yield_now();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn a_hostile_driver_does_not_break_the_block_device(data in proptest::collection::vec(any::<u8>(), 0..1000)) {
        fuzz::fuzz_block(&data);
    }

    #[test]
    fn a_hostile_driver_does_not_break_the_entropy_device(data in proptest::collection::vec(any::<u8>(), 0..1000)) {
        fuzz::fuzz_rng(&data);
    }

    #[test]
    fn a_hostile_driver_and_a_hostile_wire_do_not_break_the_network_device(
        data in proptest::collection::vec(any::<u8>(), 0..1500),
    ) {
        fuzz::fuzz_net(&data);
    }

    #[test]
    fn a_hostile_driver_does_not_break_the_socket_device(data in proptest::collection::vec(any::<u8>(), 0..1000)) {
        fuzz::fuzz_vsock(&data);
    }
}
