#!/usr/bin/env python3
"""How long a daemon takes to start that has many spaces to list and many running sandboxes to take over.

    python3 scripts/start-up.py --url http://127.0.0.1:7070 --spaces 500 --sandboxes 50 --cli podflare --state-dir DIR

Spaces are made by resuming one again and again and freezing what comes of it. Then the daemon is replaced, and all of them
have to be there, each sandbox with the value it had. Prints what each restart took.
"""

import argparse
import json
import subprocess
import sys
import time

import httpx

CALL_SECONDS = 120


class Host:
    def __init__(self, options: argparse.Namespace) -> None:
        self.http = httpx.Client(base_url=options.url, timeout=CALL_SECONDS)
        self.restart_command = [options.cli, "restart", "--state-dir", options.state_dir, "--json"]

    def post(self, path: str, body: object = None) -> dict:
        while True:
            answer = self.http.post(path, json=body or {})
            if answer.status_code in (429, 503) and "retry-after" in answer.headers:
                time.sleep(float(answer.headers["retry-after"]))
                continue
            answer.raise_for_status()
            return answer.json()

    def says(self, sandbox: str, code: str) -> str:
        answer = self.http.post(f"/v1/sandboxes/{sandbox}/exec", json={"code": code})
        events = [json.loads(line) for line in answer.raise_for_status().text.split("\n") if line.strip()]
        return "\n".join(str(event["data"]) for event in events if event["type"] == "stdout")

    def freeze(self, sandbox: str) -> str:
        return self.post(f"/v1/sandboxes/{sandbox}/freeze")["id"]

    def resume(self, space: str, keep: bool) -> str:
        return self.post(f"/v1/spaces/{space}/resume", {"keep": keep})["id"]

    def restart(self) -> dict:
        done = subprocess.run(self.restart_command, capture_output=True, text=True, timeout=CALL_SECONDS, check=True)
        return json.loads(done.stdout)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:7070")
    parser.add_argument("--spaces", type=int, default=500)
    parser.add_argument("--sandboxes", type=int, default=50)
    parser.add_argument("--restarts", type=int, default=3)
    parser.add_argument("--cli", default="podflare")
    parser.add_argument("--state-dir", required=True)
    options = parser.parse_args()
    host = Host(options)
    first = host.post("/v1/sandboxes")["id"]
    host.says(first, "x = 'first'")
    spaces = [host.freeze(first)]
    while len(spaces) < options.spaces:
        spaces.append(host.freeze(host.resume(spaces[0], keep=True)))
        if len(spaces) % 50 == 0:
            print(f"{len(spaces)} spaces", flush=True)
    sandboxes = {}
    while len(sandboxes) < options.sandboxes:
        made = host.post("/v1/sandboxes")["id"]
        sandboxes[made] = str(len(sandboxes))
        host.says(made, f"x = {sandboxes[made]}")
    print(f"{len(sandboxes)} sandboxes", flush=True)
    for _ in range(options.restarts):
        print(json.dumps(host.restart()), flush=True)
        listed = {space["id"] for space in host.http.get("/v1/spaces").json()["spaces"]}
        assert listed >= set(spaces), f"{len(set(spaces) - listed)} spaces are not listed"
        wrong = {made for made, value in sandboxes.items() if host.says(made, "print(x)") != value}
        assert not wrong, f"sandboxes that are not what they were: {wrong}"
    for made in sandboxes:
        host.http.delete(f"/v1/sandboxes/{made}")
    for space in spaces:
        host.http.delete(f"/v1/spaces/{space}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
