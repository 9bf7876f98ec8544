"""`podflare.toml`: what the daemon makes of it, and what holds when a variable says otherwise. No VM is needed."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from support.cli import Cli
from support.daemon import Daemon
from support.settings import Settings

StartDaemon = Callable[..., Daemon]


@pytest.fixture
def start_with(settings: Settings, tmp_path: Path) -> Iterator[StartDaemon]:
    """Starts a daemon with a configuration file of this text."""
    # A short path: the addresses of Unix sockets are below it.
    with TemporaryDirectory(prefix="hostd-") as folder, ExitStack() as daemons:

        def start(text: str, **environment: str) -> Daemon:
            file = tmp_path / "podflare.toml"
            file.write_text(text)
            binary = settings.bin_dir / "podflare-hostd"
            environment |= {"PODFLARE_CONFIG": str(file)}
            return daemons.enter_context(Daemon(binary, Path(folder), **environment))

        yield start


def status(daemon: Daemon, key: str) -> int:
    headers = {"authorization": f"Bearer {key}"}
    return daemon.call("GET", "/v1/sandboxes", headers=headers).status_code


def test_the_daemon_takes_what_the_file_says_and_a_variable_goes_before_it(start_with: StartDaemon) -> None:
    text = '[hostd]\napi_keys = "pf_live_file"\nlog_format = "json"\nboot_only = true\n'
    daemon = start_with(text).wait_until_it_answers()
    assert (status(daemon, "pf_live_file"), status(daemon, "another")) == (200, 401)
    assert "settings from" in [json.loads(line) for line in daemon.log_lines][0]["message"]
    assert "pf_live_file" not in daemon.log
    daemon = start_with(text, PODFLARE_API_KEYS="pf_live_variable").wait_until_it_answers()
    assert (status(daemon, "pf_live_variable"), status(daemon, "pf_live_file")) == (200, 401)


def test_a_mistake_in_the_file_is_named_and_nothing_starts(start_with: StartDaemon) -> None:
    daemon = start_with("[hostd]\nregoin = 'eu'\nvcpus = 2.5\n")
    assert daemon.wait_until_it_ends() != 0
    assert "podflare.toml:2: hostd.regoin: there is no such setting; did you mean region?" in daemon.log
    assert "podflare.toml:3: hostd.vcpus: expected a whole number, got the number 2.5" in daemon.log


def test_a_file_that_is_named_and_missing_is_an_error(settings: Settings, tmp_path: Path) -> None:
    missing = str(tmp_path / "missing.toml")
    with Daemon(settings.bin_dir / "podflare-hostd", tmp_path, PODFLARE_CONFIG=missing) as daemon:
        assert daemon.wait_until_it_ends() != 0
        assert missing in daemon.log and "PODFLARE_CONFIG" in daemon.log


def test_the_command_line_checks_and_shows_it(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "podflare.toml"
    cli.run("config", "init", str(file)).expect()
    assert file.stat().st_mode & 0o777 == 0o600
    assert "is sound" in cli.run("config", "check", str(file)).expect().stdout
    file.write_text('[hostd]\nregion = "eu"\napi_keys = "pf_live_secret"\n')
    shown = cli.run("config", "show", "--json", "--changed", "--config", str(file)).expect()
    values = {setting["key"]: (setting["value"], setting["source"]) for setting in shown.json()["settings"]}
    assert values["region"] == ("eu", "file")
    assert "pf_live_secret" not in shown.stdout
