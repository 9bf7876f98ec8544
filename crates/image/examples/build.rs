//! Builds everything into a cache directory and says where it is:
//! `cargo run -p image --example build -- CACHE_DIR [--refresh] [--ca PATH]... [--agent STATIC_BINARY]`.
#![expect(clippy::print_stdout, reason = "a program for trying things by hand")]

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use image::{
    BuildOptions, DEFAULT_ROOTFS_GIB, GuestInitrd, ImageStore, MirrorSetting, Progress, RootfsRequest,
    Template, guest_initrd, software_host_modules, state_disk,
};
use pod_types::ErrorChain;

#[derive(Debug)]
struct Lines(Instant);

impl Progress for Lines {
    fn step(&self, text: &str) {
        println!("[{:7.2} s] {text} ...", self.0.elapsed().as_secs_f32());
    }

    fn detail(&self, text: &str) {
        println!("[{:7.2} s]     {text}", self.0.elapsed().as_secs_f32());
    }

    fn warn(&self, text: &str) {
        println!("[{:7.2} s] warning: {text}", self.0.elapsed().as_secs_f32());
    }

    fn done(&self, text: &str) {
        println!("[{:7.2} s] {text}", self.0.elapsed().as_secs_f32());
    }
}

fn main() -> ExitCode {
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("error: {}", ErrorChain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let cache = PathBuf::from(
        arguments
            .next()
            .ok_or("usage: build CACHE_DIR [--refresh] [--ca PATH] [--agent PATH]")?,
    );
    let (mut refresh, mut certificates, mut agent) = (false, Vec::new(), None);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--refresh" => refresh = true,
            "--ca" => certificates.extend(arguments.next().map(PathBuf::from)),
            "--agent" => agent = arguments.next().map(PathBuf::from),
            _ => return Err(format!("unknown argument {argument}").into()),
        }
    }
    let progress = Lines(Instant::now());
    let options = BuildOptions {
        mirror: MirrorSetting::from_env(),
        refresh,
        progress: &progress,
    };
    let store = ImageStore::open(&cache)?;

    let kernel = store.kernel(&options)?;
    println!(
        "kernel {}: {} {}",
        kernel.release(),
        kernel.vmlinux().display(),
        kernel.vmlinuz().display()
    );
    println!("busybox: {}", kernel.busybox().display());
    for module in software_host_modules(&kernel)? {
        println!("software host module {module:?}");
    }
    let request = RootfsRequest {
        templates: &Template::all_built_in()?,
        size_gib: DEFAULT_ROOTFS_GIB,
        extra_certificates: &certificates,
    };
    let rootfs = store.rootfs(&request, &options)?;
    for rootfs in &rootfs {
        println!("root file system: {}", rootfs.image().display());
    }
    println!(
        "images disk: {}",
        store.images_disk(&kernel, &rootfs, &options)?.display()
    );
    let state = cache.join("state.ext4");
    state_disk(&state, 8, &progress)?;
    println!("state disk: {}", state.display());
    if let Some(agent) = agent {
        let started = Instant::now();
        let parts = GuestInitrd {
            agent: &agent,
            authority: None,
        };
        let bytes = guest_initrd(&kernel, parts)?.len();
        println!("guest initrd: {bytes} bytes in {:?}", started.elapsed());
        println!("guest initrd: {}", store.guest_initrd(&kernel, parts)?.display());
    }
    println!("done in {:?}", progress.0.elapsed());
    Ok(())
}
