//! Registers, negotiation, and what happens to drivers that break the rules.

use virtio_bindings::virtio_mmio as registers;

use super::super::driver::{Buffer, DATA, Driver, NEEDS_RESET, STATUS_STEPS, settle};
use super::super::rng::Rng;

fn driver() -> Driver {
    Driver::new(Box::new(Rng::new().unwrap())).0
}

#[test]
fn the_window_tells_what_is_there() {
    let driver = driver();
    assert_eq!(
        driver.get(registers::VIRTIO_MMIO_MAGIC_VALUE).to_le_bytes(),
        *b"virt"
    );
    assert_eq!(driver.get(registers::VIRTIO_MMIO_VERSION), 2);
    assert_eq!(driver.get(registers::VIRTIO_MMIO_DEVICE_ID), 4);
    assert_eq!(driver.get(registers::VIRTIO_MMIO_QUEUE_NUM_MAX), 64);
    driver.set(registers::VIRTIO_MMIO_QUEUE_SEL, 1);
    assert_eq!(driver.get(registers::VIRTIO_MMIO_QUEUE_NUM_MAX), 0);
    assert_eq!(driver.get(registers::VIRTIO_MMIO_SHM_LEN_LOW), u32::MAX);
}

#[test]
fn accesses_of_other_sizes_and_places_read_as_zeros() {
    let driver = driver();
    for (offset, len) in [
        (0, 1),
        (0, 2),
        (0, 8),
        (1, 4),
        (2, 4),
        (0xf00, 4),
        (u64::MAX, 4),
        (0x100, 0),
    ] {
        let mut bytes = vec![0xff; len];
        driver.device.read(offset, &mut bytes);
        assert_eq!(bytes, vec![0; len], "at {offset:#x}");
        driver.device.write(offset, &bytes);
    }
}

#[test]
fn features_that_were_not_offered_or_no_version_1_are_not_ok() {
    // Low and high half of what the driver takes; bit 32 is VERSION_1, bit 29 EVENT_IDX.
    for (low, high, accepted) in [
        (0, 1, true),
        (1 << 29, 1, true),
        (0, 0, false),
        (1, 1, false),
        (0, 3, false),
    ] {
        let driver = driver();
        driver.set_status(STATUS_STEPS[1]);
        driver.set(registers::VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0);
        driver.set(registers::VIRTIO_MMIO_DRIVER_FEATURES, low);
        driver.set(registers::VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
        driver.set(registers::VIRTIO_MMIO_DRIVER_FEATURES, high);
        driver.set_status(STATUS_STEPS[2]);
        assert_eq!(driver.status() == STATUS_STEPS[2], accepted, "{low:#x} {high:#x}");
    }
}

#[test]
fn a_driver_that_skips_negotiation_must_reset() {
    let driver = driver();
    driver.set_status(4);
    assert_eq!(driver.status() & NEEDS_RESET, NEEDS_RESET);
    assert!(driver.device.fault().unwrap().contains("out of order"));
    driver.set_status(0);
    assert_eq!(driver.status(), 0);
}

#[test]
fn a_queue_that_is_not_possible_is_refused_whole() {
    let cases = [
        (registers::VIRTIO_MMIO_QUEUE_NUM, 0),
        (registers::VIRTIO_MMIO_QUEUE_NUM, 3),
        (registers::VIRTIO_MMIO_QUEUE_NUM, 128),
        (registers::VIRTIO_MMIO_QUEUE_NUM, 0x1_0010),
        (registers::VIRTIO_MMIO_QUEUE_DESC_LOW, 8),
        (registers::VIRTIO_MMIO_QUEUE_DESC_HIGH, 1),
        (registers::VIRTIO_MMIO_QUEUE_AVAIL_LOW, 0),
        (registers::VIRTIO_MMIO_QUEUE_AVAIL_LOW, 0x1001),
        (registers::VIRTIO_MMIO_QUEUE_USED_LOW, 0x1002),
        (registers::VIRTIO_MMIO_QUEUE_USED_HIGH, u32::MAX),
        (registers::VIRTIO_MMIO_QUEUE_USED_LOW, 0x7f_fff0),
    ];
    for (register, value) in cases {
        let driver = driver();
        driver.set(registers::VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
        driver.set(registers::VIRTIO_MMIO_DRIVER_FEATURES, 1);
        driver.set_status(STATUS_STEPS[2]);
        driver.set(registers::VIRTIO_MMIO_QUEUE_NUM, 16);
        driver.set(registers::VIRTIO_MMIO_QUEUE_DESC_LOW, 0x1000);
        driver.set(registers::VIRTIO_MMIO_QUEUE_AVAIL_LOW, 0x2000);
        driver.set(registers::VIRTIO_MMIO_QUEUE_USED_LOW, 0x3000);
        driver.set(register, value);
        driver.set(registers::VIRTIO_MMIO_QUEUE_READY, 1);
        assert_eq!(
            driver.get(registers::VIRTIO_MMIO_QUEUE_READY),
            0,
            "{register:#x} = {value:#x}"
        );
        assert_eq!(driver.status() & NEEDS_RESET, NEEDS_RESET);
    }
}

#[test]
fn a_broken_ring_stops_the_device_until_it_is_reset() {
    let (mut driver, mut events) = Driver::new(Box::new(Rng::new().unwrap()));
    driver.start();
    // A chain that leads to itself.
    driver.write_descriptor(0, 0, Buffer::writable(DATA, 16), 1 | 2, 0);
    driver.publish(0, 0);
    driver.notify(0);
    settle(&mut events);
    assert_eq!(driver.status() & NEEDS_RESET, NEEDS_RESET);
    assert_eq!(driver.get(registers::VIRTIO_MMIO_INTERRUPT_STATUS), 2);
    driver.submit(0, &[Buffer::writable(DATA, 16)]);
    settle(&mut events);
    assert_eq!(driver.poll(0), None);

    driver.start();
    assert_eq!(
        (
            driver.status(),
            driver.get(registers::VIRTIO_MMIO_INTERRUPT_STATUS)
        ),
        (15, 0)
    );
    driver.submit(0, &[Buffer::writable(DATA, 16)]);
    settle(&mut events);
    assert_eq!(driver.poll(0).unwrap().len, 16);
}

#[test]
fn an_interrupt_is_raised_once_for_a_batch_and_acknowledged() {
    let (mut driver, mut events) = Driver::new(Box::new(Rng::new().unwrap()));
    driver.start();
    for at in 0..8 {
        driver.place(0, &[Buffer::writable(DATA + at * 64, 64)]);
    }
    driver.notify(0);
    settle(&mut events);
    assert_eq!(driver.irq.read().unwrap(), 1);
    assert_eq!(driver.get(registers::VIRTIO_MMIO_INTERRUPT_STATUS), 1);
    driver.set(registers::VIRTIO_MMIO_INTERRUPT_ACK, 1);
    assert_eq!(driver.get(registers::VIRTIO_MMIO_INTERRUPT_STATUS), 0);
    // Nobody has looked at the first eight: the driver knows of them, and need not hear of a ninth.
    driver.submit(0, &[Buffer::writable(DATA, 64)]);
    settle(&mut events);
    driver.irq.read().unwrap_err();
}
