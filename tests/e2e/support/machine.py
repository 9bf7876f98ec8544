"""A look into the machine that holds the VMs: which processes it has, what they hold open."""

from dataclasses import dataclass

import httpx

from support.cli import Cli

# One line per process: pid, state, name. `comm` holds 15 characters, more than any name of ours.
_PROCESSES = r"""
for dir in /proc/[0-9]*; do
    read -r name < $dir/comm || continue
    case "$name" in podflare-*) ;; *) continue ;; esac
    state=$(sed -n 's/^State:[[:space:]]*//p' $dir/status)
    echo "${dir#/proc/}|$state|$name"
done 2>/dev/null; true
"""


@dataclass(frozen=True)
class Process:
    """A process of ours."""

    pid: int
    state: str
    name: str


class Machine:
    """Reaches into the machine through `podflare machine exec`."""

    def __init__(self, cli: Cli) -> None:
        self._cli = cli

    def output(self, *command: str, seconds: int = 180) -> str:
        return self._cli.machine(*command, seconds=seconds).expect().stdout

    def processes(self, name: str) -> list[Process]:
        """Processes of that name, zombies among them."""
        rows = [line.split("|") for line in self.output("sh", "-c", _PROCESSES).splitlines() if line.count("|") == 2]
        found = [Process(int(pid), state, comm) for pid, state, comm in rows]
        return [process for process in found if process.name == name]

    def kill(self, pid: int) -> None:
        self.output("kill", "-9", str(pid))

    def zygote(self, http: httpx.Client, template: str) -> int:
        """Process of the VM that a template's sandboxes are cloned from."""
        pools = http.get("/v1/capacity").json()["pools"]
        return next(pool["zygote_pid"] for pool in pools if pool["template"] == template)

    def strays(self, http: httpx.Client) -> int:
        """VM processes beyond those of sandboxes, pools, zygotes and the next resume; what is in the making may count for a moment."""
        capacity = http.get("/v1/capacity").json()
        wanted = sum(pool["size"] + ("zygote_pid" in pool) for pool in capacity["pools"])
        wanted += capacity["sandboxes"]["ready"] + capacity["sandboxes"]["booting"] + capacity["standby"]
        return len(self.processes("podflare-vmm")) - wanted

    def memory_available_mib(self) -> int:
        lines = self.output("cat", "/proc/meminfo").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")) // 1024

    def data_used_kib(self) -> int:
        """Room taken on the file system with the data of the host daemon."""
        used = self.output("sh", "-c", "df -k /state 2>/dev/null || df -k /")
        return int(used.splitlines()[-1].split()[2])

    def descriptor_count(self, name: str) -> int:
        """Open descriptors of the only process of that name."""
        (process,) = self.processes(name)
        return len(self.output("ls", f"/proc/{process.pid}/fd").split())
