//! The disk as the guest sees it.

use std::sync::atomic::Ordering;

use super::super::block::{Block, BlockConfig, BlockError};
use super::super::driver::{Buffer, DATA, NEEDS_RESET};
use super::Guest;

const IN: u32 = 0;
const OUT: u32 = 1;
const FLUSH: u32 = 4;
const GET_ID: u32 = 8;
const DISCARD: u32 = 11;
const WRITE_ZEROES: u32 = 13;
const OK: u8 = 0;
const IOERR: u8 = 1;
const UNSUPP: u8 = 2;

const HEADER: u64 = DATA;
const STATUS: u64 = DATA + 0x100;
const BODY: u64 = DATA + 0x1000;

fn guest() -> (Guest, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let (base, layer) = (dir.path().join("base"), dir.path().join("layer"));
    std::fs::write(&base, [b'B'; 6000]).unwrap();
    let block = Block::open(BlockConfig {
        base,
        layer,
        size_bytes: 1 << 20,
    })
    .unwrap();
    (Guest::start(block), dir)
}

/// Sends a request; `body` lies at `BODY`. Returns the status and the used length.
fn request(guest: &mut Guest, kind: u32, sector: u64, body: &[Buffer]) -> (u8, u32) {
    let mut header = kind.to_le_bytes().to_vec();
    header.extend([0; 4]);
    header.extend(sector.to_le_bytes());
    guest.driver.write(HEADER, &header);
    guest.driver.write(STATUS, &[0xff]);
    let mut chain = vec![Buffer::readable(HEADER, 16)];
    chain.extend(body);
    chain.push(Buffer::writable(STATUS, 1));
    let head = guest.driver.submit(0, &chain);
    let used = guest.wait_used(0);
    assert_eq!(used.head, head);
    (guest.driver.read(STATUS, 1)[0], used.len)
}

fn segment(sector: u64, sectors: u32, flags: u32) -> Vec<u8> {
    let mut bytes = sector.to_le_bytes().to_vec();
    bytes.extend(sectors.to_le_bytes());
    bytes.extend(flags.to_le_bytes());
    bytes
}

#[test]
fn what_is_written_is_read_and_the_base_shows_elsewhere() {
    let (mut guest, _dir) = guest();
    guest.driver.write(BODY, &[b'w'; 1024]);
    let scattered = [Buffer::readable(BODY, 1), Buffer::readable(BODY + 1, 1023)];
    assert_eq!(request(&mut guest, OUT, 1, &scattered), (OK, 1));
    assert_eq!(request(&mut guest, FLUSH, 0, &[]), (OK, 1));
    let target = [
        Buffer::writable(BODY, 700),
        Buffer::writable(BODY + 700, 8192 - 700),
    ];
    assert_eq!(request(&mut guest, IN, 0, &target), (OK, 8193));
    let mut expected = vec![b'B'; 6000];
    expected.resize(8192, 0);
    expected[512..1536].fill(b'w');
    assert_eq!(guest.driver.read(BODY, 8192), expected);
}

#[test]
fn discarded_and_zeroed_sectors_read_as_zeros() {
    let (mut guest, _dir) = guest();
    for (kind, flags) in [(DISCARD, 0), (WRITE_ZEROES, 0), (WRITE_ZEROES, 1)] {
        guest.driver.write(BODY, &[b'w'; 8192]);
        assert_eq!(
            request(&mut guest, OUT, 16, &[Buffer::readable(BODY, 8192)]).0,
            OK
        );
        guest.driver.write(BODY, &segment(16, 16, flags));
        assert_eq!(request(&mut guest, kind, 0, &[Buffer::readable(BODY, 16)]).0, OK);
        assert_eq!(request(&mut guest, IN, 16, &[Buffer::writable(BODY, 8192)]).0, OK);
        assert_eq!(guest.driver.read(BODY, 8192), vec![0; 8192]);
    }
}

#[test]
fn the_disk_has_a_serial_number() {
    let (mut guest, _dir) = guest();
    assert_eq!(
        request(&mut guest, GET_ID, 0, &[Buffer::writable(BODY, 20)]),
        (OK, 21)
    );
    assert_eq!(guest.driver.read(BODY, 20), b"podflare-root\0\0\0\0\0\0\0");
    assert_eq!(
        request(&mut guest, GET_ID, 0, &[Buffer::writable(BODY, 19)]).0,
        IOERR
    );
}

#[test]
fn the_configuration_names_size_and_limits() {
    let (guest, _dir) = guest();
    assert_eq!(guest.driver.get(0x100), 2048);
    assert_eq!(guest.driver.get(0x104), 0);
    assert_eq!(guest.driver.get(0x100 + 20), 512);
    let mut byte = [0xff];
    guest.driver.device.read(0x100 + 24, &mut byte);
    assert_eq!(byte, [3]);
}

#[test]
fn bad_requests_are_answered_and_change_nothing() {
    let (mut guest, _dir) = guest();
    let body = [Buffer::writable(BODY, 512)];
    for sector in [2048, u64::MAX, u64::MAX / 512 + 1] {
        assert_eq!(request(&mut guest, IN, sector, &body).0, IOERR);
        assert_eq!(
            request(&mut guest, OUT, sector, &[Buffer::readable(BODY, 512)]).0,
            IOERR
        );
        guest.driver.write(BODY, &segment(sector, 1, 0));
        assert_eq!(
            request(&mut guest, DISCARD, 0, &[Buffer::readable(BODY, 16)]).0,
            IOERR
        );
    }
    assert_eq!(
        request(&mut guest, IN, 2047, &[Buffer::writable(BODY, 1024)]).0,
        IOERR
    );
    assert_eq!(
        request(&mut guest, IN, 0, &[Buffer::writable(BODY, 511)]).0,
        IOERR
    );
    assert_eq!(request(&mut guest, 99, 0, &body).0, UNSUPP);
    guest.driver.write(BODY, &segment(0, 8, 2));
    assert_eq!(
        request(&mut guest, WRITE_ZEROES, 0, &[Buffer::readable(BODY, 16)]).0,
        UNSUPP
    );
    guest.driver.write(BODY, &segment(0, 8, 1));
    assert_eq!(
        request(&mut guest, DISCARD, 0, &[Buffer::readable(BODY, 16)]).0,
        UNSUPP
    );
    assert_eq!(
        request(&mut guest, DISCARD, 0, &[Buffer::readable(BODY, 15)]).0,
        IOERR
    );
    // Every segment is judged before the first is carried out.
    let mut two = segment(0, 8, 0);
    two.extend(segment(2048, 8, 0));
    guest.driver.write(BODY, &two);
    assert_eq!(
        request(&mut guest, DISCARD, 0, &[Buffer::readable(BODY, 32)]).0,
        IOERR
    );
    assert_eq!(request(&mut guest, IN, 0, &body).0, OK);
    assert_eq!(guest.driver.read(BODY, 512), vec![b'B'; 512]);
}

#[test]
fn a_layer_that_exists_is_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    let (base, layer) = (dir.path().join("base"), dir.path().join("layer"));
    std::fs::write(&base, []).unwrap();
    std::fs::write(&layer, b"another's").unwrap();
    let refused = Block::open(BlockConfig {
        base,
        layer: layer.clone(),
        size_bytes: 1 << 20,
    });
    assert!(matches!(refused, Err(BlockError::MakeLayer { .. })));
    assert_eq!(std::fs::read(layer).unwrap(), b"another's");
}

#[test]
fn a_chain_without_room_for_a_status_stops_the_device() {
    let (mut guest, _dir) = guest();
    guest.driver.submit(0, &[Buffer::readable(HEADER, 16)]);
    super::wait_for("DEVICE_NEEDS_RESET", || {
        (guest.driver.status() & NEEDS_RESET != 0).then_some(())
    });
    guest.driver.start();
    assert_eq!(request(&mut guest, FLUSH, 0, &[]).0, OK);
}

#[test]
fn counters_follow() {
    let dir = tempfile::tempdir().unwrap();
    let (base, layer) = (dir.path().join("base"), dir.path().join("layer"));
    std::fs::write(&base, []).unwrap();
    let block = Block::open(BlockConfig {
        base,
        layer,
        size_bytes: 1 << 20,
    })
    .unwrap();
    let counters = block.counters();
    let mut guest = Guest::start(block);
    assert_eq!(request(&mut guest, OUT, 0, &[Buffer::readable(BODY, 512)]).0, OK);
    assert_eq!(request(&mut guest, FLUSH, 0, &[]).0, OK);
    drop(guest);
    let read = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::SeqCst);
    let seen = [
        &counters.reads,
        &counters.writes,
        &counters.flushes,
        &counters.errors,
        &counters.layer_bytes,
    ];
    assert_eq!(seen.map(read), [0, 1, 1, 0, 4096]);
}
