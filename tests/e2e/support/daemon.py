"""A `podflare-hostd` of a test's own, on this machine, for rules that need no VM: keys, addresses, start and end."""

import os
import random
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

import httpx

from support.waiting import wait_until

START_SECONDS = 120
STOP_SECONDS = 120
CALL_SECONDS = 60


def free_port() -> int:
    """A port for later. Not one of those that the kernel gives to whoever asks for any, or somebody gets it meanwhile."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


class Daemon:
    """One daemon process; a context manager that ends it."""

    def __init__(self, binary: Path, work_dir: Path, host: str = "127.0.0.1", **environment: str) -> None:
        self.port = free_port()
        own_dir = work_dir / str(self.port)  # a data directory belongs to one daemon at a time
        own_dir.mkdir(parents=True)
        self._log = own_dir / "log"
        self._binary = binary
        self.data_dir = own_dir / "data"
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("PODFLARE_")}
        self._environment = (
            inherited
            | {"PODFLARE_HOSTD_ADDR": f"{host}:{self.port}", "PODFLARE_DATA_DIR": str(self.data_dir)}
            | {"PODFLARE_CONFIG": ""}  # no file of this machine
            | _images_that_nobody_boots(own_dir)
            | environment
        )
        self._process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [str(self._binary)], env=self._environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def restart(self, *, kill: bool = False, **environment: str) -> "Daemon":
        """Ends the process, in order or not, and starts it again with the same data."""
        self._process.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
        self._process.wait(STOP_SECONDS)
        self._environment |= environment
        self._process = self._start()
        return self

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    @property
    def log_lines(self) -> list[str]:
        """Its lines, without one that is being written."""
        return self.log.split("\n")[:-1]

    def wait_until_it_answers(self) -> "Daemon":
        wait_until(f"hostd answers on {self.url}", self._answers_or_has_ended, START_SECONDS)
        assert self._process.poll() is None, f"hostd ended with {self._process.returncode}: {self.log}"
        return self

    def wait_until_it_ends(self) -> int:
        """The exit code of a daemon that refuses to start or was told to stop."""
        wait_until(f"hostd ends; its log: {self.log}", lambda: self._process.poll() is not None, STOP_SECONDS)
        return self._process.returncode

    def call(self, method: str, path: str, **options: Any) -> httpx.Response:
        return httpx.request(method, self.url + path, timeout=CALL_SECONDS, trust_env=False, **options)

    def terminate(self) -> None:
        self._process.send_signal(signal.SIGTERM)

    def _answers_or_has_ended(self) -> bool:
        if self._process.poll() is not None:
            return True
        try:
            return httpx.get(f"{self.url}/v1/healthz", timeout=10, trust_env=False).text.strip() == "ok"
        except httpx.HTTPError:
            return False

    def __enter__(self) -> "Daemon":
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self.terminate()
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(STOP_SECONDS)
                raise AssertionError(f"hostd did not end within {STOP_SECONDS} s of SIGTERM: {self.log}") from None


def _images_that_nobody_boots(work_dir: Path) -> dict[str, str]:
    """A daemon wants to know its images when it starts; these tests never create a sandbox from them."""
    images = work_dir / "images"
    images.mkdir()
    for name in ("vmlinux", "default.ext4", "initrd.cpio"):
        with (images / name).open("wb") as image:
            image.truncate(1 << 20)
    return {"PODFLARE_IMAGES": str(images), "PODFLARE_GUEST_INITRD": str(images / "initrd.cpio")}
