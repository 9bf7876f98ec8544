//! Guests that go on from files.

use std::fs;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::Instant;

use vmm_proto::{Command, Outcome};

use crate::vm::{Lab, Vm};

/// Boots a guest, lets it do something, and writes it to files.
pub(crate) fn template(lab: &Lab) -> PathBuf {
    let mut vm = lab.boot("template", 512, 1);
    let mut agent = vm.agent();
    agent.python("x = 41");
    agent.bash("echo template > /root/file; sync");
    drop(agent);
    assert_eq!(vm.ask(Command::Pause), Outcome::Done);
    let dir = lab.dir("snapshot");
    let begun = Instant::now();
    assert_eq!(vm.ask(Command::Snapshot { dir: dir.clone() }), Outcome::Done);
    for file in ["memory", "disk", "state"] {
        let data = fs::metadata(dir.join(file)).unwrap();
        eprintln!("{file}: {} bytes, {} KiB on disk", data.len(), data.blocks() / 2);
    }
    eprintln!("snapshot: {:?}", begun.elapsed());
    dir
}

/// What a clone of a zygote costs, `rounds` times; the last one is returned.
pub(crate) fn measure(lab: &Lab, zygote: &mut Vm, name: &str, rounds: usize) -> Vm {
    let mut last = None;
    for round in 0..rounds {
        let begun = Instant::now();
        let (mut clones, report) = zygote.clones(lab, &format!("{name}{round}"), 1, true);
        let clone = clones.remove(0);
        let mut agent = clone.agent();
        let connected = begun.elapsed();
        agent.identify("clone");
        let identified = begun.elapsed();
        assert_eq!(agent.python("print(1)"), "1\n");
        let answered = begun.elapsed();
        eprintln!(
            "{name}: paused {} us, connected {connected:?}, identified {identified:?}, answered {answered:?}, private {} KiB",
            report.paused_us,
            clone.memory_kib("Private_Dirty")
        );
        last = Some(clone);
    }
    last.unwrap()
}

#[test]
#[ignore = "needs KVM and guest images"]
fn a_zygote_is_cloned_without_ever_running() {
    let lab = Lab::new();
    let snapshot = template(&lab);
    let begun = Instant::now();
    let mut zygote = lab.restore("zygote", &snapshot, None);
    eprintln!("restored in {:?}", begun.elapsed());
    let mut clone = measure(&lab, &mut zygote, "clone", 10);
    let mut agent = clone.agent();
    assert_eq!(agent.python("x += 1\nprint(x)"), "42\n");
    assert_eq!(
        agent.bash("echo clone >> /root/file; cat /root/file"),
        "template\nclone\n"
    );
    agent.bash("sync; echo 3 > /proc/sys/vm/drop_caches");
    assert_eq!(agent.bash("cat /root/file"), "template\nclone\n");
    let other = zygote.clone_one(&lab, "other");
    assert_eq!(
        other.agent().bash("cat /root/file; python3 -c 'print(40+2)'"),
        "template\n42\n"
    );
    // A snapshot of a clone of a zygote is a whole one.
    drop(agent);
    assert_eq!(clone.ask(Command::Pause), Outcome::Done);
    let second = lab.dir("second");
    assert_eq!(
        clone.ask(Command::Snapshot { dir: second.clone() }),
        Outcome::Done
    );
    clone.kill();
    zygote.kill();
    fs::remove_dir_all(snapshot).unwrap();
    let mut restored = lab.restore("restored", &second, None);
    assert_eq!(restored.ask(Command::Resume), Outcome::Done);
    assert_eq!(restored.agent().bash("cat /root/file"), "template\nclone\n");
    assert_eq!(restored.agent().python("print(x)"), "42\n");
}

#[test]
#[ignore = "needs KVM and guest images"]
fn a_working_set_is_there_before_the_clone_runs() {
    let lab = Lab::new();
    let snapshot = template(&lab);
    let mut zygote = lab.restore("recorder", &snapshot, None);
    let mut clone = measure(&lab, &mut zygote, "recorded", 1);
    assert_eq!(clone.ask(Command::Pause), Outcome::Done);
    let file = snapshot.join("working-set");
    assert_eq!(
        clone.ask(Command::RecordWorkingSet { file: file.clone() }),
        Outcome::Done
    );
    clone.kill();
    zygote.kill();
    let mut without = lab.restore("without", &snapshot, None);
    measure(&lab, &mut without, "without", 8);
    without.kill();
    let mut zygote = lab.restore("zygote", &snapshot, Some(file));
    let clone = measure(&lab, &mut zygote, "with", 8);
    assert_eq!(clone.agent().python("x += 1\nprint(x)"), "42\n");
}

#[test]
#[ignore = "needs KVM and guest images"]
fn a_damaged_snapshot_is_unusable_and_nothing_else() {
    let lab = Lab::new();
    let snapshot = template(&lab);
    let flip = |file: &str, at: u64| {
        let file = fs::File::options()
            .read(true)
            .write(true)
            .open(snapshot.join(file))
            .unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[!byte[0]], at).unwrap();
    };
    let refused = |name: &str| {
        let outcome = lab.try_restore(name, &snapshot);
        eprintln!("{outcome:?}");
        assert!(matches!(outcome, Outcome::Unusable(_)));
    };
    let size = |path: &Path| fs::metadata(path).unwrap().len();
    for at in [0, 8, 20, 60, size(&snapshot.join("state")) - 1] {
        flip("state", at);
        refused(&format!("state{at}"));
        flip("state", at);
    }
    let end = size(&snapshot.join("memory")) - 1;
    flip("memory", end);
    refused("memory");
    flip("memory", end);
    for file in ["state", "memory", "disk"] {
        let path = snapshot.join(file);
        let whole = fs::read(&path).unwrap();
        fs::File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(size(&path) / 2)
            .unwrap();
        refused(&format!("cut-{file}"));
        fs::write(&path, whole).unwrap();
    }
    lab.restore("whole", &snapshot, None);
}
