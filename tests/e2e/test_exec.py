"""Running code: values, output, exit codes, what stays and what does not."""

import textwrap

import pytest
from podflare import Sandbox

from support.waiting import Stopwatch, wait_until
from support.wire import raw_exec


@pytest.mark.parametrize(
    ("code", "stdout"),
    [
        ("print(84)", "84"),
        ("print()", ""),
        ("print('a'); print(); print('b')", "a\n\nb"),
        ("import sys; _ = sys.stdout.write('a\\n\\n')", "a\n"),
        ("import sys; _ = sys.stdout.write('no newline')", "no newline"),
        ("import sys; _ = sys.stdout.write('one\\ntwo')", "one\ntwo"),
        ("print('z', end='', flush=True)", "z"),
        ("pass", ""),
        ("", ""),
        ("# only a comment", ""),
    ],
)
def test_output_arrives_as_it_was_printed(box: Sandbox, code: str, stdout: str) -> None:
    result = box.run_code(code)
    assert (result.stdout, result.stderr, result.exit_code) == (stdout, "", 0)
    assert result.ok


@pytest.mark.parametrize(
    ("code", "stdout"),
    [
        ("1 + 1", "2"),
        ("'text'", "'text'"),
        ("x = 5\nx * 2", "10"),
        ("None", ""),
        ("print('once')", "once"),
        ("x = 5", ""),
        ("for i in range(3): i", ""),
        ("if True:\n    5", ""),
        ("with open('/root/echo', 'w') as f:\n    f.write('abc')", ""),
        ("def f():\n    7\nf()", ""),
        ("1\n2\n3", "3"),
    ],
)
def test_only_the_last_top_level_expression_is_echoed(box: Sandbox, code: str, stdout: str) -> None:
    result = box.run_code(code)
    assert (result.stdout, result.stderr, result.exit_code) == (stdout, "", 0)


def test_stderr_is_kept_apart(box: Sandbox) -> None:
    result = box.run_code("import sys; print('out'); print('err', file=sys.stderr)")
    assert (result.stdout, result.stderr, result.exit_code) == ("out", "err", 0)


@pytest.mark.parametrize(
    ("code", "exit_code", "stderr"),
    [
        ("import sys; sys.exit(3)", 3, ""),
        ("import sys; sys.exit()", 0, ""),
        ("import sys; sys.exit('farewell')", 1, "farewell"),
        ("raise SystemExit(4)", 4, ""),
        ("1 / 0", 1, "ZeroDivisionError"),
        ("undefined_name", 1, "NameError"),
        ("def broken(:", 1, "SyntaxError"),
        ("raise KeyboardInterrupt", 1, "KeyboardInterrupt"),
        ("def deep(): return deep()\ndeep()", 1, "RecursionError"),
    ],
)
def test_an_exception_ends_the_run_and_not_the_repl(box: Sandbox, code: str, exit_code: int, stderr: str) -> None:
    box.run_code("kept = 'before'")
    result = box.run_code(code)
    assert result.exit_code == exit_code
    assert stderr in result.stderr
    assert box.run_code("kept").stdout == "'before'"


def test_a_traceback_names_the_error_and_its_line_but_nothing_of_the_driver(box: Sandbox) -> None:
    stderr = box.run_code("def divide(n):\n    return n / 0\n\ndivide(1)").stderr
    assert stderr.startswith("Traceback (most recent call last):")
    assert stderr.endswith("ZeroDivisionError: division by zero")
    assert "line 2, in divide" in stderr
    assert stderr.count("File ") == 2, f"frames of the driver are none of the user's business: {stderr}"


def test_output_before_an_exception_is_not_lost(box: Sandbox) -> None:
    result = box.run_code("print('so far')\nraise ValueError('so bad')")
    assert result.stdout == "so far"
    assert "ValueError: so bad" in result.stderr


def test_python_state_persists_between_calls(box: Sandbox) -> None:
    first = box.run_code(
        """
import os, json, tempfile
value = {"answer": 42}
os.environ["KEPT"] = "yes"
os.makedirs("/root/kept", exist_ok=True)
os.chdir("/root/kept")
handle = open("log", "w+")
handle.write("still open")
def double(n): return 2 * n
"""
    )
    assert first.ok, first.stderr
    second = box.run_code(
        "_ = handle.seek(0)\n"
        "print(json.dumps(value), os.environ['KEPT'], os.getcwd(), handle.read(), double(4), sep='|')\n"
        "os.chdir('/root')"
    )
    assert second.stdout == '{"answer": 42}|yes|/root/kept|still open|8', second.stderr


def test_bash_variables_do_not_persist_and_bash_files_do(box: Sandbox) -> None:
    written = box.run_code("export GONE=1; cd /tmp; echo from bash > /root/from_bash", language="bash")
    assert written.ok
    assert box.run_code('echo "[$GONE]"; pwd', language="bash").stdout == "[]\n/root"
    assert box.run_code("print(open('/root/from_bash').read(), end='')").stdout == "from bash"


@pytest.mark.parametrize(
    ("code", "exit_code"),
    [
        ("exit 7", 7),
        ("false", 1),
        ("true", 0),
        ("no_such_command_here", 127),
        ("kill -9 $$", 137),
        ("kill -TERM $$", 143),
        ("if then", 2),
    ],
)
def test_the_exit_code_of_bash_passes_through(box: Sandbox, code: str, exit_code: int) -> None:
    assert box.run_code(code, language="bash").exit_code == exit_code


def test_bash_output_is_split_like_any_other(box: Sandbox) -> None:
    result = box.run_code("printf 'a\\n\\nb'; printf 'e\\n' >&2", language="bash")
    assert (result.stdout, result.stderr) == ("a\n\nb", "e")


def test_multi_line_bash_with_a_here_document_runs(box: Sandbox) -> None:
    code = "set -euo pipefail\ncat <<'END' | tr a-z A-Z\nhello\nworld\nEND\n"
    assert box.run_code(code, language="bash").stdout == "HELLO\nWORLD"


def test_what_subprocesses_print_is_seen(box: Sandbox) -> None:
    result = box.run_code("import subprocess; r = subprocess.run('echo out; echo err >&2', shell=True)")
    assert (result.stdout, result.stderr) == ("out", "err")


def test_code_runs_as_root_at_home(box: Sandbox) -> None:
    result = box.run_code("pwd; echo $HOME; id -un", language="bash")
    assert (result.stdout, result.stderr, result.exit_code) == ("/root\n/root\nroot", "", 0)
    assert box.run_code("import os; print(os.path.expanduser('~'), os.getuid())").stdout == "/root 0"


def test_python_is_the_one_that_bash_finds(box: Sandbox) -> None:
    inside = box.run_code("import sys; print(sys.version_info[:2])").stdout
    assert box.run_code("python3 -c 'import sys; print(sys.version_info[:2])'", language="bash").stdout == inside
    assert box.run_code("python3 -m pip --version && git --version && curl --version", language="bash").ok


def test_an_indented_block_from_the_documentation_runs(box: Sandbox) -> None:
    result = box.run_code(
        """
        total = 0
        for n in range(4):
            total += n

        text = '''
        kept as it is'''
        print(total)
        """
    )
    assert (result.stdout, result.exit_code) == ("6", 0), result.stderr


def test_code_may_use_every_statement_a_module_may(box: Sandbox) -> None:
    code = textwrap.dedent(
        """
        from __future__ import annotations
        from dataclasses import dataclass

        @dataclass
        class Point:
            x: int

        async def later(): return Point(3)

        import asyncio
        asyncio.run(later())
        """
    )
    assert box.run_code(code).stdout == "Point(x=3)"
    assert box.run_code("import pickle; pickle.loads(pickle.dumps(Point(4)))").stdout == "Point(x=4)"


def test_language_may_be_left_out_by_raw_callers(url: str, box: Sandbox) -> None:
    assert raw_exec(url, box.id, "print('python')").output() == "python"


def test_a_time_limit_interrupts_the_run_and_keeps_the_state(url: str, box: Sandbox) -> None:
    box.run_code("import time\nbegan = time.monotonic()\ncounted = 0")
    clock = Stopwatch()
    # It has no end of its own.
    code = "while True:\n    counted += 1\n    time.sleep(0.05)"
    run = raw_exec(url, box.id, code, language="python", timeout_ms=1500)
    assert run.exit_code != 0
    assert clock.seconds > 1.4, "the limit is 1.5 s"
    assert "KeyboardInterrupt" in run.output("stderr")
    assert box.run_code("counted > 0, began > 0").stdout == "(True, True)"


def test_a_time_limit_ends_bash_and_what_it_started(url: str, box: Sandbox) -> None:
    run = raw_exec(url, box.id, "sleep 4321 & sleep 4321", language="bash", timeout_ms=1000)
    assert run.exit_code != 0
    left = "pgrep -fc '^sleep 4321'"
    wait_until("they are gone", lambda: box.run_code(left, language="bash").stdout == "0")


def test_a_time_limit_that_is_not_reached_changes_nothing(url: str, box: Sandbox) -> None:
    assert raw_exec(url, box.id, "print('done')", timeout_ms=200_000).exit_code == 0
