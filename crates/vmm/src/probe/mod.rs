//! Can this host run an ordinary guest?
//!
//! A `/dev/kvm` that opens proves nothing: some hosts have one that answers every question and then runs an ordinary
//! kernel through instruction emulation, for ever. So a small guest does what kernels do on their first milliseconds
//! ([`guest`]), and has to be through within [`PATIENCE`].
//!
//! The caller runs this in a process of its own under a time limit: a broken KVM may not even return from an ioctl.

mod guest;

use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use kvm_bindings::{kvm_regs, kvm_segment, kvm_userspace_memory_region};
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd};
use serde::Serialize;
use thiserror::Error;
use vm_memory::{Bytes as _, GuestAddress, GuestMemoryBackend as _, GuestMemoryError};
use vmm_sys_util::signal::Killable as _;

use crate::layout;
use crate::memory::GuestMemory;
use crate::vcpu::{self, ExitFlag};

/// How long the guest may take. On hardware it needs a few milliseconds, on emulated hardware some tens.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the thread is waited for after that, before the process ends with it.
const KICK_PATIENCE: Duration = Duration::from_millis(500);
/// RAM of the guest, in bytes.
const RAM_BYTES: usize = 2 << 20;

/// What is printed as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProbeReport {
    /// An ordinary guest runs here.
    pub ok: bool,
    /// From the first instruction of the guest to its last, in microseconds; 0 if it did not get there.
    pub micros: u64,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

#[derive(Debug, Error)]
pub(crate) enum ProbeError {
    #[error("cannot open /dev/kvm")]
    Open(#[source] kvm_ioctls::Error),
    #[error("KVM cannot {what}")]
    Kvm {
        what: &'static str,
        #[source]
        source: kvm_ioctls::Error,
    },
    #[error("cannot map memory for the guest")]
    Map(#[source] vm_memory::mmap::FromRangesError),
    #[error("cannot write the guest")]
    Write(#[source] GuestMemoryError),
    #[error("cannot prepare to interrupt the guest")]
    Signal(#[source] vmm_sys_util::errno::Error),
    #[error("cannot start a thread")]
    Thread(#[source] std::io::Error),
    #[error("the guest got no further than stage {stage} ({name}) in {} s", PATIENCE.as_secs())]
    TooSlow { stage: u8, name: &'static str },
    #[error("the guest stopped at stage {stage} ({name}): {exit}")]
    Stopped {
        stage: u8,
        name: &'static str,
        exit: String,
    },
}

/// Runs the guest.
#[must_use]
pub fn probe() -> ProbeReport {
    match run() {
        Ok(elapsed) => ProbeReport {
            ok: true,
            micros: u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX),
            reason: None,
        },
        Err(error) => ProbeReport {
            ok: false,
            micros: 0,
            reason: Some(pod_types::ErrorChain(&error).to_string()),
        },
    }
}

/// A message of the guest's thread.
enum Step {
    Stage(u8),
    Finished,
    Stopped(String),
}

fn run() -> Result<Duration, ProbeError> {
    let kvm = Kvm::new().map_err(ProbeError::Open)?;
    let memory = GuestMemory::from_ranges(&[(GuestAddress(0), RAM_BYTES)]).map_err(ProbeError::Map)?;
    memory
        .write_slice(guest::code(), GuestAddress(guest::LOAD_ADDRESS))
        .map_err(ProbeError::Write)?;
    let mut vcpu = create_vcpu(&kvm, &memory)?;

    vcpu::install_kick_handler().map_err(ProbeError::Signal)?;
    let exit_flag = ExitFlag::of(&mut vcpu);
    let (sender, steps) = mpsc::channel();
    let started = Instant::now();
    let thread = thread::Builder::new()
        .name("probe".to_owned())
        .spawn(move || {
            run_guest(&mut vcpu, &sender);
            // Returned, so that it lives until the flag is no longer used.
            vcpu
        })
        .map_err(ProbeError::Thread)?;

    let mut stage = 0;
    let outcome = loop {
        match steps.recv_timeout(PATIENCE.saturating_sub(started.elapsed())) {
            Ok(Step::Stage(reached)) => stage = reached,
            Ok(Step::Finished) => break Ok(started.elapsed()),
            Ok(Step::Stopped(exit)) => {
                break Err(ProbeError::Stopped {
                    stage,
                    name: guest::stage_name(stage),
                    exit,
                });
            }
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                break Err(ProbeError::TooSlow {
                    stage,
                    name: guest::stage_name(stage),
                });
            }
        }
    };
    exit_flag.raise();
    // Fails only when the thread has ended.
    let _ = thread.kill(vcpu::kick_signal());
    let gave_up = Instant::now();
    while !thread.is_finished() && gave_up.elapsed() < KICK_PATIENCE {
        thread::sleep(Duration::from_millis(1));
    }
    if thread.is_finished() {
        drop(thread.join());
    } else {
        // Stuck in the kernel. Its memory must stay mapped until the process ends, which is now.
        std::mem::forget(memory);
    }
    outcome
}

fn run_guest(vcpu: &mut VcpuFd, steps: &mpsc::Sender<Step>) {
    loop {
        let step = match vcpu.run() {
            Ok(VcpuExit::IoOut(guest::STAGE_PORT, [guest::STAGE_DONE])) => Step::Finished,
            Ok(VcpuExit::IoOut(guest::STAGE_PORT, [stage])) => Step::Stage(*stage),
            Ok(VcpuExit::Intr) => continue,
            Ok(exit) => Step::Stopped(format!("{exit:?}")),
            Err(error) if error.errno() == libc::EINTR => return,
            Err(error) => Step::Stopped(error.to_string()),
        };
        let over = !matches!(step, Step::Stage(_));
        if steps.send(step).is_err() || over {
            return;
        }
    }
}

/// A CPU in 32-bit protected mode with flat segments, as a boot loader leaves it.
fn create_vcpu(kvm: &Kvm, memory: &GuestMemory) -> Result<VcpuFd, ProbeError> {
    let failed = |what| move |source| ProbeError::Kvm { what, source };
    let vm = kvm.create_vm().map_err(failed("create a VM"))?;
    let host_address = memory
        .get_host_address(GuestAddress(0))
        .map_err(ProbeError::Write)?;
    let region = kvm_userspace_memory_region {
        slot: 0,
        guest_phys_addr: 0,
        memory_size: RAM_BYTES as u64,
        userspace_addr: host_address as u64,
        flags: 0,
    };
    // SAFETY: the range is the one mapping of `memory`, which `run` keeps until the vCPU is gone.
    unsafe { vm.set_user_memory_region(region) }.map_err(failed("take memory"))?;
    vm.set_identity_map_address(layout::KVM_IDENTITY_MAP_START)
        .map_err(failed("place its identity map"))?;
    #[expect(clippy::cast_possible_truncation, reason = "usize has 64 bits here")]
    vm.set_tss_address(layout::KVM_TSS_START as usize)
        .map_err(failed("place its TSS"))?;
    vm.create_irq_chip().map_err(failed("create interrupt chips"))?;
    let vcpu = vm.create_vcpu(0).map_err(failed("create a vCPU"))?;
    let cpuid = kvm
        .get_supported_cpuid(kvm_bindings::KVM_MAX_CPUID_ENTRIES)
        .map_err(failed("tell the CPU's features"))?;
    vcpu.set_cpuid2(&cpuid)
        .map_err(failed("set the CPU's features"))?;

    let mut system = vcpu.get_sregs().map_err(failed("give registers"))?;
    let flat = |type_, selector| kvm_segment {
        limit: u32::MAX,
        selector,
        type_,
        present: 1,
        db: 1,
        s: 1,
        g: 1,
        ..Default::default()
    };
    let data = flat(0b0011, 0x10);
    system.cs = flat(0b1011, 0x08);
    (system.ds, system.es, system.fs, system.gs, system.ss) = (data, data, data, data, data);
    system.cr0 |= 1;
    vcpu.set_sregs(&system).map_err(failed("set system registers"))?;
    vcpu.set_regs(&kvm_regs {
        rip: guest::LOAD_ADDRESS,
        rsp: guest::STACK_TOP,
        rflags: 2,
        ..Default::default()
    })
    .map_err(failed("set registers"))?;
    Ok(vcpu)
}
