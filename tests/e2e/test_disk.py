"""The root disk: what was written is read back, also past the page cache, and a full disk is an error and no end."""

import pytest
from podflare import Sandbox

WRITE_AND_READ_BACK = """
import os, zlib

block = os.urandom(1 << 20)

def content(n):
    return n.to_bytes(8, "little") + block[8:]

with open("/root/large", "wb") as out:
    for n in range(200):
        out.write(content(n))
    out.flush()
    os.fsync(out.fileno())
os.sync()
with open("/proc/sys/vm/drop_caches", "w") as caches:
    caches.write("3")
with open("/root/large", "rb") as back:
    wrong = [n for n in range(200) if zlib.crc32(back.read(1 << 20)) != zlib.crc32(content(n))]
print("wrong:", wrong, "size:", os.path.getsize("/root/large") >> 20)
os.unlink("/root/large")
"""

SCATTERED_WRITES = """
import os, random

# Odd offsets and lengths, so that the guest reads, changes and writes parts of blocks.
draw = random.Random(7)
expected = bytearray(8 << 20)
handle = os.open("/root/scattered", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
os.ftruncate(handle, len(expected))
for _ in range(400):
    offset, length = draw.randrange(len(expected) - 20_000), draw.randrange(1, 20_000)
    piece = draw.randbytes(length)
    os.pwrite(handle, piece, offset)
    expected[offset:offset + length] = piece
    if draw.random() < 0.05:
        os.fsync(handle)
os.fsync(handle)
open("/proc/sys/vm/drop_caches", "w").write("3")
print(os.pread(handle, len(expected), 0) == expected)
os.close(handle)
os.unlink("/root/scattered")
"""

FILL = """
import errno, os

handle = os.open("/root/filler", os.O_WRONLY | os.O_CREAT)
# Reserving takes blocks without writing them, so filling 4 GiB takes no time. Halve the step until nothing fits.
step, end = 1 << 30, 0
while step >= 4096:
    try:
        os.posix_fallocate(handle, end, step)
        end += step
    except OSError as error:
        assert error.errno == errno.ENOSPC, error
        step //= 2
try:
    with open("/root/one_more", "wb") as out:
        out.write(bytes(4 << 20))
        out.flush()
        os.fsync(out.fileno())
    print("there was room")
except OSError as error:
    print(errno.errorcode[error.errno])
"""


@pytest.mark.timeout(900)
def test_two_hundred_mebibytes_are_read_back_from_the_disk_as_written(rough: Sandbox) -> None:
    result = rough.run_code(WRITE_AND_READ_BACK)
    assert result.stdout == "wrong: [] size: 200", result.stderr


def test_scattered_writes_of_any_size_are_read_back_as_written(rough: Sandbox) -> None:
    result = rough.run_code(SCATTERED_WRITES + "\nNone")
    assert result.stdout.split("\n")[-1] == "True", result.stderr


def test_a_full_disk_is_an_error_that_the_sandbox_survives(rough: Sandbox) -> None:
    result = rough.run_code(FILL)
    assert result.stdout == "ENOSPC", result.stderr
    assert rough.run_code("print('python')").stdout == "python"
    assert rough.run_code("echo bash", language="bash").stdout == "bash"
    freed = rough.run_code("import os\nos.close(handle)\nos.unlink('/root/filler')\nos.unlink('/root/one_more')")
    assert freed.ok, freed.stderr
    rough.upload(b"room again", "/root/after")
    assert rough.download("/root/after") == b"room again"


def test_the_disk_is_writable_and_the_kernel_saw_no_error(rough: Sandbox) -> None:
    assert rough.run_code("touch /root/w && sync && echo ok", language="bash").stdout == "ok"
    complaints = rough.run_code(
        "dmesg | grep -E 'I/O error|EXT4-fs error|Call Trace|soft lockup|blocked for more than'", language="bash"
    )
    assert (complaints.stdout, complaints.stderr) == ("", "")
