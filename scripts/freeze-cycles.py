#!/usr/bin/env python3
"""Freezes and resumes one sandbox many times while a git repository and a SQLite database grow in it.

    python3 scripts/freeze-cycles.py --url http://127.0.0.1:7070 --cycles 50

Each round checks digests of everything; the sizes of the spaces are printed, so that growth without bound shows.
"""

import argparse
import sys

import httpx

SETUP = r'''
import hashlib, os, sqlite3, subprocess
os.makedirs("/root/work", exist_ok=True); os.chdir("/root/work")
has_git = subprocess.run("command -v git", shell=True, capture_output=True).returncode == 0
def sh(command): subprocess.run(command, shell=True, check=True, capture_output=True)
if has_git: sh("git init -q . && git config user.email a@b && git config user.name a && git config gc.auto 0")
db = sqlite3.connect("data.db", isolation_level=None); db.execute("pragma journal_mode=wal")
db.execute("create table rounds (n integer, noise text)")
def step(n):
    db.execute("insert into rounds values (?, ?)", (n, os.urandom(2000).hex()))
    with open("blob-%d" % n, "wb") as blob: blob.write(os.urandom(100_000))
    if has_git: sh("git add blob-* && git commit -q -m round-%d" % n)
def digest():
    h = hashlib.sha256()
    for row in db.execute("select n, noise from rounds order by n"): h.update(repr(row).encode())
    for name in sorted(os.listdir(".")):
        if name.startswith("blob-"): h.update(open(name, "rb").read())
    if has_git:
        sh("git fsck --strict")
        h.update(subprocess.check_output(["git", "rev-parse", "HEAD"]))
    assert db.execute("pragma integrity_check").fetchone()[0] == "ok"
    return h.hexdigest()
print("git" if has_git else "no git")
'''


class Host:
    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=url, timeout=180.0, trust_env=False)

    def post(self, path: str, body: object = None) -> dict[str, object]:
        answer = self._http.post(path, json=body or {})
        assert answer.status_code == 200, answer.text
        return answer.json()

    def run(self, sandbox_id: object, code: str) -> str:
        answer = self._http.post(f"/v1/sandboxes/{sandbox_id}/exec", json={"code": code})
        events = [httpx.Response(200, text=line).json() for line in answer.text.splitlines() if line.strip()]
        errors = [event["data"] for event in events if event["type"] == "stderr"]
        assert events[-1]["data"] == 0, errors
        return "\n".join(str(event["data"]) for event in events if event["type"] == "stdout")

    def delete(self, path: str) -> None:
        self._http.delete(path)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True)
    parser.add_argument("--cycles", type=int, default=50)
    options = parser.parse_args()
    host = Host(options.url.rstrip("/"))
    sandbox_id = host.post("/v1/sandboxes")["id"]
    print(host.run(sandbox_id, SETUP))
    for cycle in range(options.cycles):
        before = host.run(sandbox_id, f"step({cycle}); print(digest())")
        space = host.post(f"/v1/sandboxes/{sandbox_id}/freeze")
        sandbox_id = host.post(f"/v1/spaces/{space['id']}/resume")["id"]
        after = host.run(sandbox_id, "print(digest())")
        mib = int(str(space["bytes"])) / (1 << 20)
        print(f"cycle {cycle + 1}: {mib:.1f} MiB, {'same' if before == after else 'DIFFERENT'}", flush=True)
        if before != after:
            return 1
    host.delete(f"/v1/sandboxes/{sandbox_id}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
