"""Bringing a file into a sandbox."""

import os

from ..bench import Bench
from ..model import CLIENT, Measurement, Row, Target

KIB = 256


def upload(bench: Bench) -> Measurement:
    content = os.urandom(KIB * 1024)
    result = Measurement()
    with bench.sandbox() as sandbox:
        for _ in range(bench.count(50)):
            bench.timed(result, lambda: sandbox.upload(content, "/root/file.bin"))
        if sandbox.download("/root/file.bin") != content:
            result.notes.append("the file arrived changed")
    return result


ROWS = (Row("upload", f"upload {KIB} KiB", "ms", upload, (Target(CLIENT, "p50", 15),), "about 5 ms"),)
