#!/usr/bin/env python3
"""A tour of a Podflare host with the official client. Each step says what it does, checks it, and shows its time.

python scripts/demo.py http://127.0.0.1:7070
"""

import argparse
import platform
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from podflare import Client, Sandbox

NAME_COLUMNS = 52


class Mismatch(Exception):
    """A step did not give what it must give."""


def main() -> int:
    arguments = argparse.ArgumentParser(description="A narrated tour with the official client.")
    arguments.add_argument("url", help="base URL of the host, e.g. http://127.0.0.1:7070")
    url = arguments.parse_args().url.rstrip("/")
    try:
        tour(url)
    except Mismatch as mismatch:
        print(f"\nThis is not what should have happened: {mismatch}", file=sys.stderr)
        return 1
    return 0


def tour(url: str) -> None:
    with step("ask the host whether it is well"):
        expect(Client(host=url).healthz(), True)

    with step("create a sandbox: a microVM of its own"):
        sandbox = Sandbox(host=url)
    try:
        visit(sandbox)
    finally:
        with step("close it: the VM and all that was in it are gone"):
            sandbox.close()
    print("\nAll of it happened in a dedicated virtual machine.")


def visit(sandbox: Sandbox) -> None:
    show("id", sandbox.id)

    with step("run Python"):
        answer = sandbox.run_code("greeting = 'hello'\nprint(greeting, 6 * 7)")
    show("stdout", expect(answer.stdout, "hello 42"))

    with step("run more Python: the variables are still there"):
        answer = sandbox.run_code("greeting.upper() + '!'")
    show("stdout", expect(answer.stdout, "'HELLO!'"))

    with step("run bash"):
        answer = sandbox.run_code("python3 --version && whoami && nproc", language="bash")
    expect(answer.exit_code, 0)
    show("stdout", answer.stdout.replace("\n", ", "))

    with step("ask for the kernel, inside and outside"):
        inside = sandbox.run_code("uname -sr", language="bash").stdout
        boot_id = sandbox.run_code("cat /proc/sys/kernel/random/boot_id", language="bash").stdout.strip()
    show("inside", inside)
    show("outside", f"{platform.system()} {platform.release()}")
    if boot_id == own_boot_id():
        raise Mismatch("the sandbox runs on the kernel of this machine")

    stream_lines(sandbox)

    content = bytes(range(256)) * 1024
    with step("upload 256 KiB and download it again"):
        sandbox.upload(content, "/root/data/every-byte.bin")
        if sandbox.download("/root/data/every-byte.bin") != content:
            raise Mismatch("the file came back changed")
    show("file", "the same bytes")

    with step("make a mistake"):
        answer = sandbox.run_code("1 / 0")
    expect(answer.exit_code, 1)
    show("stderr", expect(answer.stderr.splitlines()[-1], "ZeroDivisionError: division by zero"))

    with step("go on: the REPL is still alive"):
        answer = sandbox.run_code("print(greeting)")
    show("stdout", expect(answer.stdout, "hello"))


def stream_lines(sandbox: Sandbox) -> None:
    code = "import time\nfor n in range(4):\n    print('line', n)\n    time.sleep(0.3)"
    arrivals: list[float] = []
    print("  stream output while the code runs")
    began = time.perf_counter()
    for event in sandbox.run_code_stream(code):
        if event.type == "stdout":
            arrivals.append(time.perf_counter() - began)
            show(f"after {arrivals[-1] * 1000:5.0f} ms", str(event.data))
    expect(len(arrivals), 4)
    if arrivals[-1] - arrivals[0] < 0.5:
        raise Mismatch("the lines were printed 0.3 s apart, but came all at once")


@contextmanager
def step(name: str) -> Iterator[None]:
    """Names what happens, and adds how long it took."""
    print(f"  {name:{NAME_COLUMNS}}", end="", flush=True)
    began = time.perf_counter()
    try:
        yield
    except BaseException:
        print("failed", flush=True)
        raise
    print(f"{(time.perf_counter() - began) * 1000:8.1f} ms", flush=True)


def show(what: str, value: str) -> None:
    print(f"      {what}: {value}", flush=True)


def expect(value: object, wanted: object) -> str:
    if value != wanted:
        raise Mismatch(f"got {value!r} instead of {wanted!r}")
    return str(value)


def own_boot_id() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read().strip()
    except OSError:  # not a Linux machine, so surely another kernel
        return ""


if __name__ == "__main__":
    sys.exit(main())
