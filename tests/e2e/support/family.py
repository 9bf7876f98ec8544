"""Forked sandboxes that are closed again."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from podflare import Client, Sandbox


@contextmanager
def forked(sandbox: Sandbox, n: int = 1) -> Iterator[list[Sandbox]]:
    """Children of a sandbox, for a block. Those that were merged away close without a word."""
    children = sandbox.fork(n)
    try:
        yield children
    finally:
        close_all(children)


def close_all(sandboxes: list[Sandbox]) -> None:
    for sandbox in sandboxes:
        sandbox.close()


def run_in_each(url: str, sandboxes: list[Sandbox], code: str, at_once: int = 8) -> list[str]:
    """What the code prints in each of them, all run at the same time."""

    def run(sandbox: Sandbox) -> str:
        # The client's own connection pool is shared by all sandboxes made of it.
        client = Client(host=url)
        try:
            done = Sandbox._from_id(sandbox.id, client).run_code(code)
        finally:
            client.close()
        assert done.ok, f"{sandbox.id}: exit {done.exit_code}: {done.stderr}"
        return done.stdout

    with ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(run, sandboxes))
