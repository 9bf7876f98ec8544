//! Fuzz bodies: a hostile driver against each device. Nothing it does may panic, or keep the device busy for ever.
#![expect(
    clippy::unwrap_used,
    reason = "test code, though the fuzz crate compiles it without `cfg(test)`"
)]

use std::fs::File;
use std::os::fd::OwnedFd;

use rustix::net::{RecvFlags, SendFlags, recv, send, sockopt};
use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::tempdir::TempDir;
use vmm_sys_util::tempfile::TempFile;

use super::block::Block;
use super::driver::{Buffer, DATA, Driver, STATUS_STEPS};
use super::net::{self, Net};
use super::rng::Rng;
use super::vsock::packet::Header;
use super::vsock::{Vsock, VsockConfig};
use super::{OwnFiles, VirtioDevice};
use crate::disk::Disk;

const RX: usize = 0;
const TX: usize = 1;

/// Bytes of input that make one step.
const STEP_BYTES: usize = 16;

/// Rounds of the event loop after each step: a device that always has more to do must not hang the fuzzer.
const ROUNDS: usize = 8;

/// # Panics
/// The block device does.
pub fn fuzz_block(data: &[u8]) {
    let disk = Disk::new(empty_file(), empty_file(), 1 << 20).unwrap();
    drive(Box::new(Block::new(disk)), block_request, data);
}

/// # Panics
/// The entropy device does.
pub fn fuzz_rng(data: &[u8]) {
    drive(Box::new(Rng::new().unwrap()), rng_request, data);
}

/// # Panics
/// The socket device does.
pub fn fuzz_vsock(data: &[u8]) {
    let dir = TempDir::new().unwrap();
    let socket = dir.as_path().join("v");
    // A port that is there, so that connections come to be; and one from the host, in any state.
    let listener = std::os::unix::net::UnixListener::bind(dir.as_path().join("v_1")).unwrap();
    let device = Vsock::bind(VsockConfig {
        guest_cid: 3,
        socket: socket.clone(),
    })
    .unwrap();
    let mut stream = std::os::unix::net::UnixStream::connect(socket).unwrap();
    std::io::Write::write_all(&mut stream, b"CONNECT 1\nhello").unwrap();
    drive(Box::new(device), vsock_packet, data);
    drop(listener);
}

/// # Panics
/// The network device does.
pub fn fuzz_net(data: &[u8]) {
    let mut ends = Vec::new();
    drive(
        Box::new(Net::new()),
        |driver, address, step| net_step(driver, &mut ends, address, step),
        data,
    );
}

/// Does what `data` spells; `sane` does mostly what a driver of the device would. A device that has stopped is started
/// again at once or some steps later.
fn drive(
    device: Box<dyn VirtioDevice>,
    mut sane: impl FnMut(&mut Driver, u64, &[u8; STEP_BYTES]),
    data: &[u8],
) {
    let (mut driver, mut events) = Driver::new(device);
    driver.start();
    let queues = driver.device.queue_notifiers().unwrap().len();
    for step in data.chunks(STEP_BYTES) {
        let mut bytes = [0; STEP_BYTES];
        bytes[..step.len()].copy_from_slice(step);
        let [kind, which, a, b, c, d, e, f, rest @ ..] = bytes;
        if driver.status() != STATUS_STEPS[3] && which % 4 != 0 {
            driver.start();
        }
        let queue = usize::from(which) % queues;
        let address = DATA + u64::from(u16::from_le_bytes([a, b]) % 1024) * 8;
        match kind % 16 {
            0..=9 => sane(&mut driver, address, &bytes),
            // A chain of one to three descriptors of any kind.
            10 => {
                let wild = if c == 0 { u64::MAX - 100 } else { 0 };
                let len = u32::from(u16::from_le_bytes([d, e])) >> (c % 16);
                let mut chain = vec![Buffer {
                    address,
                    len: 16 + u32::from(c & 1) * 28,
                    writable: f & 1 != 0,
                }];
                chain.push(Buffer {
                    address: address | wild,
                    len,
                    writable: f & 2 != 0,
                });
                chain.push(Buffer {
                    address,
                    len: u32::from(f) / 64,
                    writable: f & 4 != 0,
                });
                chain.truncate(usize::from(which) % 3 + 1);
                driver.submit(queue, &chain);
            }
            // Changes what a request says while the device may be looking at it.
            11 => driver.write(address, &rest),
            // Any register, any value.
            12 => driver.set(u32::from(a) * 4, u32::from_le_bytes([c, d, e, f])),
            // Anything at all in the rings.
            13 => {
                let at = u64::from(u16::from_le_bytes([a, b]) % 0x8000) * 2;
                driver.memory.write_slice(&rest, GuestAddress(at)).unwrap();
                driver.notify(queue);
            }
            14 => {
                let mut config = [0; 8];
                driver.device.read(
                    u64::from(u16::from_le_bytes([a, b])),
                    &mut config[..usize::from(c) % 9],
                );
                driver.publish(queue, u16::from_le_bytes([d, e]));
                driver.notify(queue);
            }
            _ if which > 200 => driver.start(),
            _ => {
                // The old loop goes first, with all it watches.
                drop(events);
                events = driver.become_clone(&mut own_files());
            }
        }
        for _ in 0..ROUNDS {
            if events.run_with_timeout(0).unwrap() == 0 {
                break;
            }
        }
    }
}

fn block_request(driver: &mut Driver, address: u64, step: &[u8; STEP_BYTES]) {
    let [_, _, _, _, kind, sector, body, odd, rest @ ..] = *step;
    // All the types there are, and one that is none.
    let kind: u32 = [0, 1, 4, 8, 11, 13, 99][usize::from(kind) % 7];
    let mut header = kind.to_le_bytes().to_vec();
    header.extend([0; 4]);
    header.extend(
        u64::from(sector)
            .wrapping_mul(if odd > 250 { u64::MAX / 3 } else { 8 })
            .to_le_bytes(),
    );
    driver.write(address, &header);
    // A segment to discard, or data.
    let mut segment = u64::from(sector).to_le_bytes().to_vec();
    segment.extend([rest[0], 0, 0, rest[1] / 250, rest[2] & 1, 0, 0, rest[3] / 250]);
    driver.write(address + 0x100, &segment);
    let len = match kind {
        8 => 20,
        11 | 13 => 16 * usize::from(body % 10),
        _ => 512 * usize::from(body % 20),
    };
    let data = Buffer {
        address: address + 0x100,
        len: u32::try_from(len + usize::from(odd < 5)).unwrap(),
        writable: matches!(kind, 0 | 8),
    };
    driver.submit(
        0,
        &[Buffer::readable(address, 16), data, Buffer::writable(address, 1)],
    );
}

fn rng_request(driver: &mut Driver, address: u64, step: &[u8; STEP_BYTES]) {
    let lens = [usize::from(step[4]) << (step[5] % 14), usize::from(step[6])];
    driver.submit(0, &lens.map(|len| Buffer::writable(address, len)));
}

/// A packet that may belong to a connection: one of two guest ports, to the port that is there or the one the host
/// process connects from.
fn vsock_packet(driver: &mut Driver, address: u64, step: &[u8; STEP_BYTES]) {
    let [_, _, _, _, ports, op, len, odd, rest @ ..] = *step;
    let header = Header {
        src_cid: if odd == 1 { 4 } else { 3 },
        dst_cid: if odd == 2 { 5 } else { 2 },
        src_port: (ports & 1).into(),
        dst_port: if ports & 2 == 0 { 1 } else { 1 << 30 },
        len: u32::from(len) << (rest[0] % 10),
        kind: if odd == 3 { 2 } else { 1 },
        // Requests and data most of all.
        op: [1, 1, 2, 3, 4, 5, 5, 5, 5, 6, 7, 0, 9][usize::from(op) % 13],
        flags: (rest[2] % 4).into(),
        buf_alloc: u32::from(rest[3]) << 8,
        fwd_cnt: if odd == 4 { rest[4].into() } else { 0 },
    };
    driver.write(address, &header.to_bytes());
    let len = 44 + header.len + u32::from(odd == 5);
    driver.submit(
        TX,
        &[Buffer {
            address,
            len,
            writable: false,
        }],
    );
    if odd % 4 != 0 {
        driver.submit(RX, &[Buffer::writable(DATA + 0x10_0000, 200)]);
    }
}

/// A frame from either side, buffers for the driver's, or something that happens to the wire. `ends` are those of the host;
/// only the last can matter.
fn net_step(driver: &mut Driver, ends: &mut Vec<OwnedFd>, address: u64, step: &[u8; STEP_BYTES]) {
    let [_, _, _, _, act, a, b, c, ..] = *step;
    let len = usize::from(u16::from_le_bytes([a, b])) >> (c % 12);
    match (act % 8, ends.last()) {
        (0..=1, _) => {
            let cut = len.min(usize::from(c));
            driver.submit(
                TX,
                &[
                    Buffer::readable(address, cut),
                    Buffer::readable(address, len - cut),
                ],
            );
        }
        (2..=3, _) => {
            for _ in 0..c % 9 {
                driver.place(RX, &[Buffer::writable(DATA + 0x10_0000, len)]);
            }
            driver.notify(RX);
        }
        (4, Some(end)) => drop(send(end, &vec![a; len], SendFlags::DONTWAIT)),
        (5, Some(end)) => {
            for _ in 0..c {
                let _ = recv(end, &mut [0; 64], RecvFlags::DONTWAIT);
            }
        }
        (6, Some(_)) if c < 128 => drop(ends.pop()),
        _ => {
            let (wire, end) = net::pair().unwrap();
            // Full after some of the longest frames.
            sockopt::set_socket_send_buffer_size(&wire, 40_000).unwrap();
            ends.push(end);
            ends.drain(..ends.len().saturating_sub(2));
            driver.device.replace(&mut OwnFiles {
                wire: Some(wire),
                ..OwnFiles::default()
            });
        }
    }
}

fn empty_file() -> File {
    let mut file = TempFile::new().unwrap();
    file.remove().unwrap();
    file.into_file()
}

/// What a clone gets; nobody connects to its socket.
fn own_files() -> OwnFiles {
    let dir = TempDir::new().unwrap();
    OwnFiles {
        layer: Some(empty_file()),
        vsock: Some(std::os::unix::net::UnixListener::bind(dir.as_path().join("v")).unwrap()),
        wire: Some(net::pair().unwrap().0),
    }
}
