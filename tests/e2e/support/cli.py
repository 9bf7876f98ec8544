"""The `podflare` command line, run as a user runs it."""

import copy
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.settings import USER_ENVIRONMENT, Settings


@dataclass(frozen=True)
class Finished:
    """A command that has ended."""

    command: list[str]
    code: int
    stdout: str
    stderr: str

    def json(self) -> Any:
        try:
            return json.loads(self.stdout)
        except ValueError as error:
            raise AssertionError(f"{self} printed no JSON") from error

    def expect(self, code: int = 0) -> "Finished":
        assert self.code == code, str(self)
        return self

    def __str__(self) -> str:
        return (
            f"`{' '.join(self.command)}` ended with {self.code}\n"
            f"stdout: {self.stdout[-2000:]}\nstderr: {self.stderr[-2000:]}"
        )


class Cli:
    """Runs `podflare` against the host under test."""

    def __init__(self, settings: Settings) -> None:
        self.binary = settings.cli
        self._url = settings.url
        self._state_dir = settings.state_dir

    def elsewhere(self, url: str, state_dir: Path) -> "Cli":
        """The same command line for another host."""
        other = copy.copy(self)
        other._url, other._state_dir = url, state_dir
        return other

    def run(self, *arguments: str, stdin: str = "", seconds: float = 180) -> Finished:
        """Runs one command to its end."""
        return self._finish([str(self.binary), *arguments], stdin, seconds)

    def machine(self, *command: str, seconds: int = 180) -> Finished:
        """Runs a command in the machine that holds the VMs."""
        arguments = ["machine", "exec", "--state-dir", str(self._state_dir), "--timeout-seconds", str(seconds)]
        return self._finish([str(self.binary), *arguments, "--", *command], "", seconds + 30)

    @property
    def is_on_hardware(self) -> bool:
        """Whether VMs run on this machine itself, and not in a software host, which is a machine of its own."""
        status = json.loads((self._state_dir / "run/status.json").read_text())
        return status["kind"] == "hardware"

    @property
    def environment(self) -> dict[str, str]:
        """The user's own, so that caches are found where the host under test has put them."""
        return USER_ENVIRONMENT | {
            "PODFLARE_API_URL": self._url,
            "PODFLARE_STATE_DIR": str(self._state_dir),
            "NO_COLOR": "1",
        }

    def _finish(self, command: list[str], stdin: str, seconds: float) -> Finished:
        done = subprocess.run(
            command, input=stdin, capture_output=True, text=True, timeout=seconds, env=self.environment, check=False
        )
        return Finished(command, done.returncode, done.stdout, done.stderr)
