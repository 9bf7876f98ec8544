"""`podflare shell` in a real terminal, as a person uses it."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pexpect
import pyte
import pytest
from podflare import Sandbox

from support.cli import Cli
from support.waiting import wait_until
from support.wire import sandbox_ids

WAIT_SECONDS = 120
COLS, ROWS = 100, 30


class Screen(pyte.Screen):
    """One that does not stumble over the private sequences of vim."""

    def select_graphic_rendition(self, *attributes: int, private: bool = False) -> None:
        if not private:
            super().select_graphic_rendition(*attributes)


class Person:
    """Somebody in front of a terminal that runs `podflare shell`."""

    def __init__(self, cli: Cli, *arguments: str, **environment: str) -> None:
        self.child = pexpect.spawn(
            str(cli.binary),
            ["shell", *arguments],
            env=dict(cli.environment) | {"TERM": "xterm-256color"} | environment,
            dimensions=(ROWS, COLS),
            timeout=WAIT_SECONDS,
        )
        self.child.delaybeforesend = None
        self.screen = Screen(COLS, ROWS)
        self._stream = pyte.ByteStream(self.screen)

    def types(self, keys: str) -> None:
        self.child.send(keys)

    def look(self) -> str:
        """The screen as it is now."""
        try:
            while True:
                self._stream.feed(self.child.read_nonblocking(65536, timeout=0.05))
        except (pexpect.TIMEOUT, pexpect.EOF):
            return self.shown()

    def shown(self) -> str:
        return "\n".join(self.screen.display)

    def sees(self, pattern: str) -> str:
        def seen() -> str | None:
            shown = self.look()
            return shown if re.search(pattern, shown) else None

        try:
            return wait_until(f"the screen shows {pattern!r}", seen, WAIT_SECONDS)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.look()}") from None

    def ends(self) -> int:
        """Waits for the end; gives the exit code."""
        self.child.expect(pexpect.EOF)
        self._stream.feed(self.child.before or b"")
        self.child.close()
        assert self.child.exitstatus is not None, f"killed by signal {self.child.signalstatus}"
        return self.child.exitstatus


@contextmanager
def person(cli: Cli, *arguments: str, **environment: str) -> Iterator[Person]:
    somebody = Person(cli, *arguments, **environment)
    try:
        yield somebody
    finally:
        somebody.child.close(force=True)


def test_a_shell_prompts_runs_and_passes_its_exit_code_on(cli: Cli, box: Sandbox) -> None:
    with person(cli, box.id) as somebody:
        somebody.sees(r"root@sbx-\w+:~# ")
        somebody.types("stty size; echo $((6*7))\r")
        somebody.sees(rf"\n{ROWS} {COLS}\s*\n42\b")
        somebody.types("exit 7\r")
        assert somebody.ends() == 7


def test_the_window_grows_with_the_terminal(cli: Cli, box: Sandbox) -> None:
    with person(cli, box.id) as somebody:
        somebody.sees("# ")
        somebody.child.setwinsize(20, 90)
        somebody.types("while [ \"$(stty size)\" != '20 90' ]; do sleep 0.1; done; echo seen it\r")
        somebody.sees(r"\nseen it")
        somebody.types("exit\r")
        assert somebody.ends() == 0


def test_vim_edits_a_file(cli: Cli, box: Sandbox) -> None:
    with person(cli, box.id, "--", "vim", "/root/poem.txt") as somebody:
        somebody.sees(r"poem.txt. \[New")
        somebody.types("ifirst line\rsecond line\x1b")
        somebody.sees("second line")
        somebody.types("ggOtop line\x1b:wq\r")
        assert somebody.ends() == 0
    assert box.run_code("print(open('/root/poem.txt').read())").stdout == "top line\nfirst line\nsecond line\n"


def test_top_draws_its_screen_and_quits(cli: Cli, box: Sandbox) -> None:
    with person(cli, box.id, "--", "top", "-d", "0.5") as somebody:
        somebody.sees(r"load average[\s\S]*PID")
        somebody.sees(r"\binit\b")
        somebody.types("q")
        assert somebody.ends() == 0


def test_python_keeps_its_history_and_ctrl_c_only_interrupts(cli: Cli, box: Sandbox) -> None:
    with person(cli, box.id, "--", "python3", "-i", "-q") as somebody:
        somebody.sees(">>> ")
        somebody.types("import time; time.sleep(1000)\r")
        somebody.sees("sleep")
        somebody.types("\x03")
        somebody.sees("KeyboardInterrupt")
        somebody.types("print(6 * 7)\r")
        somebody.sees(r"\n42")
        somebody.types("exit(3)\r")
        assert somebody.ends() == 3


def test_detaching_leaves_the_program_and_attaching_finds_it(cli: Cli, box: Sandbox) -> None:
    with person(cli, box.id) as somebody:
        somebody.sees("# ")
        somebody.types("secret=found; echo re''ady\r")
        somebody.sees("ready")
        somebody.types("\x10\x11")
        assert somebody.ends() == 0
        told = re.search(r"--attach (pty_[0-9a-f]{32})", somebody.shown().replace("\n", ""))
    assert told, "it says how to go on"
    listed = cli.run("shell", box.id, "--list", "--json").expect().json()["terminals"]
    assert any(terminal["pty_id"] == told[1] and terminal["exit_code"] is None for terminal in listed)
    assert told[1] in cli.run("shell", box.id, "--list").expect().stdout
    with person(cli, box.id, "--attach", told[1], PODFLARE_DETACH_KEYS="ctrl-a,d") as somebody:
        somebody.sees("ready")
        somebody.types("echo it is $secret\r")
        somebody.sees("it is found")
        somebody.types("\x01d")
        assert somebody.ends() == 0
    with person(cli, box.id, "--attach", told[1]) as somebody:
        somebody.sees("it is found")
        somebody.types("exit 5\r")
        assert somebody.ends() == 5


def test_without_a_sandbox_there_is_a_fresh_one_which_goes_away(cli: Cli, http: httpx.Client, box: Sandbox) -> None:
    before = sandbox_ids(http)
    with person(cli) as somebody:
        somebody.sees("# ")
        assert len(sandbox_ids(http) - before) == 1
        somebody.types("exit 2\r")
        assert somebody.ends() == 2
    assert sandbox_ids(http) == before
    with person(cli) as somebody:
        somebody.sees("# ")
        # The window is closed.
        somebody.child.kill(1)
        somebody.ends()
    wait_until("it is gone", lambda: sandbox_ids(http) == before, WAIT_SECONDS)


@pytest.mark.parametrize("keys", ["exit\r", "\x10\x11"])
def test_the_terminal_is_as_it_was_afterwards(cli: Cli, box: Sandbox, keys: str) -> None:
    shell = pexpect.spawn("/bin/sh", ["-c", "stty -a; \"$0\" shell \"$1\"; echo left; stty -a", str(cli.binary), box.id],
                          env=dict(cli.environment), dimensions=(ROWS, COLS), timeout=WAIT_SECONDS)
    shell.expect("speed(.*)iexten")
    before = flags(shell.match[1])
    shell.expect("# ")
    shell.send(keys)
    shell.expect("left\r\nspeed(.*)iexten")
    assert flags(shell.match[1]) == before
    shell.expect(pexpect.EOF)


def flags(settings: bytes) -> list[bytes]:
    return re.findall(rb"-?(?:icanon|echo|isig|opost|icrnl|ixon)\b", settings)


def test_a_pipe_is_no_terminal(cli: Cli, box: Sandbox) -> None:
    done = cli.run("shell", box.id, stdin="echo hi\n")
    assert done.code == 125
    assert "standard input is none" in done.stderr and "podflare sandbox exec" in done.stderr
