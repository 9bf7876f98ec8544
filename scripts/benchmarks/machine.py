"""A look at the machine the VMs run on: inside the software host, or this one."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from .model import NotAvailable

SECONDS_MAX = 120


@dataclass(frozen=True)
class Process:
    """A VM process. Sizes are in KiB."""

    pid: int
    parent: int
    rss: int
    pss: int
    own: int
    """Pages no other process maps: what ending it would give back."""
    page_tables: int


class Machine:
    def __init__(self, cli: Path | None, state_dir: Path | None, is_software: bool) -> None:
        self._cli = cli
        self._state_dir = state_dir
        self.is_software = is_software

    def run(self, script: str) -> str:
        if not self.is_software:
            command = ["sh", "-c", script]
        elif self._cli is None:
            raise NotAvailable("the machine cannot be looked into without --cli and --state-dir")
        else:
            command = [str(self._cli), "machine", "exec", "--timeout-seconds", str(SECONDS_MAX)]
            if self._state_dir is not None:
                command += ["--state-dir", str(self._state_dir)]
            command += ["--", script]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=SECONDS_MAX + 30, stdin=subprocess.DEVNULL, check=False
        )
        if done.returncode != 0:
            raise NotAvailable(f"the machine cannot be looked into: {done.stderr.strip()[-300:]}")
        return done.stdout

    def vm_processes(self) -> dict[int, Process]:
        script = (
            "for status in /proc/[0-9]*/status; do p=${status%/status};"
            " read -r name < $p/comm 2>/dev/null || continue;"
            " [ \"$name\" = podflare-vmm ] || continue;"
            " echo \"== ${p#/proc/}\"; grep -E '^(PPid|VmPTE):' $status;"
            " grep -E '^(Rss|Pss|Private_Clean|Private_Dirty):' $p/smaps_rollup; done 2>/dev/null; true"
        )
        found = {}
        for part in self.run(script).split("== ")[1:]:
            pid, _, rest = part.partition("\n")
            sizes = {line.split(":")[0]: int(line.split()[1]) for line in rest.splitlines() if ":" in line}
            if {"PPid", "VmPTE", "Rss", "Pss", "Private_Clean", "Private_Dirty"} <= sizes.keys():
                found[int(pid)] = Process(
                    pid=int(pid),
                    parent=sizes["PPid"],
                    rss=sizes["Rss"],
                    pss=sizes["Pss"],
                    own=sizes["Private_Clean"] + sizes["Private_Dirty"],
                    page_tables=sizes["VmPTE"],
                )
        return found

    def memory(self) -> dict[str, int]:
        """The kernel's own account, /proc/meminfo, in KiB."""
        lines = self.run("cat /proc/meminfo").splitlines()
        return {line.split(":")[0]: int(line.split()[1]) for line in lines if ":" in line}
