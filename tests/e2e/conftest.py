"""Fixtures of the end-to-end tests.

The host under test runs real VMs, on emulated hardware where there is no other: creating one takes seconds. So tests
take the shared sandbox `box` unless isolation is the point; no test counts on what another left in it.
"""

import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

import httpx
import pytest
from podflare import Sandbox

from support import settings as settings_module
from support.boxes import Boxes
from support.cli import Cli
from support.machine import Machine
from support.settings import SettingMissing, Settings
from support.waiting import wait_until
from support.wire import api, sandbox_ids

_FAILED = pytest.StashKey[bool]()


def pytest_configure(config: pytest.Config) -> None:
    try:
        settings_module.from_environment()
    except SettingMissing as missing:
        raise pytest.UsageError(str(missing)) from None
    settings_module.clean_client_environment(Path(tempfile.mkdtemp(prefix="podflare-e2e-cache-")))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        item.stash[_FAILED] = True
    return report


@pytest.fixture(scope="session")
def settings() -> Settings:
    return settings_module.from_environment()


@pytest.fixture(scope="session")
def url(settings: Settings) -> str:
    return settings.url


@pytest.fixture(scope="session")
def cli(settings: Settings) -> Cli:
    return Cli(settings)


@pytest.fixture(scope="session")
def machine(cli: Cli) -> Machine:
    return Machine(cli)


@pytest.fixture(scope="session")
def http(url: str) -> Iterator[httpx.Client]:
    with api(url) as client:
        yield client


@pytest.fixture(scope="session", autouse=True)
def nothing_is_left_behind(http: httpx.Client, machine: Machine) -> Iterator[None]:
    """The host has no sandbox before the first test, and after the last neither one nor a VM process too many."""
    before = sandbox_ids(http)
    assert not before, f"the host under test must be empty, it has {sorted(before)}"
    yield
    left = sandbox_ids(http)
    assert not left, f"sandboxes were left behind: {sorted(left)}"
    # They are torn down off every request path, so the last may outlive its DELETE for a while.
    wait_until(
        "the machine has no podflare-vmm processes left but those of zygotes and pools",
        lambda: machine.strays(http) == 0,
    )


@pytest.fixture(scope="session")
def boxes(url: str, nothing_is_left_behind: None) -> Iterator[Boxes]:
    shared = Boxes(url)
    yield shared
    shared.close_all()


def _shared(name: str, boxes: Boxes, request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    yield boxes.get(name)
    if request.node.stash.get(_FAILED, False):
        boxes.discard(name)


@pytest.fixture
def box(boxes: Boxes, request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    """The sandbox that most tests share."""
    yield from _shared("box", boxes, request)


@pytest.fixture
def neighbour(boxes: Boxes, request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    """A second shared sandbox."""
    yield from _shared("neighbour", boxes, request)


@pytest.fixture(scope="module")
def _rough_module(boxes: Boxes) -> Iterator[None]:
    yield
    boxes.discard("rough")


@pytest.fixture
def rough(boxes: Boxes, request: pytest.FixtureRequest, _rough_module: None) -> Iterator[Sandbox]:
    """A sandbox for rough play, shared within one module only."""
    yield from _shared("rough", boxes, request)


@pytest.fixture
def fresh(url: str, boxes: Boxes) -> Iterator[Sandbox]:
    """A sandbox nobody has used."""
    with Sandbox(host=url) as sandbox:
        yield sandbox
