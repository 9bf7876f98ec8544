//! Frames between a guest and its wire.

mod steps;
mod wires;

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use event_manager::{EventManager, SubscriberOps as _};
use net_proto::{FRAME_BYTES_MAX, GUEST_MAC, MTU};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send, sockopt};
use vm_memory::{Bytes as _, GuestAddress};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::super::driver::{Buffer, DATA, Driver, Loop, MEMORY_BYTES, NEEDS_RESET, QUEUE_SIZE, settle};
use super::super::net::{Net, NetCounters, pair};
use super::super::{DeviceState, MmioDevice, OwnFiles};
use super::wait_for;
use crate::memory::GuestMemory;

const RX: usize = 0;
const TX: usize = 1;
const HEADER_BYTES: usize = 12;
const MRG_RXBUF: u64 = 1 << 15;

/// Where received frames go, one place for each descriptor, and where sent ones come from.
const RX_AT: u64 = DATA;
const PLACE_BYTES: u64 = 0x8000;
const TX_AT: u64 = DATA + 0x20_0000;

struct Machine {
    driver: Driver,
    events: Loop,
    counters: Arc<NetCounters>,
    /// The host's end of the wire.
    end: OwnedFd,
    /// Where the buffer of each receive chain is, by its head.
    rx_next: u16,
    tx_next: u64,
}

impl Machine {
    /// A guest whose device is up, with a wire.
    fn new() -> Self {
        let mut machine = Self::without_driver();
        machine.driver.start();
        machine.serve();
        machine
    }

    fn without_driver() -> Self {
        let net = Net::new();
        let counters = net.counters();
        let (driver, events) = Driver::new(Box::new(net));
        let mut machine = Self {
            driver,
            events,
            counters,
            end: pair().unwrap().1,
            rx_next: 0,
            tx_next: 0,
        };
        machine.rewire();
        machine
    }

    fn rewire(&mut self) {
        let (wire, end) = pair().unwrap();
        self.end = end;
        self.driver.device.replace(&mut files(wire));
        self.serve();
    }

    fn serve(&mut self) {
        settle(&mut self.events);
    }

    /// Offers a receive buffer.
    fn offer(&mut self, len: usize) {
        self.place_rx(len);
        self.driver.notify(RX);
        self.serve();
    }

    fn place_rx(&mut self, len: usize) {
        let address = RX_AT + u64::from(self.rx_next % QUEUE_SIZE) * PLACE_BYTES;
        self.rx_next += 1;
        self.driver.place(RX, &[Buffer::writable(address, len)]);
    }

    /// The guest sends a frame, in pieces cut there.
    fn put(&mut self, frame: &[u8], cut: usize) {
        let address = TX_AT + self.tx_next % 32 * PLACE_BYTES;
        self.tx_next += 1;
        let mut bytes = vec![0; HEADER_BYTES];
        bytes.extend(frame);
        self.driver.write(address, &bytes);
        let cut = cut.min(bytes.len());
        let pieces = [
            Buffer::readable(address, cut),
            Buffer::readable(address + cut as u64, bytes.len() - cut),
        ];
        self.driver.place(TX, &pieces);
    }

    fn transmit(&mut self, frame: &[u8]) {
        self.put(frame, HEADER_BYTES);
        self.driver.notify(TX);
        self.serve();
    }

    /// What has come out of the wire.
    fn taken(&self) -> Option<Vec<u8>> {
        take(&self.end)
    }

    /// The frame the guest has received, from all its buffers.
    fn received(&mut self) -> Option<Vec<u8>> {
        let mut used = self.driver.poll(RX)?;
        let header = self.driver.read(self.place_of(used.head), HEADER_BYTES);
        let count = u16::from_le_bytes([header[10], header[11]]);
        let mut bytes = Vec::new();
        for at in 0..count {
            if at > 0 {
                used = self.driver.poll(RX).unwrap();
            }
            bytes.extend(self.driver.read(self.place_of(used.head), used.len as usize));
        }
        assert_eq!(header[0], 2, "the checksum counts as good");
        Some(bytes.split_off(HEADER_BYTES))
    }

    /// Receive chains are of one descriptor, so the head tells which it was.
    fn place_of(&self, head: u16) -> u64 {
        RX_AT + u64::from(head) * PLACE_BYTES
    }

    fn become_clone(&mut self) {
        let (wire, end) = pair().unwrap();
        self.end = end;
        self.events = EventManager::new().unwrap();
        self.events = self.driver.become_clone(&mut files(wire));
        self.serve();
    }

    /// The machine goes on from files.
    fn restore(&mut self) {
        let (transport, state) = self.driver.device.save(&tempfile::tempfile().unwrap()).unwrap();
        let DeviceState::Net(state) = state else {
            panic!("{state:?}")
        };
        let memory = GuestMemory::from_ranges(&[(GuestAddress(0), MEMORY_BYTES)]).unwrap();
        let bytes = self.driver.read(0, MEMORY_BYTES);
        memory.write_slice(&bytes, GuestAddress(0)).unwrap();
        let irq = EventFd::new(EFD_NONBLOCK).unwrap();
        let line = Box::new(irq.try_clone().unwrap());
        let device = MmioDevice::new(Box::new(Net::restore(&state)), memory.clone(), line).unwrap();
        device.restore(&transport).unwrap();
        self.events = EventManager::new().unwrap();
        self.events.add_subscriber(device.subscriber());
        self.driver = self.driver.moved_to(device, memory, irq);
        self.serve();
    }
}

fn files(wire: OwnedFd) -> OwnFiles {
    OwnFiles {
        wire: Some(wire),
        ..OwnFiles::default()
    }
}

fn take(end: &OwnedFd) -> Option<Vec<u8>> {
    let mut bytes = vec![0; 20_000];
    match recv(end, &mut bytes[..], RecvFlags::DONTWAIT) {
        Ok((_, 0)) | Err(Errno::AGAIN) => None,
        Ok((_, len)) => Some(bytes[..len].to_vec()),
        Err(error) => panic!("{error}"),
    }
}

fn give(end: &OwnedFd, frame: &[u8]) {
    send(end, frame, SendFlags::DONTWAIT).unwrap();
}

fn frame(len: usize, seed: u8) -> Vec<u8> {
    (0..len)
        .map(|at| seed.wrapping_add(u8::try_from(at % 251).unwrap()))
        .collect()
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::SeqCst)
}

#[test]
fn the_configuration_names_address_and_packet_size() {
    let machine = Machine::new();
    let mut config = [0xff; 14];
    machine.driver.device.read(0x100, &mut config);
    assert_eq!(config[..6], GUEST_MAC);
    assert_eq!(u16::from_le_bytes([config[10], config[11]]), MTU);
    assert_eq!(config[12..], [0, 0]);
}

#[test]
fn frames_go_out_whole_and_in_order() {
    let mut machine = Machine::new();
    let frames = [frame(14, 1), frame(1514, 2), frame(FRAME_BYTES_MAX, 3)];
    for (at, frame) in frames.iter().enumerate() {
        machine.put(frame, [0, HEADER_BYTES, 700][at]);
    }
    machine.driver.notify(TX);
    machine.serve();
    for frame in frames {
        assert!(machine.taken().unwrap() == frame);
    }
    assert_eq!(machine.taken(), None);
    assert_eq!(read(&machine.counters.tx_packets), 3);
    assert_eq!(
        read(&machine.counters.tx_bytes),
        (14 + 1514 + FRAME_BYTES_MAX) as u64
    );
}

#[test]
fn what_is_no_frame_goes_nowhere_and_its_buffer_comes_back() {
    let mut machine = Machine::new();
    for len in [0, 13, FRAME_BYTES_MAX + 1] {
        machine.transmit(&frame(len, 1));
        wait_for("the buffer", || {
            machine.events.run_with_timeout(5).unwrap();
            machine.driver.device.look(std::time::Instant::now());
            machine.driver.poll(TX)
        });
    }
    assert_eq!(machine.taken(), None);
    assert_eq!(read(&machine.counters.tx_dropped), 3);
}

#[test]
fn a_chain_without_room_for_a_header_stops_the_device() {
    for (queue, buffer) in [
        (TX, Buffer::readable(DATA, HEADER_BYTES - 1)),
        (TX, Buffer::writable(DATA, 100)),
        (RX, Buffer::writable(DATA, HEADER_BYTES - 1)),
        (RX, Buffer::readable(DATA, 100)),
    ] {
        let mut machine = Machine::new();
        give(&machine.end, &frame(60, 1));
        machine.driver.submit(queue, &[buffer]);
        machine.serve();
        assert!(machine.driver.status() & NEEDS_RESET != 0, "{queue} {buffer:?}");
        machine.driver.start();
        machine.serve();
        machine.rx_next = 0;
        give(&machine.end, &frame(60, 2));
        machine.offer(2000);
        machine.offer(2000);
        assert!(std::iter::from_fn(|| machine.received()).any(|received| received == frame(60, 2)));
    }
}

#[test]
fn a_frame_fills_as_many_buffers_as_it_takes() {
    let mut machine = Machine::new();
    for len in [100, 1000, 1514 + HEADER_BYTES, 3000] {
        machine.offer(len);
    }
    give(&machine.end, &frame(88, 1));
    give(&machine.end, &frame(2500, 2));
    machine.serve();
    assert!(machine.received().unwrap() == frame(88, 1));
    assert!(machine.received().unwrap() == frame(2500, 2));
    assert_eq!(machine.received(), None);
    assert_eq!(read(&machine.counters.rx_packets), 2);
}

#[test]
fn a_frame_waits_on_the_wire_until_there_are_buffers() {
    let mut machine = Machine::new();
    for seed in 0..3 {
        give(&machine.end, &frame(5000, seed));
    }
    machine.serve();
    assert_eq!(read(&machine.counters.rx_packets), 0);
    for seed in 0..3 {
        for _ in 0..2 {
            machine.offer(2000);
            assert_eq!(machine.received(), None);
        }
        machine.offer(2000);
        assert!(machine.received().unwrap() == frame(5000, seed));
    }
}

#[test]
fn the_driver_is_asked_to_tell_of_buffers_only_when_they_are_waited_for() {
    let mut machine = Machine::new();
    give(&machine.end, &frame(60, 1));
    machine.serve();
    machine.place_rx(2000);
    assert!(machine.driver.must_notify(RX));
    machine.driver.notify(RX);
    machine.serve();
    assert!(machine.received().is_some());
    machine.place_rx(2000);
    machine.place_rx(2000);
    assert!(!machine.driver.must_notify(RX));
}

#[test]
fn frames_that_are_too_long_or_too_short_for_the_guest_are_dropped() {
    let mut machine = Machine::new();
    for _ in 0..10 {
        machine.offer(4096);
    }
    for len in [13, FRAME_BYTES_MAX + 1, 20_000, FRAME_BYTES_MAX] {
        give(&machine.end, &frame(len, 1));
    }
    machine.serve();
    assert!(machine.received().unwrap() == frame(FRAME_BYTES_MAX, 1));
    assert_eq!(machine.received(), None);
    assert_eq!(read(&machine.counters.rx_dropped), 3);
}

#[test]
fn a_frame_that_no_number_of_buffers_can_take_does_not_block_the_next() {
    let mut machine = Machine::new();
    give(&machine.end, &frame(FRAME_BYTES_MAX, 1));
    give(&machine.end, &frame(200, 2));
    for _ in 0..QUEUE_SIZE {
        machine.offer(100);
    }
    assert!(machine.received().unwrap() == frame(200, 2));
    assert_eq!(read(&machine.counters.rx_dropped), 1);
}

#[test]
fn without_mergeable_buffers_a_frame_takes_one_or_is_dropped() {
    let mut machine = Machine::without_driver();
    machine.driver.start_without(MRG_RXBUF);
    machine.serve();
    for _ in 0..4 {
        machine.offer(1526);
    }
    give(&machine.end, &frame(1515, 1));
    give(&machine.end, &frame(1514, 2));
    machine.serve();
    assert!(machine.received().unwrap() == frame(1514, 2));
    assert_eq!(machine.received(), None);
    assert_eq!(read(&machine.counters.rx_dropped), 1);
}

#[test]
fn a_full_wire_holds_the_guest_up_and_loses_nothing() {
    let mut machine = Machine::new();
    let (wire, end) = pair().unwrap();
    sockopt::set_socket_send_buffer_size(&wire, 60_000).unwrap();
    machine.end = end;
    machine.driver.device.replace(&mut files(wire));
    machine.serve();
    // The chains are of two descriptors.
    let count = QUEUE_SIZE / 2;
    for seed in 0..count {
        machine.put(&frame(9000, u8::try_from(seed).unwrap()), HEADER_BYTES);
    }
    machine.driver.notify(TX);
    machine.serve();
    let gone = std::iter::from_fn(|| machine.driver.poll(TX)).count();
    assert!((1..usize::from(count)).contains(&gone), "{gone}");
    for seed in 0..count {
        let taken = wait_for("a frame", || {
            machine.serve();
            machine.taken()
        });
        assert!(taken == frame(9000, u8::try_from(seed).unwrap()));
    }
    assert_eq!(read(&machine.counters.tx_dropped), 0);
}

#[test]
fn short_frames_interrupt_the_guest_only_with_an_answer_or_after_a_while() {
    let mut machine = Machine::new();
    machine.offer(2000);
    machine.driver.irq.read().ok();
    machine.transmit(&frame(60, 1));
    assert_eq!(machine.driver.poll(TX), None);
    give(&machine.end, &frame(60, 2));
    machine.serve();
    assert!(machine.received().is_some() && machine.driver.poll(TX).is_some());
    assert_eq!(machine.driver.irq.read().unwrap(), 1, "one interrupt for both");
    machine.transmit(&frame(60, 3));
    assert!(machine.driver.device.due().is_some());
    wait_for("the buffer", || {
        machine.driver.device.look(std::time::Instant::now());
        machine.serve();
        machine.driver.poll(TX)
    });
    assert_eq!(machine.driver.device.due(), None);
    machine.transmit(&frame(9000, 4));
    assert!(machine.driver.poll(TX).is_some(), "a large one goes back at once");
}
