//! The user land of the software host: two archives the kernel unpacks one over the other.
//!
//! The base holds busybox, the kernel modules and the init script and changes with the kernel only. The payload
//! holds our binaries and how to start them. Both are put together at each start, which takes milliseconds, so a
//! binary built a moment ago is in the next machine without any disk being made anew.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use image::{CpioArchive, CpioError, Module};
use thiserror::Error;

use crate::collector;
use crate::plan::SoftwarePlan;
use crate::settings::Settings;

/// The first process.
const INIT: &str = include_str!("init.sh");
/// What ends a signed module (include/linux/module_signature.h).
const SIGNATURE_MARK: &[u8] = b"~Module signature appended~\n";
/// The descriptor before the mark; its last four bytes are the signature's length, big endian.
const SIGNATURE_DESCRIPTOR_BYTES: usize = 12;
/// What the directory of an authority may have.
const AUTHORITY_FILES: [&str; 3] = ["authority.crt", "authority.key", "roots.pem"];
/// Address and port of the host daemon inside the machine, where the port on loopback leads to.
pub(crate) const INSIDE_ADDRESS: &str = "10.0.2.15:7070";

/// Why the machine's user land cannot be put together.
#[derive(Debug, Error)]
pub enum InitrdError {
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot put {} into the machine", what)]
    Archive { what: &'static str, source: CpioError },
    #[error("{name:?} cannot be the name of an environment variable")]
    Variable { name: String },
}

/// Writes the machine's initrd. It may hold API keys, so only its owner can read it.
pub(crate) fn write(path: &Path, plan: &SoftwarePlan, settings: &Settings) -> Result<(), InitrdError> {
    let base = base(plan).map_err(|source| InitrdError::Archive {
        what: "busybox and modules",
        source,
    })?;
    let payload = payload(plan, settings)?;
    let written = fs::remove_file(path)
        .or_else(|error| {
            if error.kind() == io::ErrorKind::NotFound {
                Ok(())
            } else {
                Err(error)
            }
        })
        .and_then(|()| {
            fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(path)
        })
        .and_then(|mut file| {
            base.iter()
                .chain([&payload])
                .try_for_each(|archive| file.write_all(archive))
        });
    written.map_err(|source| InitrdError::Write {
        path: path.to_owned(),
        source,
    })
}

fn base(plan: &SoftwarePlan) -> Result<Vec<Vec<u8>>, CpioError> {
    let mut archive = CpioArchive::new();
    for directory in ["dev", "proc", "sys", "tmp", "run", "images", "state", "etc"] {
        archive.add_dir(directory, 0o755)?;
    }
    archive.add_file("init", 0o755, INIT.as_bytes().to_vec())?;
    archive.add_file("bin/busybox", 0o755, plan.busybox.clone())?;
    archive.add_symlink("bin/sh", "busybox")?;
    archive.add_file("etc/resolv.conf", 0o644, b"nameserver 10.0.2.3\n".to_vec())?;
    archive.add_file(
        "etc/hosts",
        0o644,
        b"127.0.0.1 localhost\n127.0.1.1 podflare\n".to_vec(),
    )?;
    archive.add_file("etc/passwd", 0o644, b"root:x:0:0:root:/:/bin/sh\n".to_vec())?;
    archive.add_file("etc/group", 0o644, b"root:x:0:\n".to_vec())?;
    let mut order = String::new();
    for module in &plan.modules {
        let name = module.file_name();
        archive.add_file(&format!("lib/modules/{name}"), 0o644, unsigned(module).to_vec())?;
        order.push_str(&name);
        order.push('\n');
    }
    archive.add_file("lib/modules/order", 0o644, order.into_bytes())?;
    Ok(vec![archive.to_bytes()?])
}

fn payload(plan: &SoftwarePlan, settings: &Settings) -> Result<Vec<u8>, InitrdError> {
    let start = start_script(settings)?;
    let files = [
        ("podflare/bin/podflare-hostd", 0o755, read(&plan.hostd)?),
        ("podflare/bin/podflare-vmm", 0o755, read(&plan.vmm)?),
        ("podflare/bin/podflare-netd", 0o755, read(&plan.netd)?),
        ("podflare/guest-initrd.cpio", 0o644, read(&plan.guest_initrd)?),
        ("podflare/start-hostd", 0o700, start.into_bytes()),
    ];
    let mut archive = CpioArchive::new();
    for (path, permissions, data) in files {
        archive
            .add_file(path, permissions, data)
            .map_err(|source| InitrdError::Archive {
                what: "our binaries",
                source,
            })?;
    }
    for name in AUTHORITY_FILES {
        let path = plan.authority.join(name);
        if path.exists() {
            archive
                .add_file(&format!("podflare/authority/{name}"), 0o600, read(&path)?)
                .map_err(|source| InitrdError::Archive {
                    what: "the authority",
                    source,
                })?;
        }
    }
    archive.to_bytes().map_err(|source| InitrdError::Archive {
        what: "our binaries",
        source,
    })
}

fn read(path: &Path) -> Result<Vec<u8>, InitrdError> {
    fs::read(path).map_err(|source| InitrdError::Read {
        path: path.to_owned(),
        source,
    })
}

/// The script that becomes the host daemon.
fn start_script(settings: &Settings) -> Result<String, InitrdError> {
    let mut script = String::from("#!/bin/busybox sh\n");
    for (name, value) in &settings.hostd_environment {
        if !is_variable_name(name) {
            return Err(InitrdError::Variable { name: name.clone() });
        }
        let value = collector::seen_from_inside(name, value);
        script.push_str(&format!("export {name}={}\n", quoted(&value)));
    }
    script.push_str("exec /podflare/bin/podflare-hostd");
    let exposed = format!("127.0.0.1:{}", settings.port);
    let arguments = [
        ("--addr", INSIDE_ADDRESS),
        ("--exposed-as", &exposed),
        ("--data-dir", "/state/hostd"),
        ("--images", "/images"),
        ("--guest-initrd", "/podflare/guest-initrd.cpio"),
        ("--vmm", "/podflare/bin/podflare-vmm"),
        ("--netd", "/podflare/bin/podflare-netd"),
        ("--authority", "/podflare/authority"),
        // QEMU's SVM emulation is not safe with VMs on several emulated CPUs, so guests have one.
        ("--vcpus", "1"),
    ];
    for (option, value) in arguments {
        script.push_str(&format!(" {option} {}", quoted(value)));
    }
    for argument in &settings.hostd_arguments {
        script.push_str(&format!(" {}", quoted(argument)));
    }
    script.push('\n');
    Ok(script)
}

fn is_variable_name(name: &str) -> bool {
    let mut characters = name.chars();
    characters
        .next()
        .is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && characters.all(|character| character.is_ascii_alphanumeric() || character == '_')
}

/// A shell word that means exactly this text.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// The module without its signature. Checking one means hashing megabytes on an emulated CPU, and tells nothing
/// here: module, kernel and whoever could exchange either come from the same place.
fn unsigned(module: &Module) -> &[u8] {
    let whole = module.bytes.as_slice();
    let stripped = whole.strip_suffix(SIGNATURE_MARK).and_then(|rest| {
        let (rest, descriptor) =
            rest.split_at_checked(rest.len().checked_sub(SIGNATURE_DESCRIPTOR_BYTES)?)?;
        let len = u32::from_be_bytes(*descriptor.last_chunk()?);
        rest.get(..rest.len().checked_sub(usize::try_from(len).ok()?)?)
    });
    stripped.unwrap_or(whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::path::Path;
    use std::process::Command;

    fn settings() -> Settings {
        crate::settings::tests::settings(Path::new("/run/x"))
    }

    #[test]
    fn keys_and_arguments_reach_the_daemon_as_they_are() {
        let mut settings = settings();
        settings
            .hostd_environment
            .push(("PODFLARE_API_KEYS".to_owned(), "a'b c,$d".to_owned()));
        settings.hostd_arguments.push("--pool".to_owned());
        let script = start_script(&settings).unwrap();
        assert!(
            script.contains(r"export PODFLARE_API_KEYS='a'\''b c,$d'"),
            "{script}"
        );
        assert!(script.contains("--exposed-as '127.0.0.1:7070'"), "{script}");
        assert!(script.ends_with(" '--pool'\n"), "{script}");
    }

    #[test]
    fn an_environment_name_cannot_smuggle_a_command() {
        let mut settings = settings();
        settings
            .hostd_environment
            .push(("A=1; reboot".to_owned(), String::new()));
        assert!(matches!(
            start_script(&settings).unwrap_err(),
            InitrdError::Variable { .. }
        ));
    }

    #[test]
    fn a_signature_is_cut_off_and_nothing_else() {
        let module = |bytes: &[u8]| Module {
            name: "m".to_owned(),
            bytes: bytes.to_vec(),
        };
        let signed = [
            b"ELF".as_slice(),
            b"sig",
            &[0; 8],
            &3_u32.to_be_bytes(),
            SIGNATURE_MARK,
        ]
        .concat();
        assert_eq!(unsigned(&module(&signed)), b"ELF");
        assert_eq!(unsigned(&module(b"ELF")), b"ELF");
        let lying = [b"ELF".as_slice(), &[0xff; 12], SIGNATURE_MARK].concat();
        assert_eq!(unsigned(&module(&lying)), lying);
        assert_eq!(unsigned(&module(SIGNATURE_MARK)), SIGNATURE_MARK);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn a_shell_reads_back_what_was_quoted(text in "[^\0]{0,40}") {
            let script = format!("printf %s {}", quoted(&text));
            let output = Command::new("sh").args(["-c", &script]).output().unwrap();
            prop_assert_eq!(output.stdout, text.as_bytes());
        }
    }
}
