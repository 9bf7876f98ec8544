"""Tenants and keys of the host under test, through the command line, as its operator has it."""

import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import httpx
from podflare import Client, Sandbox

from support.cli import Cli


@dataclass(frozen=True)
class Tenant:
    """A tenant with a key, as its user has it."""

    name: str
    key: str
    url: str

    def client(self) -> Client:
        """The official client."""
        return Client(host=self.url, api_key=self.key)

    def sandbox(self, **fields: object) -> Sandbox:
        return Sandbox(host=self.url, api_key=self.key, **fields)

    def http(self) -> httpx.Client:
        headers = {"authorization": f"Bearer {self.key}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=180.0, trust_env=False)


@contextmanager
def tenants(cli: Cli, url: str) -> Iterator[Callable[..., Tenant]]:
    """Makes tenants for a block; they, their keys and their sandboxes are gone after it."""
    with ExitStack() as made:

        def make(name: str, *options: str) -> Tenant:
            # What a tenant used and did outlives it: a host that is tested twice shall not count twice.
            name = f"{name}-{secrets.token_hex(4)}"
            cli.run("tenant", "create", name, *options).expect()
            made.callback(lambda: cli.run("tenant", "rm", "--force", name).expect())
            key = cli.run("key", "create", "--tenant", name, "--name", "test").expect().stdout.strip()
            return Tenant(name, key, url)

        yield make
