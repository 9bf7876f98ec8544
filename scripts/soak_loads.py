"""What `soak.py` runs inside each guest: pieces of code whose answers are known beforehand or check themselves."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True)
class Load:
    """One piece of work. `TURN` in the code is replaced by the number of the turn, counted from 0."""

    name: str
    code: str
    answer: Callable[[int], str]
    """What must be on stdout after that turn."""


HASH_ROUNDS = 20_000
PRIMES_BELOW = 200_000
PRIME_COUNT = 17_984
"""The number of primes below 200,000, from the tables."""
MEMORY_MIB = 160
FILES = 12
FILE_KIB = 1024
PROCESSES = 150


@lru_cache(maxsize=1)
def _hash_chain(turn: int) -> str:
    digest = str(turn).encode()
    for _ in range(HASH_ROUNDS):
        digest = hashlib.sha256(digest).digest()
    return digest.hex()


SETUP = """
import gc, hashlib, os, random, subprocess, threading, zlib
# Memory that stays for the whole run and is never written again: what happens to it, happens behind its back.
keepsake = [bytes([n]) * (1 << 20) for n in range(64)]
keepsake_crc = [zlib.crc32(piece) for piece in keepsake]
print("ready")
"""

CPU_HASH = f"""
digest = b"TURN"
for _ in range({HASH_ROUNDS}):
    digest = hashlib.sha256(digest).digest()
print(digest.hex())
"""

CPU_SIEVE = f"""
sieve = bytearray([1]) * {PRIMES_BELOW}
sieve[0] = sieve[1] = 0
for n in range(2, int({PRIMES_BELOW} ** 0.5) + 1):
    if sieve[n]:
        sieve[n * n::n] = bytes(len(range(n * n, {PRIMES_BELOW}, n)))
# Floating point as well: its registers are saved and restored by other code than the integer ones.
total = 0.0
for n in range(1, 20_000):
    total += (n ** 0.5) * (n ** 0.5) / n
print(sum(sieve), round(total, 3))
"""

MEMORY = f"""
seed = TURN * 7919 + 1
blocks = [random.Random(seed + n).randbytes(1 << 12) * 256 for n in range({MEMORY_MIB})]
crcs = [zlib.crc32(random.Random(seed + n).randbytes(1 << 12) * 256) for n in range({MEMORY_MIB})]
wrong = [n for n in range({MEMORY_MIB}) if zlib.crc32(blocks[n]) != crcs[n]]
wrong += [-n for n in range(64) if zlib.crc32(keepsake[n]) != keepsake_crc[n]]
del blocks
print("wrong", wrong, gc.collect() >= 0)
"""

DISK = f"""
folder = "/root/soak"
os.makedirs(folder, exist_ok=True)
def read(path):
    with open(path, "rb") as file:
        return zlib.crc32(file.read())
def write(n):
    piece = os.urandom(4096) * ({FILE_KIB} // 4)
    # Odd lengths, so that the last block is never whole.
    piece = piece[: len(piece) - 1 - n * 37]
    with open(f"{{folder}}/turn-{{TURN % 3}}-{{n}}", "wb") as file:
        file.write(piece)
        file.flush()
        os.fsync(file.fileno())
    return zlib.crc32(piece)
if TURN == 0:
    remembered = {{}}
for n in range({FILES}):
    remembered[f"turn-{{TURN % 3}}-{{n}}"] = write(n)
os.sync()
with open("/proc/sys/vm/drop_caches", "w") as caches:
    caches.write("3")
# Files of the two turns before are read again too: they have been on the disk only, for a while.
wrong = [name for name, crc in remembered.items() if read(f"{{folder}}/{{name}}") != crc]
print("wrong", wrong, len(remembered))
"""

PROCESS_STORM = f"""
answers = []
def worker(first):
    for n in range(first, {PROCESSES}, 3):
        done = subprocess.run(["sh", "-c", f"echo $(( {{n}} * {{n}} + TURN ))"], capture_output=True, text=True)
        answers.append((n, done.stdout.strip(), done.returncode))
threads = [threading.Thread(target=worker, args=(first,)) for first in range(3)]
for thread in threads: thread.start()
for thread in threads: thread.join()
wrong = [answer for answer in answers if answer[1:] != (str(answer[0] ** 2 + TURN), 0)]
print("wrong", wrong, len(answers))
"""

PIPELINE = """
line = "seq 1 20000 | gzip -c | gunzip -c | sha256sum | cut -c1-64"
done = subprocess.run(line, shell=True, capture_output=True, text=True)
expected = hashlib.sha256("".join(f"{n}\\n" for n in range(1, 20001)).encode()).hexdigest()
print(done.stdout.strip() == expected, done.returncode)
"""

OUTPUT = """
for n in range(3000):
    print(n, "x" * (n % 50))
"""


def _sieve_answer(_: int) -> str:
    total = 0.0
    for n in range(1, 20_000):
        total += (n**0.5) * (n**0.5) / n
    return f"{PRIME_COUNT} {round(total, 3)}"


def _disk_answer(turn: int) -> str:
    return f"wrong [] {FILES * min(turn + 1, 3)}"


def _output_answer(_: int) -> str:
    return "\n".join(f"{n} {'x' * (n % 50)}" for n in range(3000))


LOADS = [
    Load("cpu_hash", CPU_HASH, _hash_chain),
    Load("cpu_sieve", CPU_SIEVE, _sieve_answer),
    Load("memory", MEMORY, lambda _: "wrong [] True"),
    Load("disk", DISK, _disk_answer),
    Load("processes", PROCESS_STORM, lambda _: f"wrong [] {PROCESSES}"),
    Load("pipeline", PIPELINE, lambda _: "True 0"),
    Load("output", OUTPUT, _output_answer),
]
