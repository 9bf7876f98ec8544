//! Frames through whatever happens to a machine: each comes whole, once and in order.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use net_proto::FRAME_BYTES_MAX;
use proptest::prelude::*;
use rustix::net::{SendFlags, send};

use super::{HEADER_BYTES, Machine, RX, TX, frame};
use crate::virtio::driver::QUEUE_SIZE;

#[derive(Clone, Debug)]
enum Step {
    Transmit { lens: Vec<usize>, told: bool },
    Receive { len: usize },
    Offer { lens: Vec<usize> },
    Read,
    Clone,
    Restore,
    Rewire,
    Wait,
}

fn step() -> impl Strategy<Value = Step> {
    let len = || prop_oneof![14..200_usize, 14..=FRAME_BYTES_MAX];
    let buffers = proptest::collection::vec(12..6000_usize, 1..6);
    prop_oneof![
        4 => (proptest::collection::vec(len(), 1..4), any::<bool>())
            .prop_map(|(lens, told)| Step::Transmit { lens, told }),
        4 => len().prop_map(|len| Step::Receive { len }),
        4 => buffers.prop_map(|lens| Step::Offer { lens }),
        4 => Just(Step::Read),
        1 => Just(Step::Clone),
        1 => Just(Step::Restore),
        1 => Just(Step::Rewire),
        2 => Just(Step::Wait),
    ]
}

/// Frames of one direction that must come, in order.
#[derive(Default)]
struct Expected {
    frames: VecDeque<Vec<u8>>,
}

impl Expected {
    fn came(&mut self, frame: &[u8]) {
        let expected = self.frames.pop_front();
        assert!(
            expected.is_some_and(|expected| expected == frame),
            "another frame"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    /// The driver's frames reach whatever wire there is, and those of one wire the driver, each whole and in order,
    /// however they are cut up and whatever happens to the machine in between.
    #[test]
    fn frames_come_whole_and_in_order_through_clones_and_snapshots(
        steps in proptest::collection::vec(step(), 1..60),
    ) {
        let mut machine = Machine::new();
        let (mut out, mut inward) = (Expected::default(), Expected::default());
        let (mut seed, mut rx_free, mut tx_free) = (0_u8, QUEUE_SIZE, QUEUE_SIZE);
        for step in steps {
            seed = seed.wrapping_add(1);
            match step {
                Step::Transmit { lens, told } => {
                    for len in lens {
                        if tx_free >= 2 {
                            tx_free -= 2;
                            out.frames.push_back(frame(len, seed));
                            machine.put(&frame(len, seed), HEADER_BYTES + usize::from(seed));
                        }
                    }
                    if told {
                        machine.driver.notify(TX);
                    }
                    machine.serve();
                }
                Step::Receive { len } => {
                    if send(&machine.end, &frame(len, seed), SendFlags::DONTWAIT).is_ok() {
                        inward.frames.push_back(frame(len, seed));
                    }
                    machine.serve();
                }
                Step::Offer { lens } => {
                    for len in lens {
                        if rx_free > 0 {
                            rx_free -= 1;
                            machine.place_rx(len);
                        }
                    }
                    machine.driver.notify(RX);
                    machine.serve();
                }
                Step::Read => {
                    while let Some(taken) = machine.taken() {
                        out.came(&taken);
                        machine.serve();
                    }
                    drain(&mut machine, &mut inward, &mut rx_free);
                }
                Step::Clone | Step::Restore | Step::Rewire => {
                    // What was on the old wire, in either direction, is gone, and what the guest has is the guest's.
                    drain(&mut machine, &mut inward, &mut rx_free);
                    machine.driver.notify(TX);
                    machine.serve();
                    while let Some(taken) = machine.taken() {
                        out.came(&taken);
                        machine.serve();
                    }
                    prop_assert!(out.frames.is_empty());
                    inward.frames.clear();
                    match step {
                        Step::Clone => machine.become_clone(),
                        Step::Restore => {
                            machine.restore();
                            machine.rewire();
                        }
                        _ => machine.rewire(),
                    }
                }
                Step::Wait => {
                    let soon = Instant::now() + Duration::from_secs(1);
                    machine.driver.device.look(soon);
                    machine.serve();
                }
            }
            while machine.driver.poll(TX).is_some() {
                tx_free += 2;
            }
        }
    }
}

fn drain(machine: &mut Machine, inward: &mut Expected, rx_free: &mut u16) {
    loop {
        let before = machine.driver.used(RX);
        let Some(received) = machine.received() else {
            break;
        };
        *rx_free += machine.driver.used(RX).wrapping_sub(before);
        inward.came(&received);
        machine.serve();
    }
}
