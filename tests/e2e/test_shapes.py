"""Sandboxes of another size than their template's: memory and disk as the guest itself sees them."""

import httpx
from podflare import Sandbox

GIB = 1024**3

LOOK = """
import os
memory_kib = int(next(line for line in open('/proc/meminfo') if line.startswith('MemTotal:')).split()[1])
root = os.statvfs('/')
print(memory_kib // 1024, root.f_blocks * root.f_frsize, os.stat('/').st_dev != 0)
"""


def look(sandbox: Sandbox) -> tuple[int, int]:
    """Memory in MiB and the size of the root file system in bytes."""
    memory, disk, _ = sandbox.run_code(LOOK).stdout.split()
    return int(memory), int(disk)


def test_memory_and_disk_are_what_was_asked_for_in_free_and_df(url: str, http: httpx.Client) -> None:
    with Sandbox(host=url, ram_mib=768, rootfs_gb=9) as sandbox:
        info = http.get(f"/v1/sandboxes/{sandbox.id}").json()
        assert (info["ram_mib"], info["rootfs_gb"], info["source"]) == (768, 9, "boot")
        memory, disk = look(sandbox)
        # The kernel keeps some memory for itself, the file system some blocks.
        assert 768 * 0.8 < memory <= 768
        assert 9 * GIB * 0.93 < disk <= 9 * GIB
        free = sandbox.run_code("free -m | awk '/^Mem:/ {print $2}'; df -BG --output=size / | tail -1", language="bash")
        assert abs(int(free.stdout.split()[0]) - memory) <= 1
        assert free.stdout.split()[1] == "9G"
        # More than the template's whole disk can be allocated.
        wrote = sandbox.run_code("fallocate -l 5G /root/big && stat -c %s /root/big && rm /root/big", language="bash")
        assert wrote.stdout == str(5 * GIB), wrote.stderr


def test_what_is_not_asked_for_is_the_templates(url: str, http: httpx.Client) -> None:
    with Sandbox(host=url, ram_mib=640) as sandbox:
        memory, disk = look(sandbox)
        assert 640 * 0.8 < memory <= 640
        assert 4 * GIB * 0.93 < disk <= 4 * GIB
