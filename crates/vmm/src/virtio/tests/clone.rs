//! The block device through its rings while its VM is cloned and written to files: whatever the point, it serves what
//! comes as if nothing had happened, and a clone and its parent do not see each other's writes.

use std::fs::File;
use std::sync::Arc;

use event_manager::{EventManager, SubscriberOps as _};
use proptest::prelude::*;
use vm_memory::{Bytes as _, GuestAddress};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::super::block::Block;
use super::super::driver::{Buffer, DATA, Driver, Loop, MEMORY_BYTES};
use super::super::{DeviceState, MmioDevice, OwnFiles};
use crate::disk::Disk;
use crate::memory::GuestMemory;

const SECTOR: usize = 512;
const SECTORS: usize = 256;

const READ: u32 = 0;
const WRITE: u32 = 1;

/// A guest with its disk, and what must be on it.
struct Machine {
    driver: Driver,
    events: Loop,
    model: Vec<u8>,
}

#[derive(Clone, Debug)]
enum Step {
    Write {
        sector: usize,
        count: usize,
        byte: u8,
    },
    Read {
        sector: usize,
        count: usize,
    },
    /// A request the device has not been told of, or has been told of and not looked at, when it is cloned.
    Clone {
        pending: bool,
        told: bool,
    },
    /// The machine is written to files and goes on from them.
    Snapshot,
}

fn step() -> impl Strategy<Value = Step> {
    let place = (0..SECTORS, 1..40_usize);
    prop_oneof![
        4 => (place.clone(), any::<u8>()).prop_map(|((sector, count), byte)| Step::Write { sector, count, byte }),
        4 => place.prop_map(|(sector, count)| Step::Read { sector, count }),
        1 => (any::<bool>(), any::<bool>()).prop_map(|(pending, told)| Step::Clone { pending, told }),
        1 => Just(Step::Snapshot),
    ]
}

impl Machine {
    fn new() -> Self {
        let disk = Disk::new(empty(), empty(), (SECTORS * SECTOR) as u64).unwrap();
        let (mut driver, events) = Driver::new(Box::new(Block::new(disk)));
        driver.start();
        let mut machine = Self {
            driver,
            events,
            model: vec![0; SECTORS * SECTOR],
        };
        machine.serve();
        machine
    }

    fn serve(&mut self) {
        while self.events.run_with_timeout(0).unwrap() > 0 {}
    }

    fn write(&mut self, sector: usize, count: usize, byte: u8) {
        let count = count.min(SECTORS - sector);
        self.model[sector * SECTOR..(sector + count) * SECTOR].fill(byte);
        self.driver.write(DATA + 0x1000, &vec![byte; count * SECTOR]);
        self.place(WRITE, sector, count);
        self.driver.notify(0);
        self.finish();
    }

    fn read(&mut self, sector: usize, count: usize) {
        let count = count.min(SECTORS - sector);
        self.place(READ, sector, count);
        self.driver.notify(0);
        self.finish();
        self.expect(sector, count);
    }

    fn expect(&self, sector: usize, count: usize) {
        let bytes = self.driver.read(DATA + 0x1000, count * SECTOR);
        assert!(bytes == self.model[sector * SECTOR..(sector + count) * SECTOR]);
    }

    /// Puts a request on the ring.
    fn place(&mut self, kind: u32, sector: usize, count: usize) {
        let mut header = kind.to_le_bytes().to_vec();
        header.extend([0; 4]);
        header.extend((sector as u64).to_le_bytes());
        self.driver.write(DATA, &header);
        self.driver.write(DATA + 0x800, &[0xff]);
        let data = Buffer {
            address: DATA + 0x1000,
            len: u32::try_from(count * SECTOR).unwrap(),
            writable: kind == READ,
        };
        let chain = [
            Buffer::readable(DATA, 16),
            data,
            Buffer::writable(DATA + 0x800, 1),
        ];
        self.driver.place(0, &chain);
    }

    /// The request must be done, and well.
    fn finish(&mut self) {
        self.serve();
        self.driver.poll(0).unwrap();
        assert_eq!(self.driver.read(DATA + 0x800, 1), [0]);
    }

    /// Goes on as a clone; the parent is gone.
    fn become_clone(&mut self) {
        self.driver.device.share(&mut own_files());
        self.events = EventManager::new().unwrap();
        self.events = self.driver.become_clone(&mut own_files());
    }

    /// A copy of the machine by way of files. Both go on.
    fn restored(&self) -> Self {
        let saved = empty();
        let (transport, state) = self.driver.device.save(&saved).unwrap();
        let DeviceState::Block(state) = state else {
            panic!("{state:?}")
        };
        let disk = Disk::restore(empty(), saved, &state, empty()).unwrap();
        let memory = GuestMemory::from_ranges(&[(GuestAddress(0), MEMORY_BYTES)]).unwrap();
        memory
            .write_slice(&self.driver.read(0, MEMORY_BYTES), GuestAddress(0))
            .unwrap();
        let irq = EventFd::new(EFD_NONBLOCK).unwrap();
        let line = Box::new(irq.try_clone().unwrap());
        let device = MmioDevice::new(Box::new(Block::new(disk)), memory.clone(), line).unwrap();
        device.restore(&transport).unwrap();
        let mut events = EventManager::new().unwrap();
        events.add_subscriber(Arc::clone(&device.subscriber()));
        Self {
            driver: self.driver.moved_to(device, memory, irq),
            events,
            model: self.model.clone(),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn a_disk_reads_as_its_model_through_clones_and_snapshots(steps in proptest::collection::vec(step(), 1..60)) {
        let mut machine = Machine::new();
        let mut left_behind = Vec::new();
        for step in steps {
            match step {
                Step::Write { sector, count, byte } => machine.write(sector, count, byte),
                Step::Read { sector, count } => machine.read(sector, count),
                Step::Clone { pending: false, .. } => machine.become_clone(),
                Step::Clone { told, .. } => {
                    machine.place(READ, 0, 8);
                    if told {
                        machine.driver.notify(0);
                    }
                    machine.become_clone();
                    machine.finish();
                    machine.expect(0, 8);
                }
                Step::Snapshot => {
                    let restored = machine.restored();
                    left_behind.push(std::mem::replace(&mut machine, restored));
                }
            }
        }
        left_behind.push(machine);
        for mut machine in left_behind {
            machine.serve();
            (0..SECTORS).step_by(40).for_each(|sector| machine.read(sector, 40));
        }
    }
}

fn empty() -> File {
    tempfile::tempfile().unwrap()
}

fn own_files() -> OwnFiles {
    OwnFiles {
        layer: Some(empty()),
        ..OwnFiles::default()
    }
}
