//! Wires that end, are replaced, or have nobody to take what they bring.

use rustix::net::{RecvFlags, recv};
use virtio_bindings::virtio_mmio::{VIRTIO_MMIO_QUEUE_READY, VIRTIO_MMIO_QUEUE_SEL};

use super::{HEADER_BYTES, Machine, RX, TX, files, frame, give, read, take};
use crate::virtio::driver::QUEUE_SIZE;
use crate::virtio::net::pair;
use crate::virtio::tests::wait_for;

#[test]
fn a_wire_whose_other_end_is_gone_takes_everything_and_can_be_replaced() {
    let mut machine = Machine::new();
    machine.end = pair().unwrap().1;
    machine.serve();
    machine.offer(2000);
    for _ in 0..20 {
        machine.transmit(&frame(9000, 1));
        while machine.driver.poll(TX).is_some() {}
    }
    assert_eq!(read(&machine.counters.tx_dropped), 20);
    machine.rewire();
    machine.transmit(&frame(60, 2));
    assert!(machine.taken().unwrap() == frame(60, 2));
    give(&machine.end, &frame(60, 3));
    machine.serve();
    assert!(machine.received().unwrap() == frame(60, 3));
}

#[test]
fn a_full_wire_that_ends_lets_the_guest_go_on() {
    let mut machine = Machine::new();
    for _ in 0..QUEUE_SIZE / 2 {
        machine.put(&frame(12_000, 1), HEADER_BYTES);
    }
    machine.driver.notify(TX);
    machine.serve();
    let sent = read(&machine.counters.tx_packets);
    assert!(sent < u64::from(QUEUE_SIZE / 2), "the wire never got full");
    machine.end = pair().unwrap().1;
    machine.serve();
    assert_eq!(
        sent + read(&machine.counters.tx_dropped),
        u64::from(QUEUE_SIZE / 2)
    );
}

#[test]
fn a_clone_has_its_own_wire_and_no_frame_of_its_parents() {
    let mut machine = Machine::new();
    give(&machine.end, &frame(3000, 1));
    machine.offer(1000);
    let parents = std::mem::replace(&mut machine.end, pair().unwrap().1);
    machine.become_clone();
    machine.transmit(&frame(60, 2));
    assert!(machine.taken().unwrap() == frame(60, 2));
    assert_eq!(take(&parents), None);
    give(&machine.end, &frame(500, 3));
    machine.serve();
    assert!(machine.received().unwrap() == frame(500, 3));
}

#[test]
fn a_wire_that_was_to_be_used_is_not_the_clones() {
    let mut machine = Machine::new();
    let (wire, end) = pair().unwrap();
    machine.driver.device.replace(&mut files(wire));
    machine.become_clone();
    machine.transmit(&frame(60, 1));
    assert!(machine.taken().is_some());
    assert!(matches!(
        recv(&end, &mut [0; 10][..], RecvFlags::DONTWAIT),
        Ok((_, 0))
    ));
}

#[test]
fn a_queue_that_the_driver_takes_away_keeps_nobody_busy() {
    let mut machine = Machine::new();
    machine.transmit(&frame(60, 1));
    assert!(machine.driver.device.due().is_some());
    for queue in [RX, TX] {
        machine
            .driver
            .set(VIRTIO_MMIO_QUEUE_SEL, u32::try_from(queue).unwrap());
        machine.driver.set(VIRTIO_MMIO_QUEUE_READY, 0);
    }
    give(&machine.end, &frame(60, 2));
    let idle = (0..20).any(|_| machine.events.run_with_timeout(0).unwrap() == 0);
    assert!(idle, "the wire is told of for ever");
    wait_for("an end of it", || {
        machine.driver.device.look(std::time::Instant::now());
        machine.events.run_with_timeout(0).unwrap();
        machine.driver.device.due().is_none().then_some(())
    });
}

#[test]
fn a_wire_is_left_alone_while_no_driver_is_there() {
    let mut machine = Machine::new();
    machine.driver.set_status(0);
    give(&machine.end, &frame(60, 1));
    machine.serve();
    assert_eq!(machine.events.run_with_timeout(0).unwrap(), 0, "nothing spins");
    machine.driver.start();
    machine.rx_next = 0;
    machine.offer(2000);
    assert!(machine.received().unwrap() == frame(60, 1));
}
