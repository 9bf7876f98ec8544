//! The entropy device, virtio 1.2 section 5.4: fills the driver's buffers with random bytes of the host.
//!
//! Two bounds keep a greedy guest from taking the main loop for itself: what one request gets (a driver copes with
//! less than it asked for), and what all get in a period; requests beyond that wait for the next period.

use std::io;
use std::os::fd::{AsRawFd as _, RawFd};
use std::time::{Duration, Instant};

use event_manager::EventSet;
use rustix::rand::{GetRandomFlags, getrandom};
use virtio_bindings::virtio_ids::VIRTIO_ID_RNG;
use vmm_sys_util::timerfd::TimerFd;

use super::device::{DeviceError, DeviceEvent, Host, OwnFiles, Progress, Rings, VirtioDevice};

/// Linux asks for 32 to 64 bytes at a time.
const QUEUE_SIZE: u16 = 64;
const QUEUE: usize = 0;
const TIMER_TOKEN: u32 = 0;

/// Most bytes one request gets.
pub const REQUEST_BYTES_MAX: usize = 64 * 1024;

/// Bytes all requests together get in a period: 2.5 MiB a second, far beyond what seeding takes, and about a hundredth
/// of what one core of the host can make.
pub const PERIOD_BYTES: usize = 256 * 1024;
pub const PERIOD: Duration = Duration::from_millis(100);

/// What a request counts for at least, so that empty ones are bounded too: 1024 requests in a period.
const REQUEST_COST_MIN: usize = 256;

/// The device.
#[derive(Debug)]
pub struct Rng {
    /// Bytes left to give in this period.
    left: usize,
    period_began: Instant,
    /// Wakes us at the end of a period in which requests had to wait.
    timer: TimerFd,
}

impl Rng {
    /// # Errors
    /// The process is out of file descriptors.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            left: PERIOD_BYTES,
            period_began: Instant::now(),
            timer: TimerFd::new()?,
        })
    }

    fn serve(&mut self, rings: &mut Rings<'_>) -> Result<(), DeviceError> {
        self.refill();
        while let Some(mut ring) = rings.ring(QUEUE) {
            ring.unwatch()?;
            while self.left > 0 {
                let Some(chain) = ring.pop()? else { break };
                let len = chain.writable.len().min(REQUEST_BYTES_MAX).min(self.left);
                let mut bytes = vec![0; len];
                fill(&mut bytes).map_err(DeviceError::Host)?;
                let written = chain.writable.copy_from(&bytes);
                self.left = self.left.saturating_sub(written.max(REQUEST_COST_MIN));
                ring.push_used(chain.head, u32::try_from(written).unwrap_or(u32::MAX))?;
            }
            if self.left == 0 {
                self.timer
                    .reset(PERIOD, None)
                    .map_err(|error| DeviceError::Host(error.into()))?;
                break;
            }
            if !ring.watch()? {
                break;
            }
        }
        rings.interrupt_for(&[QUEUE])
    }

    fn refill(&mut self) {
        let now = Instant::now();
        if now.duration_since(self.period_began) >= PERIOD {
            self.period_began = now;
            self.left = PERIOD_BYTES;
        }
    }
}

/// By the system call and nothing else: no descriptor, no path.
fn fill(bytes: &mut [u8]) -> io::Result<()> {
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match getrandom(rest, GetRandomFlags::empty()) {
            Ok(count) => filled += count,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

impl VirtioDevice for Rng {
    fn id(&self) -> u32 {
        VIRTIO_ID_RNG
    }

    fn features(&self) -> u64 {
        0
    }

    fn queue_sizes(&self) -> &[u16] {
        &[QUEUE_SIZE]
    }

    fn config(&self) -> &[u8] {
        &[]
    }

    fn start(&mut self, host: &mut Host<'_, '_>) -> Result<(), DeviceError> {
        host.watch(&self.timer, TIMER_TOKEN, EventSet::IN)
    }

    fn handle(
        &mut self,
        event: DeviceEvent,
        rings: &mut Rings<'_>,
        host: &mut Host<'_, '_>,
    ) -> Result<Progress, DeviceError> {
        if matches!(event, DeviceEvent::Host { .. }) {
            self.handle_idle(event, host);
        }
        self.serve(rings)?;
        Ok(Progress::Done)
    }

    fn handle_idle(&mut self, event: DeviceEvent, _host: &mut Host<'_, '_>) {
        if matches!(event, DeviceEvent::Host { .. }) {
            // The timer is readable, so this does not wait; it only clears it.
            let _ = self.timer.wait();
        }
    }

    fn reset(&mut self) {}

    fn kept(&self) -> Vec<RawFd> {
        vec![self.timer.as_raw_fd()]
    }

    fn inherit(&mut self, _files: &mut OwnFiles) -> io::Result<()> {
        // A timer that is shared with the parent would wake one of the two.
        *self = Self::new()?;
        Ok(())
    }
}
