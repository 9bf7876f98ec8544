"""What user code can do to its own interpreter, and what must still work afterwards.

Damage an interpreter can live with leaves its state alone. Damage it cannot live with ends the run with a clear report
and starts a new interpreter; files stay either way.
"""

import pytest
from podflare import Sandbox

from support.waiting import wait_until
from support.wire import raw_exec


def assert_alive(sandbox: Sandbox) -> None:
    result = sandbox.run_code("import sys\nprint('alive')\nprint('well', file=sys.stderr)")
    assert (result.stdout, result.stderr, result.exit_code) == ("alive", "well", 0)


@pytest.mark.parametrize(
    "harm",
    [
        "import os; os.close(1)",
        "import os; os.close(0); os.close(1); os.close(2)",
        "import os; n = os.dup2(os.open('/dev/null', os.O_WRONLY), 1)",
        "import sys; sys.stdout.close()",
        "import io, sys; sys.stdout = io.StringIO(); sys.stderr = None",
        "import sys; sys.stdout = sys.stderr = sys.stdin = None; del sys.stdin",
        "import sys; sys.stdout = sys.__stdout__ = 'not even a file'",
        "import sys; sys.displayhook = sys.excepthook = None",
        "import sys; sys.setrecursionlimit(60)",
        "import os; os.chdir('/proc/self')",
        "import os; os.makedirs('/root/gone', exist_ok=True); os.chdir('/root/gone'); os.rmdir('/root/gone')",
        "import os; os.environ.clear()",
        "import signal; n = signal.alarm(0); n = signal.signal(signal.SIGPIPE, signal.SIG_DFL)",
        "del __builtins__",
        "import builtins; builtins.print, kept_print = print, print; compile = exec = eval = len = None",
        "import threading, _thread; _thread.interrupt_main()",
        "import sys; sys.settrace(lambda *a: None); sys.setprofile(None)",
        "import atexit; n = atexit.register(lambda: 1 / 0)",
        "import gc; gc.disable()",
    ],
)
def test_the_repl_lives_and_keeps_its_state_after(rough: Sandbox, harm: str) -> None:
    rough.run_code("kept = 'state'")
    rough.run_code(harm)
    assert_alive(rough)
    assert rough.run_code("print(kept)").stdout == "state"


@pytest.mark.parametrize(
    ("fatal", "exit_codes"),
    [
        ("import os; os._exit(5)", {5}),
        ("import ctypes; ctypes.string_at(0)", {139}),
        ("import os; os.kill(os.getpid(), 9)", {137}),
        ("import os; os.abort()", {134}),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", {143}),
    ],
)
def test_the_death_of_the_interpreter_is_reported_and_a_new_one_starts(
    rough: Sandbox, fatal: str, exit_codes: set[int]
) -> None:
    rough.run_code("lost = 1; _ = open('/root/stays', 'w').write('file')")
    result = rough.run_code(f"print('last words', flush=True)\n{fatal}")
    assert result.exit_code in exit_codes
    assert result.stdout == "last words"
    assert result.stderr.strip(), "the run must say that the interpreter died and its state is gone"
    assert_alive(rough)
    assert rough.run_code("lost").exit_code == 1, "a new interpreter knows nothing of the old one"
    assert rough.run_code("print(open('/root/stays').read())").stdout == "file"


def test_a_death_with_code_zero_is_reported_too(rough: Sandbox) -> None:
    result = rough.run_code("import os; os._exit(0)")
    assert result.stderr.strip(), "the state is lost, which a silent success would hide"
    assert_alive(rough)


def test_closing_every_descriptor_does_not_end_the_sandbox(rough: Sandbox) -> None:
    rough.run_code("import os; os.closerange(0, 4096)")
    assert_alive(rough)


@pytest.mark.parametrize("leave", ["exit()", "quit()", "exit(0)", "raise SystemExit"])
def test_exit_ends_the_run_and_keeps_the_state(rough: Sandbox, leave: str) -> None:
    rough.run_code("kept = 'state'")
    result = rough.run_code(f"print('bye')\n{leave}\nprint('not reached')")
    assert (result.stdout, result.exit_code) == ("bye", 0)
    assert rough.run_code("print(kept)").stdout == "state"


def test_input_raises_the_end_of_file(rough: Sandbox) -> None:
    result = rough.run_code("input('name? ')")
    assert result.exit_code == 1
    assert "EOFError" in result.stderr
    assert rough.run_code("cat; read line; echo $?", language="bash").stdout == "1"


def test_a_forked_child_that_exits_is_only_a_child(rough: Sandbox) -> None:
    code = """
import os
pid = os.fork()
if pid == 0:
    print('child', flush=True)
    os._exit(0)
_, status = os.waitpid(pid, 0)
print('parent', status)
"""
    result = rough.run_code(code)
    assert sorted(result.stdout.split("\n")) == ["child", "parent 0"]
    assert_alive(rough)


def test_a_forked_child_that_runs_on_does_not_become_a_second_repl(rough: Sandbox) -> None:
    result = rough.run_code("import os\nwho = os.fork()\nprint('child' if who == 0 else 'parent', flush=True)")
    # The two may write into one line; what matters is that the parent's run is whole.
    assert "parent" in result.stdout
    for _ in range(3):
        assert_alive(rough)
    assert rough.run_code("who > 0").stdout == "True"


def test_a_thread_that_prints_later_does_not_corrupt_the_next_run(url: str, rough: Sandbox) -> None:
    code = """
import threading, time
over = False
def late():
    n = 0
    while not over:
        time.sleep(0.1)
        print(f'late {n}\\n', end='')
        n += 1
threading.Thread(target=late, daemon=True).start()
print('started')
"""
    # The run ends when its main thread does: this one has no end.
    first = rough.run_code(code)
    assert "started" in first.stdout.split("\n")
    for n in range(5):
        run = raw_exec(url, rough.id, f"print('mine {n}\\n', end='')\nimport time; time.sleep(0.3)")
        assert f"mine {n}" in run.output().split("\n")
        assert run.exit_code == 0
        strangers = [line for line in run.output().split("\n") if not line.startswith(("mine ", "late "))]
        assert strangers == []
    rough.run_code("over = True")


def test_a_thread_that_raises_later_does_not_end_the_next_run(rough: Sandbox) -> None:
    rough.run_code("import threading\nthreading.Timer(0.5, lambda: 1 / 0).start()")
    result = rough.run_code("import time; time.sleep(1); print('whole')")
    assert "whole" in result.stdout
    assert result.exit_code == 0


def test_a_background_process_outlives_the_call_and_does_not_hold_it_up(rough: Sandbox) -> None:
    result = rough.run_code("import subprocess\nchild = subprocess.Popen(['sleep', '3000'])\nprint('started')")
    assert (result.stdout, result.exit_code) == ("started", 0)
    still = rough.run_code("child.poll() is None").stdout
    assert still == "True", "a run ends with its code, not with the last process that holds its output"
    assert rough.run_code("child.kill(); child.wait()").stdout == "-9"


def test_a_background_job_of_bash_does_not_hold_up_the_call(rough: Sandbox) -> None:
    result = rough.run_code("sleep 3000 & echo started", language="bash")
    assert (result.stdout, result.exit_code) == ("started", 0)
    assert rough.run_code("pkill -xf 'sleep 3000'", language="bash").exit_code == 0, "it goes on"


def test_killing_everything_that_can_be_killed_costs_the_repl_and_not_the_sandbox(rough: Sandbox) -> None:
    rough.run_code("kill -9 -1", language="bash")
    # Whichever run finds the interpreter dead says so: its variables are lost. It may have been started anew by then.
    after = rough.run_code("print('alive')")
    assert after.stdout == "alive" or "the Python process ended" in after.stderr
    assert_alive(rough)
    assert rough.run_code("kill -9 1; echo still $?", language="bash").stdout == "still 0"
    assert_alive(rough)


def test_orphans_are_reaped(rough: Sandbox) -> None:
    rough.run_code("for n in $(seq 40); do (sleep 0.1 &) ; done; sleep 1", language="bash")
    zombies = "ps -eo stat= | grep -c '^Z'"
    wait_until(
        "PID 1 has collected the children that others left it",
        lambda: rough.run_code(zombies, language="bash").stdout == "0",
    )


def test_code_that_ignores_the_interrupt_is_ended_all_the_same(url: str, rough: Sandbox) -> None:
    code = "import signal, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: time.sleep(1)"
    assert raw_exec(url, rough.id, code, timeout_ms=1000).exit_code != 0
    assert_alive(rough)


def test_code_that_catches_every_interrupt_is_ended_all_the_same(url: str, rough: Sandbox) -> None:
    code = "import time\nwhile True:\n    try:\n        time.sleep(60)\n    except BaseException:\n        pass"
    assert raw_exec(url, rough.id, code, timeout_ms=1000).exit_code != 0
    assert_alive(rough)


def test_too_much_memory_is_an_error_of_the_run(rough: Sandbox) -> None:
    result = rough.run_code("hog = bytearray(64 << 30)")
    assert result.exit_code == 1
    assert "MemoryError" in result.stderr
    assert_alive(rough)
