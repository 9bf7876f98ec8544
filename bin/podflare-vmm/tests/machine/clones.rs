//! Clones of a running guest.

use std::time::{Duration, Instant};

use vmm_proto::Command;

use crate::agent::Agent;
use crate::vm::Lab;

#[test]
#[ignore = "needs KVM and guest images"]
fn parent_and_clone_go_on_apart() {
    let lab = Lab::new();
    let mut parent = lab.boot("parent", 512, 1);
    let mut agent = parent.agent();
    agent.identify("parent");
    assert_eq!(agent.python("x = 41\nprint(x)"), "41\n");
    agent.bash("echo before > /root/shared; sync");

    let begun = Instant::now();
    let (mut clones, report) = parent.clones(&lab, "child", 1, true);
    let mut child = clones.remove(0);
    let mut child_agent = child.agent();
    let connected = begun.elapsed();
    child_agent.identify("child");
    let identified = begun.elapsed();
    assert_eq!(child_agent.python("x += 1\nprint(x)"), "42\n");
    eprintln!(
        "paused {} us, connected {connected:?}, identified {identified:?}, answered {:?}",
        report.paused_us,
        begun.elapsed()
    );
    // The parent's connection lives on, and each has its own memory, disk and name.
    assert_eq!(agent.python("print(x)"), "41\n");
    agent.bash("echo parent > /root/mine; echo changed > /root/shared; sync");
    child_agent.bash("echo child > /root/mine; sync; echo 3 > /proc/sys/vm/drop_caches");
    assert_eq!(
        child_agent.bash("cat /root/mine /root/shared; hostname"),
        "child\nbefore\nchild\n"
    );
    agent.bash("echo 3 > /proc/sys/vm/drop_caches");
    assert_eq!(
        agent.bash("cat /root/mine /root/shared; hostname"),
        "parent\nchanged\nparent\n"
    );
    eprintln!("parent {:?}, child {:?}", parent.holdings(), child.holdings());
    eprintln!("parent {:?}", parent.stats());
    eprintln!("child {:?}", child.stats());

    let mut other = parent.clone_one(&lab, "other");
    child.kill();
    assert_eq!(agent.python("print(x)"), "41\n");
    drop(agent);
    parent.kill();
    let mut agent = other.agent();
    assert_eq!(agent.python("print(x)"), "41\n");
    let mut last = other.clone_one(&lab, "last");
    assert_eq!(last.agent().bash("cat /root/mine"), "parent\n");
    assert_eq!(last.ask(Command::Pause), vmm_proto::Outcome::Done);
    assert_eq!(last.ask(Command::Resume), vmm_proto::Outcome::Done);
    assert_eq!(last.agent().bash("cat /root/mine"), "parent\n");
}

#[test]
#[ignore = "needs KVM and guest images"]
fn the_clock_of_a_clone_runs_on() {
    const NOW: &str = "import time; print(time.clock_gettime_ns(time.CLOCK_MONOTONIC), time.clock_gettime_ns(time.CLOCK_BOOTTIME))";
    let lab = Lab::new();
    let mut parent = lab.boot("parent", 512, 1);
    let mut agent = parent.agent();
    let read = |text: String| -> Vec<i128> {
        text.split_whitespace()
            .map(|word| word.parse().unwrap())
            .collect()
    };
    let bracketed = |agent: &mut Agent| {
        let begun = Instant::now();
        (begun, read(agent.python(NOW)), Instant::now())
    };
    let before = bracketed(&mut agent);
    assert_eq!(parent.ask(Command::Pause), vmm_proto::Outcome::Done);
    std::thread::sleep(Duration::from_secs(2));
    let (mut clones, _) = parent.clones(&lab, "child", 1, true);
    let mut agent = clones[0].agent();
    let after = bracketed(&mut agent);
    let least = (after.0 - before.2).as_nanos().cast_signed();
    let most = (after.2 - before.0).as_nanos().cast_signed();
    for (before, after) in before.1.iter().zip(&after.1) {
        let passed = after - before;
        eprintln!("{passed} ns passed in the guest, {least} to {most} outside");
        assert!((least - 1_000_000..=most + 1_000_000).contains(&passed));
    }
    drop(clones.remove(0));
}

#[test]
#[ignore = "needs KVM and guest images"]
fn what_a_clone_costs() {
    let lab = Lab::new();
    let mut parent = lab.boot("parent", 512, 1);
    parent.agent().python("x = 1");
    for round in 0..60 {
        let paused = round >= 10;
        if paused {
            parent.ask(Command::Pause);
        }
        let begun = Instant::now();
        let (clones, report) = parent.clones(&lab, &format!("clone{round}"), 1, true);
        let replied = begun.elapsed();
        let mut agent = clones[0].agent();
        let connected = begun.elapsed();
        agent.identify("clone");
        let identified = begun.elapsed();
        agent.python("print(1)");
        eprintln!(
            "paused {paused}: {} us, replied {replied:?}, connected {connected:?}, identified {identified:?}, answered {:?}, private {} KiB",
            report.paused_us,
            begun.elapsed(),
            clones[0].memory_kib("Private_Dirty")
        );
    }
}

#[test]
#[ignore = "needs KVM and guest images"]
fn fifty_generations_hold_no_more_than_one() {
    let lab = Lab::new();
    let mut vm = lab.boot("generation", 512, 1);
    vm.agent().python("depth = 0");
    let mut holdings = Vec::new();
    for generation in 1..=50 {
        let child = vm.clone_one(&lab, &format!("generation{generation}"));
        vm.kill();
        vm = child;
        let mut agent = vm.agent();
        assert_eq!(
            agent.python("depth += 1\nprint(depth)"),
            format!("{generation}\n")
        );
        if generation % 10 == 0 {
            agent.bash("echo x > /root/x; sync");
        }
        holdings.push(vm.holdings());
        eprintln!(
            "generation {generation}: {:?}, private {} KiB",
            holdings[generation - 1],
            vm.memory_kib("Private_Dirty")
        );
    }
    let (first, last) = (holdings[1], holdings[49]);
    // A layer for each generation that wrote.
    assert!(last.0 <= first.0 + 6 && last.1 == first.1 && last.2 <= first.2 + 8);
}
