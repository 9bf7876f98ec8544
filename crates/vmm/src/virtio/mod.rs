//! Virtio devices on the virtio-mmio transport, as virtio 1.2 has them.
//!
//! [`MmioDevice`] is the one thing the machine knows: it answers register accesses of vCPU threads, and gives the main
//! loop a subscriber. Behind it, a [`VirtioDevice`] works on its [`Rings`] in the main loop only.
//!
//! Everything the guest writes is hostile. Queues are checked whole when they become ready, chains are followed to
//! their end before anything is done for them, lengths are bounded before memory is taken, and a driver that breaks
//! the rules gets DEVICE_NEEDS_RESET and no further service until it resets the device.
//!
//! The devices hold plain data and descriptors. Between two events of the main loop no request is in flight, so that
//! moment is the one at which a VM can be cloned.

pub mod block;
pub mod net;
pub mod rng;
pub mod vsock;

mod device;
mod interrupt;
mod mmio;
mod queue_setup;
mod ring;
mod scatter;
mod transport;

#[cfg(any(test, feature = "fuzzing"))]
pub mod driver;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
#[cfg(test)]
mod tests;

pub use device::{
    DeviceError, DeviceEvent, DeviceState, Host, OwnFiles, Progress, Rings, TOKENS, VirtioDevice,
};
pub use interrupt::InterruptLine;
pub use mmio::{MMIO_WINDOW_BYTES, MmioDevice, MmioError};
pub use queue_setup::QueueSetupError;
pub use ring::{Chain, ChainError, Ring};
pub use scatter::{Scatter, ScatterError};
pub use transport::TransportState;
