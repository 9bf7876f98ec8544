"""What leaves the machine that holds the VMs, as QEMU sees it, which everything passes and nothing in there gets around."""

import signal
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from support.cli import Cli
from support.waiting import wait_until

FILE_HEAD = struct.Struct("<IHHiIII")
PACKET_HEAD = struct.Struct("<IIII")
MAGIC = 0xA1B2C3D4
ETHERNET = 1
IPV4 = 0x0800
PACKET_BYTES = 160
"""Of each packet: heads, and a whole question about a short name."""


@dataclass(frozen=True)
class Packet:
    """A packet of IPv4."""

    destination: str
    protocol: int
    """1 is ICMP, 6 TCP, 17 UDP."""
    payload: bytes
    """Behind the head of IP."""


class Capture:
    """The packets of a block; to be read after it."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def frames(self) -> list[bytes]:
        data = self._file.read_bytes()
        magic, *_, link = FILE_HEAD.unpack_from(data)
        assert (magic, link) == (MAGIC, ETHERNET), data[:24]
        frames, at = [], FILE_HEAD.size
        while at < len(data):
            _, _, kept, _ = PACKET_HEAD.unpack_from(data, at)
            at += PACKET_HEAD.size
            frames.append(data[at : at + kept])
            at += kept
        return frames

    def to(self, address: str) -> list[Packet]:
        """What went to an address."""
        return [packet for frame in self.frames() if (packet := parse(frame)) and packet.destination == address]

    def asks_for(self, name: str) -> bool:
        """Whether anything, whoever it went to, has this name in the form that questions have."""
        labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
        return any(labels in frame.lower() for frame in self.frames())

    def mentions(self, address: str) -> bool:
        """Whether this address is in any packet at all, in whatever place."""
        return any(IPv4Address(address).packed in frame for frame in self.frames())


def parse(frame: bytes) -> Packet | None:
    if len(frame) < 34 or struct.unpack_from("!H", frame, 12)[0] != IPV4:
        return None
    head = (frame[14] & 15) * 4
    return Packet(str(IPv4Address(frame[30:34])), frame[23], frame[14 + head :])


@contextmanager
def captured(cli: Cli, file: Path) -> Iterator[Capture]:
    """Captures during a block."""
    command = [str(cli.binary), "machine", "capture", str(file), "--seconds", "1800", "--mib", "256"]
    command += ["--packet-bytes", str(PACKET_BYTES)]
    running = subprocess.Popen(command, env=cli.environment, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        wait_until(
            "the capture has begun",
            lambda: running.poll() is not None or (file.exists() and file.stat().st_size >= FILE_HEAD.size),
            60,
        )
        assert running.poll() is None, running.stderr and running.stderr.read()
        yield Capture(file)
        assert running.poll() is None, "the capture ended before what it was to see"
    finally:
        running.send_signal(signal.SIGINT)
        code = running.wait(60)
    assert code == 128 + signal.SIGINT, code
