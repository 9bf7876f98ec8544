//! `podflare-vmm boot`: a VM in the foreground.

use std::io;
use std::path::PathBuf;

use clap::Args;
use vmm::{MainLoop, RunError};
use vmm_proto::{ConsoleConfig, DiskConfig, EndReport, VmConfig, VsockConfig};

/// Bytes the console log is bounded to.
const LOG_BYTES_MAX: u64 = 1024 * 1024;

#[derive(Debug, Args)]
pub(crate) struct BootArguments {
    /// Uncompressed kernel (ELF vmlinux)
    #[arg(long)]
    kernel: PathBuf,
    #[arg(long)]
    initrd: PathBuf,
    /// Root disk image; it is not changed
    #[arg(long)]
    disk: PathBuf,
    /// Size of the disk the guest sees, in MiB; that of the image if not given
    #[arg(long)]
    disk_mib: Option<u64>,
    /// Directory for the control socket, the vsock socket, the console log and what the guest writes to its disk
    #[arg(long, default_value = ".")]
    dir: PathBuf,
    #[arg(long, default_value_t = 1)]
    vcpus: u8,
    #[arg(long, default_value_t = 512)]
    ram_mib: u32,
    /// Appended to the kernel's command line
    #[arg(long, default_value = "", allow_hyphen_values = true)]
    append: String,
}

pub(crate) fn run(arguments: &BootArguments) -> Result<EndReport, RunError> {
    let mut main_loop = MainLoop::new()?;
    main_loop.listen(&arguments.dir.join("control.sock"))?;
    main_loop.start(&arguments.config(), Some(io::stdout()))?;
    main_loop.run()
}

impl BootArguments {
    fn config(&self) -> VmConfig {
        // A missing image is reported by whoever opens it.
        let image_bytes = std::fs::metadata(&self.disk).map_or(0, |disk| disk.len());
        VmConfig {
            vcpus: self.vcpus,
            ram_mib: self.ram_mib,
            kernel: self.kernel.clone(),
            initrd: self.initrd.clone(),
            kernel_arguments: self.append.clone(),
            disk: DiskConfig {
                base: self.disk.clone(),
                layer: self.dir.join("disk.layer"),
                size_bytes: self.disk_mib.map_or(image_bytes, |mib| mib << 20),
            },
            vsock: VsockConfig {
                guest_cid: 3,
                socket: self.dir.join("vsock.sock"),
            },
            console: ConsoleConfig {
                log: self.dir.join("console.log"),
                log_bytes_max: LOG_BYTES_MAX,
            },
        }
    }
}
