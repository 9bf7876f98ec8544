"""Terminals through the official client: created, used, left, found again, and ended."""

import base64
import subprocess
import sys
import time
from typing import Any

import httpx
import pytest
from podflare import Sandbox

from support.family import forked
from support.terminals import WAIT_SECONDS, Output, opened
from support.waiting import Stopwatch, wait_until
from support.wire import assert_error


def test_a_shell_has_a_prompt_an_echo_a_terminal_and_an_exit_code(box: Sandbox) -> None:
    pty, output = opened(box, "bash")
    assert pty.id.startswith("pty_") and len(pty.id) == 36
    output.wait_for("# ")
    pty.send_input("tty; echo $TERM\n")
    text = output.wait_for("xterm-256color")
    assert "tty; echo $TERM" in text, "what is typed is echoed"
    assert "/dev/pts/" in text
    pty.send_input("exit 7\n")
    assert pty.wait(timeout=WAIT_SECONDS) == 7


def test_arguments_environment_directory_and_size_are_those_asked_for(box: Sandbox) -> None:
    look = "import os; print(os.getcwd(), os.environ['COLOUR'], os.get_terminal_size(), os.isatty(0))"
    pty, output = opened(box, ["python3", "-c", look], env={"COLOUR": "grün"}, cwd="/usr", cols=120, rows=40)
    assert pty.wait(timeout=WAIT_SECONDS) == 0
    assert output.text == "/usr grün os.terminal_size(columns=120, lines=40) True\r\n"
    pty, output = opened(box, "trap 'stty size' WINCH; stty size; while :; do sleep 0.1; done", cols=91, rows=31)
    output.wait_for("31 91")
    pty.resize(cols=133, rows=44)
    output.wait_for("44 133")
    pty.kill()
    assert pty.wait(timeout=WAIT_SECONDS) == 137


def test_ctrl_c_interrupts_and_any_byte_comes_back(box: Sandbox) -> None:
    pty, output = opened(box, ["sleep", "1000"])
    pty.send_input(b"\x03")
    assert pty.wait(timeout=WAIT_SECONDS) == 130
    pty, output = opened(box, "stty raw -echo; printf ready; head -c 5120")
    output.wait_for("ready")
    sent = bytes(range(256)) * 20
    pty.send_input(sent)
    assert pty.wait(timeout=WAIT_SECONDS) == 0
    assert output.raw == b"ready" + sent


def test_a_terminal_that_is_silent_for_longer_than_a_client_waits_is_still_there(box: Sandbox) -> None:
    pty, output = opened(box, ["cat"])
    time.sleep(40)  # the client gives up after 30 s without a byte
    pty.send_input("still here\n")
    output.wait_for("still here\r\nstill here")
    pty.send_input(b"\x04")
    assert pty.wait(timeout=WAIT_SECONDS) == 0


def test_kill_takes_the_whole_session(box: Sandbox) -> None:
    pty, output = opened(box, "set -m; sleep 4001 & (trap '' HUP; exec sleep 4002) & echo started; wait")
    output.wait_for("started")
    alive = "pgrep -fxc 'sleep 400[12]' || true"
    wait_until("both have begun", lambda: box.run_code(alive, language="bash").stdout == "2", WAIT_SECONDS)
    pty.kill()
    assert pty.wait(timeout=WAIT_SECONDS) == 137
    wait_until("both are gone", lambda: box.run_code(alive, language="bash").stdout == "0", WAIT_SECONDS)


LEAVING = """
import os, sys
from podflare import Client
client = Client(host=sys.argv[1])
events = client.pty_create_stream(sys.argv[2], {"shellCmd": "echo born; cat", "cols": 80, "rows": 24})
print(next(events)["session_id"], flush=True)
os._exit(1)
"""


def test_a_terminal_outlives_the_process_that_made_it(url: str, box: Sandbox) -> None:
    left = subprocess.run(
        [sys.executable, "-c", LEAVING, url, box.id], capture_output=True, text=True, timeout=120, check=False
    )
    pty_id = left.stdout.strip()
    assert pty_id.startswith("pty_"), left
    output = Output()
    pty = box.pty.attach(pty_id, on_data=output)
    output.wait_for("born")
    pty.send_input("hello again\n")
    output.wait_for("hello again\r\nhello again")
    pty.kill()
    assert pty.wait(timeout=WAIT_SECONDS) == 137
    # Whoever comes later still finds what it wrote, and how it ended.
    late = Output()
    assert box.pty.attach(pty_id, on_data=late).wait(timeout=WAIT_SECONDS) == 137
    assert late.raw == output.raw


def test_the_last_mebibyte_is_replayed_to_the_byte(box: Sandbox) -> None:
    write = "import sys; sys.stdout.buffer.write('ü'.encode() * 1_000_000)"
    pty, _ = opened(box, f'stty -opost; python3 -c "{write}"')
    assert pty.wait(timeout=WAIT_SECONDS) == 0
    replayed = Output()
    assert box.pty.attach(pty.id, on_data=replayed).wait(timeout=WAIT_SECONDS) == 0
    assert replayed.raw == "ü".encode() * (2**20 // 2)


@pytest.mark.timeout(900)
def test_everybody_sees_everything_and_a_sleeper_holds_up_nobody(url: str, box: Sandbox) -> None:
    # In parts, since a terminal keeps the last mebibyte for those who are late, and no more.
    parts, lines = 6, 50_000
    each = f"seq $((part * {lines} + 1)) $(((part + 1) * {lines})); echo part $part; read"
    pty, output = opened(box, f"read; for part in $(seq 0 {parts - 1}); do {each}; done; echo the end")
    second = Output()
    attached = box.pty.attach(pty.id, on_data=second)
    # One that attaches and never reads.
    with httpx.stream("GET", f"{url}/v1/sandboxes/{box.id}/pty/{pty.id}/attach", timeout=WAIT_SECONDS, trust_env=False):
        expected = ""
        for part in range(parts):
            pty.send_input("\n")
            expected += "\r\n" + "".join(f"{part * lines + number}\r\n" for number in range(1, lines + 1))
            expected += f"part {part}\r\n"
            for each_one in (output, second):
                each_one.wait_for(f"part {part}\r\n")
        pty.send_input("\n")
        assert pty.wait(timeout=WAIT_SECONDS) == 0
        assert attached.wait(timeout=WAIT_SECONDS) == 0
    assert output.raw == second.raw
    missed = "who reads misses nothing"
    assert output.text.split("\r\n", 1)[1] == f"{expected}\r\nthe end\r\n".split("\r\n", 1)[1], missed


def test_the_list_has_running_and_exited_terminals(fresh: Sandbox) -> None:
    assert fresh.pty.list() == []
    before = time.time() * 1000
    running, _ = opened(fresh, ["cat"])
    exited, _ = opened(fresh, "exit 3")
    assert exited.wait(timeout=WAIT_SECONDS) == 3
    first, second = fresh.pty.list()
    assert (first.pty_id, first.cmd_label, first.exit_code) == (running.id, "cat", None)
    assert (second.pty_id, second.cmd_label, second.exit_code) == (exited.id, "exit 3", 3)
    assert before - 60_000 < first.created_at_ms <= second.created_at_ms < before + 600_000


def test_what_cannot_start_says_why(box: Sandbox) -> None:
    with pytest.raises(RuntimeError, match="no program \"no-such-program\" in PATH"):
        box.pty.create(cmd=["no-such-program"])
    with pytest.raises(RuntimeError, match="cannot enter /nowhere: No such file"):
        box.pty.create(cmd="true", cwd="/nowhere")


def test_an_unknown_terminal_is_not_found_and_nonsense_is_told(http: httpx.Client, box: Sandbox) -> None:
    path = f"/v1/sandboxes/{box.id}/pty"
    nobody = f"{path}/pty_{'0' * 32}"
    for action, body in [("input", {"data_b64": ""}), ("resize", {"cols": 1, "rows": 1}), ("kill", None), ("read", {})]:
        assert_error(http.post(f"{nobody}/{action}", json=body), 404, "pty not found")
    assert_error(http.get(f"{nobody}/attach"), 404, "pty not found")
    assert_error(http.post(path, json={"argv": []}), 400, "argv")
    assert_error(http.post(path, json={"shellCmd": "a", "cols": 0}), 400, "cols")


def test_reads_wait_for_output_as_long_as_asked(http: httpx.Client, box: Sandbox) -> None:
    pty, output = opened(box, "printf abcdef; read; printf ghi; exit 5")
    output.wait_for("abcdef")

    def read(**fields: int) -> tuple[bytes, dict[str, object]]:
        answer = http.post(f"/v1/sandboxes/{box.id}/pty/{pty.id}/read", json=fields).json()
        return base64.b64decode(answer["data_b64"]), answer

    data, answer = read(since_seq=0, max_bytes=4)
    assert (data, answer["next_seq"], answer["exit_code"], answer["dropped"]) == (b"abcd", 4, None, False)
    watch = Stopwatch()
    data, answer = read(since_seq=6, timeout_ms=700)
    assert (data, answer["next_seq"]) == (b"", 6)
    assert watch.seconds >= 0.7
    watch = Stopwatch()
    pty.send_input("\n")
    data, _ = read(since_seq=6, timeout_ms=30_000)
    assert data.startswith(b"\r\n")
    assert watch.seconds < 25, "output ends the wait"
    assert pty.wait(timeout=WAIT_SECONDS) == 5
    answer = box._client.pty_read(box.id, pty.id, since_seq=0)
    assert base64.b64decode(answer["data_b64"]) == b"abcdef\r\nghi"
    assert answer["exit_code"] == 5


def test_the_end_of_a_sandbox_ends_its_terminals(url: str) -> None:
    with Sandbox(host=url) as box:
        pty, output = opened(box, ["cat"])
        pty.send_input("x\n")
        output.wait_for("x\r\nx")
    assert pty.wait(timeout=WAIT_SECONDS) == 137


def test_runs_go_on_beside_terminals(box: Sandbox) -> None:
    pty, output = opened(box, ["python3", "-i"])
    output.wait_for(">>> ")
    box.run_code("beside = 6 * 7")
    assert box.run_code("print(beside)").stdout == "42"
    pty.send_input("print(6 * 9)\n")
    output.wait_for("54")
    assert leaves(pty) == 0


def leaves(pty: Any) -> int:
    """Says end of input until it is heard: while a program changes the terminal's mode it may get lost, or become a
    character of the line, which Ctrl-U takes back."""
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        pty.send_input(b"\x15\x04")
        try:
            return int(pty.wait(timeout=5))
        except TimeoutError:
            assert time.monotonic() < deadline, "the program does not end"


def test_a_terminal_goes_on_in_the_parent_and_in_its_child(url: str, fresh: Sandbox) -> None:
    pty, output = opened(fresh, "while read line; do echo \"$line and $((n += 1))\"; done; exit 4")
    pty.send_input("before\n")
    output.wait_for("before and 1")
    with forked(fresh, 1) as (child,):
        childs = Output()
        attached = child.pty.attach(pty.id, on_data=childs)
        childs.wait_for("before and 1")
        attached.send_input("child\n")
        childs.wait_for("child and 2")
        pty.send_input("parent\n")
        output.wait_for("parent and 2")
        attached.send_input(b"\x04")
        assert attached.wait(timeout=WAIT_SECONDS) == 4
        assert "parent" not in childs.text and "child" not in output.text
    pty.send_input("after\n")
    output.wait_for("after and 3")
    pty.send_input(b"\x04")
    assert pty.wait(timeout=WAIT_SECONDS) == 4


@pytest.mark.parametrize(
    ("cmd", "shows", "quit_with"),
    [("vi -u NONE /root/draft.txt", "~", ":q!\r"), ("top -d 0.5", "load average", "q"), ("less /etc/profile", "PATH", "q")],
)
def test_programs_that_take_the_whole_screen_work(box: Sandbox, cmd: str, shows: str, quit_with: str) -> None:
    pty, output = opened(box, cmd, cols=100, rows=30)
    output.wait_for(shows)
    pty.send_input(quit_with)
    assert pty.wait(timeout=WAIT_SECONDS) == 0
