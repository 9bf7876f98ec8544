"""Unmodified official clients of other days, each in an environment of its own."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from support.settings import USER_ENVIRONMENT
from support.venvs import python_with

HTTPX = "httpx==0.28.1"

SMOKE = """
import json, sys
from podflare import Sandbox
from podflare.client import Client

url = sys.argv[1]
seen = {"healthz": Client(host=url).healthz()}
with Sandbox(host=url) as parent:
    seen["id"] = parent.id
    parent.run_code("x = 41; print('from the parent')")
    run = parent.run_code("x += 1; print(x)")
    seen["python"] = [run.stdout, run.stderr, run.exit_code]
    seen["bash"] = parent.run_code("echo out; echo err >&2; exit 7", language="bash").exit_code
    seen["stream"] = [[e.type, e.data, e.seq] for e in parent.run_code_stream("print(1); print(2)")]
    parent.upload(b"\\x00\\xff" * 1000, "/root/deep/file")
    seen["download"] = parent.download("/root/deep/file") == b"\\x00\\xff" * 1000
    children = parent.fork(2)
    for number, child in enumerate(children):
        child.run_code(f"open('/root/mine-{number}', 'w').write('{number}'); x = {number}")
    seen["diff"] = parent.diff(children[1])
    parent.merge_into(children[1])
    seen["merged"] = parent.run_code("print(x)").stdout
    seen["replay"] = [e.data for e in parent.replay() if e.type == "stdout"]
    children[0].close()
    children[1].close()
print(json.dumps(seen))
"""

REGION = """
import sys
from podflare import Sandbox

with Sandbox(region=sys.argv[1]) as sandbox:
    print(sandbox._client.host, sandbox.run_code("print('reached')").stdout)
"""


def run_client(tmp_path: Path, python: Path, program: str, *arguments: str, **environment: str) -> str:
    inherited = {name: value for name, value in USER_ENVIRONMENT.items() if not name.startswith("PODFLARE_")}
    done = subprocess.run(
        [str(python), "-c", program, *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        # Regions are remembered on disk for days.
        env=inherited | {"XDG_CACHE_HOME": str(tmp_path), "HOME": str(tmp_path)} | environment,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-1000:]} {done.stderr[-3000:]}"
    return done.stdout


def client_of(version: str) -> Path:
    return python_with(f"podflare-{version}", f"podflare=={version}", HTTPX)


@pytest.mark.timeout(700)
@pytest.mark.parametrize("version", ["0.0.2", "0.0.10", "0.0.15", "0.0.20"])
def test_an_old_client_finds_all_it_knew(version: str, url: str, tmp_path: Path) -> None:
    seen: dict[str, Any] = json.loads(run_client(tmp_path, client_of(version), SMOKE, url))
    assert seen["healthz"] is True
    assert seen["id"].startswith("sbx_")
    assert seen["python"] == ["42", "", 0]
    assert seen["bash"] == 7
    assert seen["stream"] == [["stdout", "1", 0], ["stdout", "2", 1], ["exit", 0, 2]]
    assert seen["download"] is True
    assert seen["diff"] == {"added": ["/root/mine-1"], "removed": [], "modified": []}
    assert seen["merged"] == "1"
    assert seen["replay"][:2] == ["from the parent", "42"]


@pytest.mark.timeout(700)
@pytest.mark.parametrize("region", ["us", "EU", "lab 1"])
def test_a_region_of_the_old_kind_is_served_under_its_prefix(region: str, url: str, tmp_path: Path) -> None:
    output = run_client(tmp_path, client_of("0.0.15"), REGION, region, PODFLARE_API_URL=url)
    host, said = output.split()
    assert host.startswith(f"{url}/r/") and said == "reached"
