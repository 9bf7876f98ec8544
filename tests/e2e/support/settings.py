"""Where the host under test is. The test command sets these; nothing has a default that could test the wrong thing."""

import os
from dataclasses import dataclass
from pathlib import Path

URL_MISSING = (
    "PODFLARE_TEST_URL is not set. Run `cargo xtask test`: it builds everything, starts a host and runs these tests."
)


USER_ENVIRONMENT = dict(os.environ)
"""As it was before these tests shielded the official client from it."""


class SettingMissing(Exception):
    """A variable that a test needs is not set."""


@dataclass(frozen=True)
class Settings:
    """The host under test."""

    url: str

    @property
    def cli(self) -> Path:
        """The `podflare` binary."""
        return _existing_path("PODFLARE_TEST_CLI")

    @property
    def state_dir(self) -> Path:
        """The state directory of the host under test, by which the command line finds its machine."""
        return _existing_path("PODFLARE_TEST_STATE_DIR")

    @property
    def report_dir(self) -> Path | None:
        """Where figures are written for later, when somebody wants them."""
        text = os.environ.get("PODFLARE_TEST_REPORT_DIR", "")
        return Path(text) if text else None

    @property
    def bin_dir(self) -> Path:
        """Where binaries are that run on this machine, `podflare-hostd` among them."""
        return _existing_path("PODFLARE_TEST_BIN_DIR")


def from_environment() -> Settings:
    url = os.environ.get("PODFLARE_TEST_URL", "").rstrip("/")
    if not url:
        raise SettingMissing(URL_MISSING)
    return Settings(url=url)


def clean_client_environment(cache_home: Path) -> None:
    """Takes away everything by which the user's own configuration could steer the official client elsewhere."""
    for name in ("PODFLARE_API_KEY", "PODFLARE_API_URL", "PODFLARE_HOSTD_URL", "PODFLARE_HOST", "PODFLARE_TRACEPARENT"):
        os.environ.pop(name, None)
    os.environ["XDG_CACHE_HOME"] = str(cache_home)


def _existing_path(variable: str) -> Path:
    text = os.environ.get(variable, "")
    if not text:
        raise SettingMissing(f"{variable} is not set; `cargo xtask test` sets it.")
    path = Path(text)
    if not path.exists():
        raise SettingMissing(f"{variable} names {path}, which does not exist.")
    return path
