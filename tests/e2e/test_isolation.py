"""Every sandbox is a machine of its own: its own kernel, and nothing in common with its neighbour."""

import platform
import re
import time
from pathlib import Path

import pytest
from podflare import Sandbox

from support.machine import Machine

BOOT_ID = "/proc/sys/kernel/random/boot_id"


def test_the_kernel_is_the_guests_own(box: Sandbox, machine: Machine) -> None:
    release = box.run_code("uname -r", language="bash").stdout
    assert re.fullmatch(r"6\.12\.\d+\+deb13-cloud-amd64", release), release
    if "cloud-amd64" not in platform.release():
        assert release != platform.release()
    # Two kernels of one release are still two kernels; the boot id tells them apart.
    inside = box.run_code(f"cat {BOOT_ID}", language="bash").stdout.strip()
    assert inside != Path(BOOT_ID).read_text().strip()
    assert inside != machine.output("cat", BOOT_ID).strip()


def test_uname_all_is_that_of_linux_on_x86_64(box: Sandbox) -> None:
    words = box.run_code("uname -a", language="bash").stdout.split()
    assert words[0] == "Linux"
    assert "x86_64" in words


@pytest.mark.parametrize(
    ("what", "code"),
    [
        ("hostname", "import socket; print(socket.gethostname())"),
        ("machine id", "print(open('/etc/machine-id').read().strip())"),
        ("boot id", f"print(open('{BOOT_ID}').read().strip())"),
        ("Python's random numbers", "import random; print([random.random() for _ in range(3)])"),
        ("the kernel's random numbers", "import os; print(os.urandom(16).hex())"),
        ("UUIDs", "import uuid; print(uuid.uuid4())"),
    ],
)
def test_two_sandboxes_never_share(box: Sandbox, neighbour: Sandbox, what: str, code: str) -> None:
    mine, theirs = (sandbox.run_code(code) for sandbox in (box, neighbour))
    assert mine.ok and theirs.ok, mine.stderr + theirs.stderr
    assert mine.stdout and mine.stdout != theirs.stdout, f"{what} of both is {mine.stdout}"


def test_the_machine_id_is_32_hexadecimal_digits(box: Sandbox) -> None:
    assert re.fullmatch(r"[0-9a-f]{32}", box.run_code("cat /etc/machine-id", language="bash").stdout)


def test_files_of_one_are_not_in_the_other(box: Sandbox, neighbour: Sandbox) -> None:
    for directory in ("/root", "/tmp", "/var/tmp", "/dev/shm"):
        box.run_code(f"echo secret > {directory}/secret-of-box", language="bash")
        found = neighbour.run_code(f"ls {directory}", language="bash").stdout
        assert "secret-of-box" not in found


def test_processes_of_one_are_not_in_the_other(box: Sandbox, neighbour: Sandbox) -> None:
    box.run_code("import subprocess; child = subprocess.Popen(['sleep', '77777'])")
    assert "77777" in box.run_code("ps -ef", language="bash").stdout
    assert "77777" not in neighbour.run_code("ps -ef", language="bash").stdout
    box.run_code("child.kill(); _ = child.wait()")


def test_variables_of_one_are_not_in_the_other(box: Sandbox, neighbour: Sandbox) -> None:
    box.run_code("only_in_box = 1")
    assert "NameError" in neighbour.run_code("only_in_box").stderr


def test_the_hosts_environment_does_not_leak_in(box: Sandbox) -> None:
    for language in ("python", "bash"):
        code = "import os; print(sorted(os.environ))" if language == "python" else "env | cut -d= -f1 | sort"
        assert "PODFLARE" not in box.run_code(code, language=language).stdout


def test_the_guest_has_the_memory_and_disk_of_the_contract(box: Sandbox) -> None:
    ram_kib = int(box.run_code("awk '/MemTotal/ {print $2}' /proc/meminfo", language="bash").stdout)
    assert 900 * 1024 <= ram_kib <= 1024 * 1024, "1024 MiB less what the kernel keeps for itself"
    disk_kib = int(box.run_code("df -k --output=size / | tail -1", language="bash").stdout)
    assert 3.5 * 1024**2 <= disk_kib <= 4 * 1024**2, "4 GiB less the file system's own"


def test_the_clock_of_a_sandbox_is_right(box: Sandbox) -> None:
    before = time.time()
    inside = float(box.run_code("import time; print(time.time())").stdout)
    assert before - 5 < inside < time.time() + 5
