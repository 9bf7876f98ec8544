//! The command line of the software host.
//!
//! Each choice here was measured or has cost somebody a day:
//!
//! * `q35`, never `microvm`: the latter has neither HPET nor PM timer, and on a busy machine the kernel then fails
//!   to calibrate its TSC and hangs at boot. Parts of `q35` nobody uses are left out, which saves PCI scanning.
//! * One emulated CPU: QEMU's SVM emulation is not safe when VMs run on several.
//! * No `erms`, no `fsrm`: with them kernel and C library clear and copy memory by `rep stosb` and `rep movsb`, which
//!   TCG carries out byte by byte. Loading a kernel into a guest took 300 µs a page with them and takes 65 without.
//! * No `la57`: a fifth level makes each walk of the page tables longer, and of nested ones twice.
//! * `init_on_alloc=0`: pages are cleared where they change hands, not once more when the kernel takes them.
//! * The kernel is the ELF file, started at its PVH entry: unpacking the packaged one takes 1.2 s of emulated CPU.
//! * `mitigations=off`: the emulated CPU runs nothing speculatively, and the code QEMU makes of a retpoline is an
//!   indirect jump like any other, so the mitigations cost time on every kernel entry and VM exit and give nothing.
//! * Initcalls left out: the jitter entropy self-test (the machine has virtio-rng), and loading the certificates
//!   modules are checked against (they come unsigned, see [`initrd`](crate::initrd)).
//! * `transparent_hugepage=madvise`: VM processes ask for huge pages where they gain by them; nobody shall copy the memory
//!   of the others together.
//! * `-sandbox on`: should a guest break out of the emulation, QEMU itself can start no program and gain no right.
//! * The daemon's log has a virtio port: one exit for each line. Through the serial console each byte costs 7 µs, a line
//!   2 to 3 ms of the only CPU. Both end up in one file. `ioeventfd=off`: the guest's kernel spins until a line is taken,
//!   so it is taken at once and not by QEMU's main loop.
//! * No `-daemonize`: the supervisor is the parent, and knows at once when the machine ends.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use image::Package;

use crate::plan::SoftwarePlan;
use crate::run_dir::RunDir;
use crate::timed;

/// The program, and the Debian package it comes in.
pub const QEMU_PACKAGES: &[Package] = &[Package {
    binary: "qemu-system-x86_64",
    package: "qemu-system-x86",
}];

/// The program.
pub(crate) const QEMU: &str = "qemu-system-x86_64";
/// The option by whose value a machine of a run directory is recognised.
pub(crate) const PID_OPTION: &str = "-pidfile";
/// Where the daemon's log leaves the machine; `init.sh` looks for it by this name.
const LOG_PORT: &str = "podflare.log";
/// The machine's only network.
pub(crate) const NETDEV: &str = "net";
/// Oldest QEMU the software host was tried with.
pub(crate) const VERSION_MIN: (u32, u32) = (7, 2);

/// Emulated SVM with nested paging, and without what only costs time in emulation: see the top of this file.
const CPU: &str = "max,+svm,+npt,-la57,-erms,-fsrm";

/// `panic=-1` with `-no-reboot` turns a kernel panic into the end of QEMU, which the supervisor sees at once.
const KERNEL_ARGUMENTS: &str = "console=ttyS0 quiet loglevel=4 rdinit=/init tsc=reliable panic=-1 oops=panic \
    mitigations=off init_on_alloc=0 randomize_kstack_offset=off psi=0 noautogroup nowatchdog audit=0 lsm=landlock random.trust_cpu=on \
    transparent_hugepage=madvise initcall_blacklist=jent_mod_init,load_system_certificate_list";

/// Everything after the program's name. The working directory must be the run directory: the control socket is
/// named relative to it, as the address of a Unix socket may have no more than 107 bytes.
pub(crate) fn arguments(plan: &SoftwarePlan, run_dir: &RunDir, port: u16) -> Vec<OsString> {
    let mut line = CommandLine::default();
    line.text("-name", "podflare,process=podflare-host");
    line.flag("-no-user-config");
    line.flag("-nodefaults");
    line.text("-machine", "q35,usb=off,sata=off,smbus=off,i8042=off,vmport=off");
    line.text("-accel", "tcg,thread=multi");
    line.text("-cpu", CPU);
    line.text("-smp", "1");
    line.text("-m", &plan.memory_mib.to_string());
    line.path("-kernel", &plan.vmlinux);
    line.path("-initrd", &run_dir.initrd());
    line.text("-append", KERNEL_ARGUMENTS);
    for disk in [
        Disk {
            name: "images",
            path: &plan.images_disk,
            options: ",read-only=on",
            slot: "0x2",
        },
        Disk {
            name: "state",
            path: &plan.state_disk,
            options: ",discard=unmap,cache.direct=off",
            slot: "0x3",
        },
    ] {
        let Disk {
            name,
            path,
            options,
            slot,
        } = disk;
        // Locking keeps two machines from writing to one disk.
        let start =
            format!("driver=raw,node-name={name}{options},file.driver=file,file.locking=on,file.filename=");
        line.option_with_path("-blockdev", &start, path, "");
        line.text(
            "-device",
            &format!("virtio-blk-pci,drive={name},serial=podflare-{name},addr={slot},disable-legacy=on"),
        );
    }
    let inside = crate::initrd::INSIDE_ADDRESS;
    line.text(
        "-netdev",
        &format!("user,id={NETDEV},ipv6=off,hostfwd=tcp:127.0.0.1:{port}-{inside}"),
    );
    // An empty romfile: nothing is booted from the network, and loading the ROM for it takes time.
    line.text(
        "-device",
        &format!("virtio-net-pci,netdev={NETDEV},romfile=,addr=0x4,disable-legacy=on"),
    );
    line.text("-device", "virtio-rng-pci,addr=0x5,disable-legacy=on");
    line.option_with_path(
        "-chardev",
        "file,id=console,append=on,path=",
        &run_dir.console(),
        "",
    );
    line.text("-serial", "chardev:console");
    line.text(
        "-chardev",
        "socket,id=control,path=control.sock,server=on,wait=off",
    );
    line.text("-serial", "chardev:control");
    line.text(
        "-device",
        "virtio-serial-pci,max_ports=2,ioeventfd=off,addr=0x6,disable-legacy=on",
    );
    line.option_with_path("-chardev", "file,id=log,append=on,path=", &run_dir.console(), "");
    line.text("-device", &format!("virtserialport,chardev=log,name={LOG_PORT}"));
    line.text("-display", "none");
    line.text("-monitor", "none");
    // For captures; whoever may enter the run directory may do anything to the machine already.
    line.text(
        "-chardev",
        "socket,id=monitor,path=monitor.sock,server=on,wait=off",
    );
    line.text("-mon", "chardev=monitor,mode=control");
    line.flag("-no-reboot");
    line.path(PID_OPTION, &run_dir.machine_pid());
    line.text(
        "-sandbox",
        "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
    );
    line.arguments
}

/// Major and minor version of the QEMU that is installed.
pub(crate) fn version() -> Option<(u32, u32)> {
    let mut command = Command::new(QEMU);
    command.arg("--version");
    parse_version(&timed::run(command, Duration::from_secs(10)).ok()?.stdout)
}

/// Whether that QEMU can emulate a CPU at all; some builds only do KVM.
pub(crate) fn has_tcg() -> bool {
    let mut command = Command::new(QEMU);
    command.args(["-accel", "help"]);
    timed::run(command, Duration::from_secs(10))
        .is_ok_and(|finished| finished.stdout.lines().any(|line| line == "tcg"))
}

fn parse_version(text: &str) -> Option<(u32, u32)> {
    let numbers = text.split_once("version ")?.1;
    let mut parts = numbers.split(|character: char| !character.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[derive(Debug)]
struct Disk<'a> {
    name: &'static str,
    path: &'a Path,
    options: &'static str,
    /// Fixed, so that devices are found in the same order on every boot.
    slot: &'static str,
}

#[derive(Debug, Default)]
struct CommandLine {
    arguments: Vec<OsString>,
}

impl CommandLine {
    fn flag(&mut self, flag: &str) {
        self.arguments.push(flag.into());
    }

    fn text(&mut self, option: &str, value: &str) {
        self.arguments.extend([option.into(), value.into()]);
    }

    fn path(&mut self, option: &str, value: &Path) {
        self.arguments.extend([option.into(), absolute(value).into()]);
    }

    /// Commas separate settings within an option's value; one that belongs to a path is doubled.
    fn option_with_path(&mut self, option: &str, start: &str, path: &Path, end: &str) {
        let mut value = OsString::from(start);
        value.push(doubled_commas(absolute(path).as_os_str()));
        value.push(end);
        self.arguments.extend([option.into(), value]);
    }
}

/// QEMU works in the run directory, where a relative path would mean something else.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

fn doubled_commas(text: &OsStr) -> OsString {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let mut doubled = Vec::with_capacity(text.len());
    for byte in text.as_bytes() {
        doubled.push(*byte);
        if *byte == b',' {
            doubled.push(b',');
        }
    }
    OsString::from_vec(doubled)
}

#[cfg(test)]
mod tests;
