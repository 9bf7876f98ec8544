//! The command line, word for word: a change to it is a decision.

use super::*;

fn plan() -> SoftwarePlan {
    SoftwarePlan {
        vmlinux: PathBuf::from("/cache/vmlinux"),
        busybox: Vec::new(),
        modules: Vec::new(),
        images_disk: PathBuf::from("/cache/images,v1.ext4"),
        state_disk: PathBuf::from("/state/state.ext4"),
        guest_initrd: PathBuf::new(),
        hostd: PathBuf::new(),
        vmm: PathBuf::new(),
        netd: PathBuf::new(),
        authority: PathBuf::new(),
        memory_mib: 4096,
    }
}

#[test]
fn the_command_line_is_the_one_that_was_measured() {
    let directory = tempfile::tempdir().unwrap();
    let run_dir = RunDir::open(directory.path()).unwrap();
    let arguments = arguments(&plan(), &run_dir, 7171);
    let words: Vec<String> = arguments
        .iter()
        .map(|word| {
            word.to_str()
                .unwrap()
                .replace(run_dir.root().to_str().unwrap(), "RUN")
        })
        .collect();
    let mut lines: Vec<String> = Vec::new();
    for word in words {
        match lines.last_mut() {
            Some(line) if !word.starts_with('-') => *line = format!("{line} {word}"),
            _ => lines.push(word),
        }
    }
    let expected = "\
-name podflare,process=podflare-host
-no-user-config
-nodefaults
-machine q35,usb=off,sata=off,smbus=off,i8042=off,vmport=off
-accel tcg,thread=multi
-cpu max,+svm,+npt,-la57,-erms,-fsrm
-smp 1
-m 4096
-kernel /cache/vmlinux
-initrd RUN/initrd.cpio
-append console=ttyS0 quiet loglevel=4 rdinit=/init tsc=reliable panic=-1 oops=panic mitigations=off init_on_alloc=0 randomize_kstack_offset=off psi=0 noautogroup nowatchdog audit=0 lsm=landlock random.trust_cpu=on transparent_hugepage=madvise initcall_blacklist=jent_mod_init,load_system_certificate_list
-blockdev driver=raw,node-name=images,read-only=on,file.driver=file,file.locking=on,file.filename=/cache/images,,v1.ext4
-device virtio-blk-pci,drive=images,serial=podflare-images,addr=0x2,disable-legacy=on
-blockdev driver=raw,node-name=state,discard=unmap,cache.direct=off,file.driver=file,file.locking=on,file.filename=/state/state.ext4
-device virtio-blk-pci,drive=state,serial=podflare-state,addr=0x3,disable-legacy=on
-netdev user,id=net,ipv6=off,hostfwd=tcp:127.0.0.1:7171-10.0.2.15:7070
-device virtio-net-pci,netdev=net,romfile=,addr=0x4,disable-legacy=on
-device virtio-rng-pci,addr=0x5,disable-legacy=on
-chardev file,id=console,append=on,path=RUN/console.log
-serial chardev:console
-chardev socket,id=control,path=control.sock,server=on,wait=off
-serial chardev:control
-device virtio-serial-pci,max_ports=2,ioeventfd=off,addr=0x6,disable-legacy=on
-chardev file,id=log,append=on,path=RUN/console.log
-device virtserialport,chardev=log,name=podflare.log
-display none
-monitor none
-chardev socket,id=monitor,path=monitor.sock,server=on,wait=off
-mon chardev=monitor,mode=control
-no-reboot
-pidfile RUN/machine.pid
-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";
    assert_eq!(lines.join("\n"), expected);
}

#[test]
fn a_version_is_read_from_what_debian_prints() {
    let text = "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)\nCopyright";
    assert_eq!(parse_version(text), Some((7, 2)));
    assert_eq!(parse_version("QEMU emulator version 10.0.2"), Some((10, 0)));
    assert_eq!(parse_version("nonsense"), None);
}

#[test]
fn relative_paths_are_made_absolute() {
    let directory = tempfile::tempdir().unwrap();
    let run_dir = RunDir::open(directory.path()).unwrap();
    let plan = SoftwarePlan {
        state_disk: PathBuf::from("state.ext4"),
        ..plan()
    };
    let here = std::env::current_dir().unwrap().join("state.ext4");
    let wanted = format!("file.filename={}", here.display());
    let words = arguments(&plan, &run_dir, 1);
    assert!(
        words.iter().any(|word| word.to_str().unwrap().ends_with(&wanted)),
        "{words:?}"
    );
}
