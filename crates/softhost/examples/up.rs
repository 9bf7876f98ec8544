//! Starts the software host by hand, from an image cache and binaries that are there: `up RUN_DIR CACHE PORT
//! HOSTD VMM NETD GUEST_INITRD`, with a state disk in the run directory's parent. Ctrl-C stops it.
//! Other first words: `status`, `stop`, `stats`, `exec RUN_DIR COMMAND`, `decide VMM`, `doctor RUN_DIR`.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "an example talks to a terminal")]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Duration;

use image::{BuildOptions, ImageStore, MirrorSetting, Silent, require_packages, state_disk};
use softhost::{
    DoctorInput, HostSetting, Limits, Plan, QEMU_PACKAGES, Settings, SoftwareFiles, SoftwarePlan, decide,
    diagnose, exec_in_machine, machine_memory_mib, machine_stats, status, stop, supervise,
};

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["up", run_dir, cache, port, hostd, vmm, netd, guest_initrd] => {
            let settings = settings(run_dir, port.parse()?);
            up(
                &settings,
                Path::new(cache),
                [hostd, vmm, netd, guest_initrd].map(PathBuf::from),
            )
        }
        ["status", run_dir] => print(&status(Path::new(run_dir))?),
        ["stop", run_dir] => print(&stop(Path::new(run_dir), &Limits::default())?),
        ["stats", run_dir] => answer(&machine_stats(Path::new(run_dir))?),
        ["exec", run_dir, command] => answer(&exec_in_machine(
            Path::new(run_dir),
            command,
            Duration::from_secs(30),
        )?),
        ["decide", vmm] => print(&decide(
            HostSetting::Auto,
            Path::new(vmm),
            Limits::default().trial,
        )),
        ["doctor", run_dir] => {
            let nowhere = Path::new("/nowhere");
            let settings = settings(run_dir, 7070);
            let input = DoctorInput {
                settings: &settings,
                cache_dir: Path::new(run_dir),
                state_dir: Path::new(run_dir),
                hostd: nowhere,
                vmm: nowhere,
                netd: nowhere,
                images: &[],
            };
            diagnose(&input).iter().try_for_each(print)
        }
        _ => Err("see the source for its words".into()),
    }
}

fn settings(run_dir: &str, port: u16) -> Settings {
    Settings {
        run_dir: run_dir.into(),
        port,
        memory_mib: Some(4096),
        host: HostSetting::Auto,
        hostd_arguments: Vec::new(),
        hostd_environment: vec![("PODFLARE_AUTH_DISABLED".to_owned(), "1".to_owned())],
        limits: Limits::default(),
    }
}

fn up(
    settings: &Settings,
    cache: &Path,
    [hostd, vmm, netd, guest_initrd]: [PathBuf; 4],
) -> Result<(), Box<dyn Error>> {
    require_packages(QEMU_PACKAGES, &Silent)?;
    let store = ImageStore::open(cache)?;
    let options = BuildOptions {
        mirror: MirrorSetting::from_env(),
        refresh: false,
        progress: &Silent,
    };
    let kernel = store.kernel(&options)?;
    let images_disk = store.images_disk(&kernel, &[], &options)?;
    let state = settings.run_dir.with_extension("state.ext4");
    state_disk(&state, 4, &Silent)?;
    let files = SoftwareFiles {
        images_disk,
        state_disk: state,
        guest_initrd,
        hostd,
        vmm,
        netd,
        authority: settings.run_dir.with_extension("authority"),
    };
    let memory_mib = machine_memory_mib(settings.memory_mib)?;
    let plan = Plan::Software(SoftwarePlan::new(&kernel, files, memory_mib)?);
    print(&supervise(settings, &plan, "tried by hand")?)
}

fn print(value: &impl std::fmt::Debug) -> Result<(), Box<dyn Error>> {
    println!("{value:?}");
    Ok(())
}

fn answer(answer: &softhost::Answer) -> Result<(), Box<dyn Error>> {
    println!(
        "status {}\n{}",
        answer.status,
        String::from_utf8_lossy(&answer.output)
    );
    Ok(())
}
