//! Output: bytes, lengths, and when it comes.

use agent_proto::{Language, Reply};

use crate::rig::{Host, Rig};

/// More find more; this many take about a second.
const ROUNDS: u32 = 50;

#[test]
fn output_comes_as_it_is_printed() {
    let rig = Rig::new();
    let mut host = rig.host();
    host.begin(
        Language::Python,
        "import os, time\nprint('first')\nwhile not os.path.exists('go'): time.sleep(0.002)\nprint('second')",
        None,
    );
    host.wait_for_output("first\n");
    std::fs::write(rig.home().join("go"), "").unwrap();
    host.finish().says("second\n");

    host.begin(
        Language::Bash,
        "echo first; while [ ! -e go2 ]; do sleep 0.01; done; echo second",
        None,
    );
    host.wait_for_output("first\n");
    std::fs::write(rig.home().join("go2"), "").unwrap();
    host.finish().says("second\n");
}

#[test]
fn bytes_that_are_not_text_pass_unchanged() {
    let rig = Rig::new();
    let mut host = rig.host();
    let outcome = host.python("import sys\nsys.stdout.buffer.write(b'\\xff\\x00\\xfe\\n')\nNone");
    assert_eq!(outcome.stdout, b"\xff\x00\xfe\n");
    assert_eq!(
        host.python("print(b'\\xe9'.decode(errors='surrogateescape'))")
            .stdout,
        b"\xe9\n"
    );
    host.python("print('\\u2028 \\x85 \u{1f600} a\\rb')")
        .says("\u{2028} \u{85} \u{1f600} a\rb\n");
    assert_eq!(host.bash("printf '\\377\\n'").stdout, b"\xff\n");
}

#[test]
fn output_without_a_final_newline_is_delivered() {
    let rig = Rig::new();
    let mut host = rig.host();
    host.python("print('a', end='')").says("a");
    host.python("import sys; sys.stdout.write('b\\n\\nc')\nNone")
        .says("b\n\nc");
    host.bash("printf d").says("d");
}

#[test]
fn two_hundred_thousand_lines_arrive() {
    let rig = Rig::new();
    let outcome = rig.host().python("for i in range(200_000): print(i)");
    assert_eq!(outcome.out().lines().count(), 200_000);
    assert!(outcome.out().ends_with("\n199999\n"));
}

#[test]
fn a_line_of_twelve_megabytes_arrives() {
    let rig = Rig::new();
    let mut host = rig.host();
    let outcome = host.python("print('x' * 12_000_000)");
    assert_eq!((outcome.stdout.len(), outcome.code), (12_000_001, 0));
    let outcome = host.bash("head -c 12000000 /dev/zero");
    assert_eq!((outcome.stdout.len(), outcome.code), (12_000_000, 0));
}

#[test]
fn a_slow_reader_holds_its_own_run_back_and_loses_nothing() {
    let rig = Rig::new();
    let mut host = rig.host();
    host.begin(Language::Bash, "seq 1000000; echo done > done", None);
    let first = loop {
        if let Reply::Stdout(bytes) = host.reply() {
            break bytes;
        }
    };
    // A million lines are more than all buffers on the way hold.
    assert!(!rig.home().join("done").exists());
    let mut text = first;
    text.extend(finish(&mut host));
    assert!(text.ends_with(b"\n1000000\n"));
    assert_eq!(text.iter().filter(|byte| **byte == b'\n').count(), 1_000_000);
}

fn finish(host: &mut Host) -> Vec<u8> {
    host.finish().stdout
}

#[test]
fn short_runs_lose_nothing_however_they_fall_into_the_opening() {
    let rig = Rig::new();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut host = rig.host();
                for round in 0..ROUNDS {
                    // Some end within the opening, some at its end, and some after output was sent already.
                    let pause = f64::from(round % 9) / 1000.0;
                    host.bash(&format!("echo one; sleep {pause}; echo two; (echo three); id -u"))
                        .says(&format!("one\ntwo\nthree\n{}\n", rustix::process::getuid().as_raw()));
                    let code = format!(
                        "import os, time\nprint('one'); time.sleep({pause}); os.write(1, b'two\\n')\nos.system('echo three')\nprint('end')"
                    );
                    host.python(&code).says("one\ntwo\nthree\nend\n");
                }
            });
        }
    });
}
