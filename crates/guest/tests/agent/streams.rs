//! What user code may do to its descriptors, streams, threads and forks.

use crate::rig::{Rig, eventually};

#[test]
fn standard_streams_are_repaired_before_each_run() {
    let rig = Rig::new();
    let mut host = rig.host();
    for damage in [
        "import sys, os, io\nsys.stdout = None",
        "sys.stdout = io.StringIO()",
        "sys.stdout.close()",
        "sys.stderr.close()",
        "os.close(1)",
        "os.close(0); os.close(1); os.close(2)",
        "os.dup2(os.open('/dev/null', os.O_RDWR), 1)",
        "os.closerange(3, 256)",
        "sys.stdout = sys.stderr = object()",
        "del sys.stdout",
        "sys.stdin.close()",
        "print('x', end=''); os.close(1)",
        "sys.stdout.detach()",
        "sys.stdout.buffer.raw.close()",
    ] {
        host.python(damage);
        let outcome = host.python("import subprocess\nprint('fine')");
        assert_eq!(
            (outcome.out().as_str(), outcome.code),
            ("fine\n", 0),
            "{damage}: {}",
            outcome.err()
        );
        host.python("import sys; print('err', file=sys.stderr)")
            .fails(0, "err\n");
    }
}

#[test]
fn reading_input_finds_its_end() {
    let rig = Rig::new();
    let mut host = rig.host();
    assert_eq!(host.python("input('name? ')").code, 1);
    host.python("input()").fails(1, "EOFError");
    host.python("import sys\nsys.stdin.read()").says("''\n");
    host.python("import subprocess\nsubprocess.run(['cat'], check=True).returncode")
        .says("0\n");
    host.python("exit()").says("");
    host.python("input()").fails(1, "EOFError");
}

#[test]
fn output_of_subprocesses_is_seen_in_order() {
    let rig = Rig::new();
    rig.host()
        .python("import os, subprocess\nprint(1, flush=True)\nos.system('echo 2')\nsubprocess.run(['echo', '3'])\nprint(4)")
        .says("1\n2\n3\n4\n");
}

#[test]
fn a_background_process_outlives_its_run_and_stays_out_of_later_ones() {
    let rig = Rig::new();
    let mut host = rig.host();
    host.python(
        "import subprocess\np = subprocess.Popen(['sh', '-c', \
         'while [ ! -e go ]; do sleep 0.01; done; echo late; seq 100000; echo ok > went'])",
    )
    .says("");
    host.python("open('go', 'w').close()\nprint('mine')")
        .says("mine\n");
    let went = rig.home().join("went");
    eventually(
        "the background process has written everything without SIGPIPE",
        || went.exists(),
    );
    host.python("p.wait()").says("0\n");
}

#[test]
fn a_thread_of_an_earlier_run_does_not_print_into_a_later_one() {
    let rig = Rig::new();
    let mut host = rig.host();
    host.python(
        "import threading\ngo, done = threading.Event(), threading.Event()\n\
         def late():\n    go.wait(); print('late'); done.set()\n\
         t = threading.Thread(target=late); t.start()",
    )
    .says("");
    host.python("go.set(); done.wait(); print('mine')").says("mine\n");
    // A pool prints on behalf of whoever gives it work.
    host.python("from concurrent.futures import ThreadPoolExecutor\npool = ThreadPoolExecutor(1)\npool.submit(int).result()").says("0\n");
    host.python("pool.submit(print, 'pooled').result()")
        .says("pooled\n");
    // What is printed between two runs is lost, even without a newline.
    host.python(
        "def between():\n    import time, os\n    while not os.path.exists('go'): time.sleep(0.005)\n    \
         print('half', end=''); open('went', 'w').close()\nthreading.Thread(target=between).start()",
    )
    .says("");
    std::fs::write(rig.home().join("go"), "").unwrap();
    let went = rig.home().join("went");
    eventually("the thread has printed between two runs", || went.exists());
    host.python("print('mine')").says("mine\n");
}

#[test]
fn threads_of_a_run_print_into_it() {
    let rig = Rig::new();
    let mut host = rig.host();
    host.python(
        "import threading, time\nthreading.Thread(target=time.sleep, args=(30,), daemon=True).start()",
    )
    .says("");
    host.python("t = threading.Thread(target=print, args=('new',)); t.start(); t.join()")
        .says("new\n");
}

#[test]
fn a_forked_child_never_becomes_a_second_repl() {
    let rig = Rig::new();
    let mut host = rig.host();
    host.python("import os, sys\npid = os.fork()\nif pid == 0: print('child')\nelse: os.waitpid(pid, 0); print('parent')")
        .says("child\nparent\n");
    host.python(
        "pid = os.fork()\nif pid == 0: sys.exit(7)\nos.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])",
    )
    .says("7\n");
    let outcome =
        host.python("pid = os.fork()\nif pid == 0: 1/0\nos.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])");
    assert_eq!((outcome.out().as_str(), outcome.code), ("1\n", 0));
    assert!(outcome.err().contains("ZeroDivisionError"));
    // The child outlives the run; the next one is unharmed.
    host.python("import time\npid = os.fork()\nif pid == 0: time.sleep(0.05); print('late')")
        .says("");
    host.python("os.waitpid(pid, 0)[1]").says("0\n");
    host.python("'alive'").says("'alive'\n");
}

#[test]
fn multiprocessing_works_with_what_can_be_pickled() {
    let rig = Rig::new();
    let mut host = rig.host();
    host.python(
        "import multiprocessing as mp\ndef square(n): return n * n\n\
         with mp.get_context('fork').Pool(2) as pool: print(pool.map(square, [1, 2, 3]))",
    )
    .says("[1, 4, 9]\n");
    host.python("import math\nwith mp.get_context('spawn').Pool(1) as pool: print(pool.map(math.sqrt, [4]))")
        .says("[2.0]\n");
    host.python("with mp.get_context('forkserver').Pool(1) as pool: print(pool.map(math.sqrt, [9]))")
        .says("[3.0]\n");
    host.python("q = mp.get_context('fork').Process(target=print, args=('p',)); q.start(); q.join()")
        .says("p\n");
}
