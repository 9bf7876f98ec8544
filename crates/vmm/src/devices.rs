//! The virtio devices of a VM and where they sit: windows, interrupt lines, queue doorbells.

use std::fs::File;
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kvm_ioctls::{IoEventAddress, NoDatamatch, VmFd};
use thiserror::Error;
use vmm_proto::{RestoreConfig, Stats, VmConfig};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::acpi::MmioWindow;
use crate::bus::{Bus, BusDevice, OverlapError};
use crate::layout::{GSI_COUNT, VIRTIO_GSI_START, VIRTIO_START};
use crate::memory::GuestMemory;
use crate::virtio::block::{Block, BlockConfig, BlockCounters, BlockError};
use crate::virtio::net::{Net, NetCounters};
use crate::virtio::rng::Rng;
use crate::virtio::vsock::{Vsock, VsockConfig, VsockCounters, VsockError};
use crate::virtio::{
    DeviceError, DeviceState, InterruptLine, MMIO_WINDOW_BYTES, MmioDevice, MmioError, OwnFiles,
    TransportState, VirtioDevice,
};

/// Offsets of `QueueNotify` and `InterruptACK` in a window (virtio 1.2, section 4.2.2).
const QUEUE_NOTIFY: u64 = 0x50;
const INTERRUPT_ACK: u64 = 0x64;

#[derive(Debug, Error)]
pub enum DevicesError {
    #[error("there is no interrupt line or address left for device {index}")]
    NoRoom { index: u32 },
    #[error("the snapshot is of other devices")]
    NotThese,
    #[error("cannot make the root disk")]
    Block(#[source] BlockError),
    #[error("cannot make the source of random numbers")]
    Rng(#[source] io::Error),
    #[error("cannot make the socket device")]
    Vsock(#[source] VsockError),
    #[error("cannot put device {index} on its transport")]
    Transport {
        index: u32,
        #[source]
        source: MmioError,
    },
    #[error("KVM cannot wire device {index}")]
    Wire {
        index: u32,
        #[source]
        source: kvm_ioctls::Error,
    },
}

#[derive(Debug)]
pub(crate) struct Devices {
    slots: Vec<Slot>,
    block: Arc<BlockCounters>,
    vsock: Arc<VsockCounters>,
    net: Arc<NetCounters>,
}

#[derive(Debug)]
struct Slot {
    device: MmioDevice,
    window: MmioWindow,
    /// Where acknowledgements of interrupts go; nobody reads it. Each device has a line of its own, so a status that says
    /// for good that buffers may have been used is never wrong, and KVM can take the guest's word without an exit to this
    /// process.
    acknowledged: EventFd,
}

impl Devices {
    /// Opens what the configuration names and wires it to the VM's interrupt controller and doorbells.
    pub(crate) fn open(
        config: &VmConfig,
        memory: &GuestMemory,
        vm: &Arc<VmFd>,
    ) -> Result<Self, DevicesError> {
        let block = Block::open(BlockConfig {
            base: config.disk.base.clone(),
            layer: config.disk.layer.clone(),
            size_bytes: config.disk.size_bytes,
        })
        .map_err(DevicesError::Block)?;
        let vsock = Vsock::bind(VsockConfig {
            guest_cid: config.vsock.guest_cid,
            socket: config.vsock.socket.clone(),
        })
        .map_err(DevicesError::Vsock)?;
        Self::attach(block, vsock, Net::new(), memory, vm)
    }

    fn attach(
        block: Block,
        vsock: Vsock,
        net: Net,
        memory: &GuestMemory,
        vm: &Arc<VmFd>,
    ) -> Result<Self, DevicesError> {
        let (block_counters, vsock_counters, net_counters) =
            (block.counters(), vsock.counters(), net.counters());
        let rng = Rng::new().map_err(DevicesError::Rng)?;
        // The guest numbers its disks in this order.
        let devices: Vec<Box<dyn VirtioDevice>> =
            vec![Box::new(block), Box::new(vsock), Box::new(rng), Box::new(net)];
        let slots = (0..)
            .zip(devices)
            .map(|(index, device)| Slot::attach(index, device, memory, vm))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            slots,
            block: block_counters,
            vsock: vsock_counters,
            net: net_counters,
        })
    }

    /// The devices of a snapshot, wired to the VM built for it. `disk` has the blocks of the disk.
    pub(crate) fn restore(
        config: &RestoreConfig,
        memory: &GuestMemory,
        vm: &Arc<VmFd>,
        disk: File,
        saved: &[(TransportState, DeviceState)],
    ) -> Result<Self, DevicesError> {
        let [
            (_, DeviceState::Block(block)),
            (_, DeviceState::Vsock(vsock)),
            (_, DeviceState::Nothing),
            (_, DeviceState::Net(net)),
        ] = saved
        else {
            return Err(DevicesError::NotThese);
        };
        let block = Block::restore(&config.base, &config.layer, disk, block).map_err(DevicesError::Block)?;
        let vsock = Vsock::restore(
            VsockConfig {
                guest_cid: config.vsock.guest_cid,
                socket: config.vsock.socket.clone(),
            },
            vsock,
        )
        .map_err(DevicesError::Vsock)?;
        let devices = Self::attach(block, vsock, Net::restore(net), memory, vm)?;
        for ((index, slot), (transport, _)) in (0..).zip(&devices.slots).zip(saved) {
            let failed = |source| DevicesError::Transport { index, source };
            slot.device.restore(transport).map_err(failed)?;
        }
        Ok(devices)
    }

    /// All that makes the devices continue in another process; the disk's blocks go to `disk`.
    pub(crate) fn save(&self, disk: &File) -> Result<Vec<(TransportState, DeviceState)>, DeviceError> {
        self.iter().map(|device| device.save(disk)).collect()
    }

    /// The same devices in a clone, wired to its VM.
    pub(crate) fn inherit(self, vm: &Arc<VmFd>, files: &mut OwnFiles) -> Result<Self, DevicesError> {
        let slots = (0..)
            .zip(self.slots)
            .map(|(index, slot)| slot.inherit(index, vm, files))
            .collect::<Result<_, _>>()?;
        Ok(Self { slots, ..self })
    }

    /// The VM is about to be cloned (see [`VirtioDevice::share`]).
    pub(crate) fn share(&self, files: &mut OwnFiles) {
        self.iter().for_each(|device| device.share(files));
    }

    /// Gives the VM this wire instead of the one it has, if it has one.
    pub(crate) fn rewire(&self, wire: OwnedFd) {
        let mut files = OwnFiles {
            wire: Some(wire),
            ..OwnFiles::default()
        };
        self.iter().for_each(|device| device.replace(&mut files));
    }

    /// Descriptors a clone needs.
    pub(crate) fn kept(&self) -> Vec<RawFd> {
        self.iter().flat_map(MmioDevice::kept).collect()
    }

    /// What the guest is told about.
    pub(crate) fn windows(&self) -> Vec<MmioWindow> {
        self.slots.iter().map(|slot| slot.window).collect()
    }

    /// The bus of everything that is not RAM.
    pub(crate) fn bus(&self) -> Result<Bus, OverlapError> {
        let mut bus = Bus::default();
        for slot in &self.slots {
            let start = u64::from(slot.window.start);
            let range = start..start + u64::from(slot.window.bytes);
            bus.insert(range, Arc::new(slot.device.clone()))?;
        }
        Ok(bus)
    }

    /// Fills in what the devices counted.
    pub(crate) fn count(&self, stats: &mut Stats) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        stats.disk_layer_bytes = read(&self.block.layer_bytes);
        stats.block_reads = read(&self.block.reads);
        stats.block_writes = read(&self.block.writes);
        stats.block_flushes = read(&self.block.flushes);
        stats.vsock_rx_bytes = read(&self.vsock.rx_bytes);
        stats.vsock_tx_bytes = read(&self.vsock.tx_bytes);
        stats.vsock_connections = read(&self.vsock.connections_open);
        stats.net_rx_packets = read(&self.net.rx_packets);
        stats.net_rx_bytes = read(&self.net.rx_bytes);
        stats.net_rx_dropped = read(&self.net.rx_dropped);
        stats.net_tx_packets = read(&self.net.tx_packets);
        stats.net_tx_bytes = read(&self.net.tx_bytes);
        stats.net_tx_dropped = read(&self.net.tx_dropped);
    }

    /// The handles the main loop subscribes.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &MmioDevice> {
        self.slots.iter().map(|slot| &slot.device)
    }
}

impl Slot {
    fn attach(
        index: u32,
        device: Box<dyn VirtioDevice>,
        memory: &GuestMemory,
        vm: &Arc<VmFd>,
    ) -> Result<Self, DevicesError> {
        let window = window(index).ok_or(DevicesError::NoRoom { index })?;
        let line = Box::new(KvmLine::new(vm, window.gsi));
        let device = MmioDevice::new(device, memory.clone(), line)
            .map_err(|source| DevicesError::Transport { index, source })?;
        let slot = Self {
            device,
            window,
            acknowledged: event(index)?,
        };
        slot.wire(index, vm)?;
        Ok(slot)
    }

    fn inherit(self, index: u32, vm: &Arc<VmFd>, files: &mut OwnFiles) -> Result<Self, DevicesError> {
        let line = Box::new(KvmLine::new(vm, self.window.gsi));
        let device = self
            .device
            .inherit(line, files)
            .map_err(|source| DevicesError::Transport { index, source })?;
        // The parent's descriptor is closed already, and its number may be somebody else's.
        std::mem::forget(self.acknowledged);
        let slot = Self {
            device,
            window: self.window,
            acknowledged: event(index)?,
        };
        slot.wire(index, vm)?;
        Ok(slot)
    }

    /// Lets KVM ring the device's doorbells, and take acknowledgements.
    fn wire(&self, index: u32, vm: &VmFd) -> Result<(), DevicesError> {
        let transport = |source| DevicesError::Transport { index, source };
        let acknowledge = IoEventAddress::Mmio(u64::from(self.window.start) + INTERRUPT_ACK);
        vm.register_ioevent(&self.acknowledged, &acknowledge, NoDatamatch)
            .map_err(|source| DevicesError::Wire { index, source })?;
        let doorbell = IoEventAddress::Mmio(u64::from(self.window.start) + QUEUE_NOTIFY);
        for (queue, notifier) in (0_u32..).zip(self.device.queue_notifiers().map_err(transport)?) {
            vm.register_ioevent(&notifier, &doorbell, queue)
                .map_err(|source| DevicesError::Wire { index, source })?;
        }
        Ok(())
    }
}

fn event(index: u32) -> Result<EventFd, DevicesError> {
    EventFd::new(EFD_NONBLOCK).map_err(|error| DevicesError::Transport {
        index,
        source: MmioError::EventFd(error),
    })
}

/// An input of the in-kernel I/O APIC.
///
/// Two system calls an edge, and still cheaper than an event descriptor wired to it (irqfd): KVM injects those from a
/// kernel worker unless they are MSIs, which costs a context switch before the vCPU can be woken.
#[derive(Debug)]
pub(crate) struct KvmLine {
    vm: Arc<VmFd>,
    gsi: u32,
}

impl KvmLine {
    pub(crate) fn new(vm: &Arc<VmFd>, gsi: u32) -> Self {
        Self {
            vm: Arc::clone(vm),
            gsi,
        }
    }
}

impl InterruptLine for KvmLine {
    fn pulse(&self) {
        for level in [true, false] {
            // Fails only for a line that does not exist, and this one was drawn from those that do.
            let _ = self.vm.set_irq_line(self.gsi, level);
        }
    }
}

/// Address and interrupt line of the device with this number.
fn window(index: u32) -> Option<MmioWindow> {
    let gsi = VIRTIO_GSI_START
        .checked_add(index)
        .filter(|gsi| *gsi < GSI_COUNT)?;
    let start = VIRTIO_START + MMIO_WINDOW_BYTES * u64::from(index);
    Some(MmioWindow {
        start: u32::try_from(start).ok()?,
        bytes: u32::try_from(MMIO_WINDOW_BYTES).ok()?,
        gsi,
    })
}

impl BusDevice for MmioDevice {
    fn read(&self, offset: u64, data: &mut [u8]) {
        MmioDevice::read(self, offset, data);
    }

    fn write(&self, offset: u64, data: &[u8]) {
        MmioDevice::write(self, offset, data);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_do_not_overlap_and_end_with_the_interrupt_lines() {
        let windows: Vec<_> = (0..).map_while(window).collect();
        assert_eq!(windows.len(), 8);
        for pair in windows.windows(2) {
            assert_eq!(pair[0].start + pair[0].bytes, pair[1].start);
            assert_eq!(pair[0].gsi + 1, pair[1].gsi);
        }
    }
}
