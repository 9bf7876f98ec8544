"""Host daemons that are killed, and those that come after them."""

import httpx

from support.machine import Machine
from support.waiting import wait_until

NEXT_SECONDS = 180
"""The next daemon is started after a second or more, and takes everything over before it answers."""


def daemon_pid(machine: Machine) -> int:
    # Empty for the moment in which the next one's is written.
    return wait_until("the daemon's process is known", lambda: int(machine.output("cat", "/run/hostd.pid").strip() or 0))


def kill_daemon(machine: Machine) -> int:
    """Kills the daemon as nothing else does; gives its process."""
    pid = daemon_pid(machine)
    machine.kill(pid)
    return pid


def wait_for_the_next(http: httpx.Client) -> None:
    def answers() -> bool:
        try:
            return http.get("/v1/healthz").status_code == 200
        except httpx.HTTPError:
            return False

    wait_until("the next daemon answers", answers, NEXT_SECONDS)


def replace_daemon(machine: Machine, http: httpx.Client) -> None:
    """Kills the daemon and waits until another one has taken over."""
    before = kill_daemon(machine)
    wait_until("the daemon is another one", lambda: daemon_pid(machine) != before, NEXT_SECONDS)
    wait_for_the_next(http)
