"""The command line, as people and scripts use it."""

import json
import re
import subprocess
from pathlib import Path

import httpx
import pytest
from podflare import Sandbox

from support.cli import Cli
from support.wire import sandbox_ids

ID = re.compile(r"sbx_[0-9a-f]{32}")


def test_run_prints_what_the_code_prints_and_removes_the_sandbox(cli: Cli, http: httpx.Client) -> None:
    before = sandbox_ids(http)
    done = cli.run("run", "-c", "import sys\nprint(6 * 7)\nprint('err', file=sys.stderr)").expect(0)
    assert done.stdout == "42\n"
    assert done.stderr == "err\n", "nothing of our own is written when no terminal looks on"
    assert sandbox_ids(http) == before


def test_run_passes_the_exit_code_on(cli: Cli) -> None:
    cli.run("run", "-c", "import sys; sys.exit(7)").expect(7)


def test_run_takes_bash_too(cli: Cli) -> None:
    done = cli.run("run", "--bash", "-c", "echo bash; exit 5").expect(5)
    assert done.stdout == "bash\n"


def test_run_takes_a_file_with_arguments(cli: Cli, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("import sys\nprint(sys.argv[1:])\n")
    assert cli.run("run", str(script), "one", "two words").expect(0).stdout == "['one', 'two words']\n"


def test_run_takes_code_from_standard_input(cli: Cli) -> None:
    assert cli.run("run", "-", stdin="print('from stdin')").expect(0).stdout == "from stdin\n"


def test_run_of_a_missing_file_says_which_and_creates_nothing(cli: Cli, http: httpx.Client) -> None:
    before = sandbox_ids(http)
    done = cli.run("run", "/no/such/script.py")
    assert done.code not in (0, 1), "1 would look like an exception in the code"
    assert "/no/such/script.py" in done.stderr
    assert sandbox_ids(http) == before


def test_a_sandbox_is_created_listed_used_and_removed(cli: Cli, http: httpx.Client) -> None:
    created = cli.run("sandbox", "create").expect(0)
    (sandbox_id,) = ID.findall(created.stdout)
    try:
        assert sandbox_id in cli.run("sandbox", "ls").expect(0).stdout
        cli.run("sandbox", "exec", sandbox_id, "-c", "kept = 20").expect(0)
        assert cli.run("sandbox", "exec", sandbox_id, "-c", "print(kept + 1)").expect(0).stdout == "21\n"
        cli.run("sandbox", "exec", sandbox_id, "-c", "raise SystemExit(9)").expect(9)
    finally:
        cli.run("sandbox", "rm", sandbox_id).expect(0)
    assert sandbox_id not in sandbox_ids(http)


def test_create_and_ls_print_the_json_of_the_api(cli: Cli, box: Sandbox) -> None:
    listed = cli.run("sandbox", "ls", "--json").expect(0).json()
    sandboxes = listed["sandboxes"] if isinstance(listed, dict) else listed
    assert box.id in {sandbox["id"] for sandbox in sandboxes}
    created = cli.run("sandbox", "create", "--json").expect(0).json()
    assert ID.fullmatch(created["id"])
    assert created["state"] == "ready"
    cli.run("sandbox", "rm", created["id"]).expect(0)


def test_json_of_exec_is_one_event_a_line(cli: Cli, box: Sandbox) -> None:
    done = cli.run("sandbox", "exec", box.id, "--json", "-c", "print('a'); print('b'); raise SystemExit(3)").expect(3)
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(event["type"], event["data"]) for event in events] == [("stdout", "a"), ("stdout", "b"), ("exit", 3)]


def test_exec_in_an_unknown_sandbox_is_a_clear_error_and_not_an_exit_code_of_code(cli: Cli) -> None:
    done = cli.run("sandbox", "exec", "sbx_" + "e" * 32, "-c", "print(1)").expect(125)
    assert "not found" in done.stderr


def test_removing_an_unknown_sandbox_twice_is_no_error_of_the_host(cli: Cli, http: httpx.Client) -> None:
    sandbox_id = http.post("/v1/sandboxes", json={}).json()["id"]
    cli.run("sandbox", "rm", sandbox_id).expect(0)
    again = cli.run("sandbox", "rm", sandbox_id)
    assert again.code in (0, 1) and "panicked" not in again.stderr


def test_status_says_where_the_host_is(cli: Cli, url: str) -> None:
    assert url in cli.run("status").expect(0).stdout
    assert cli.run("status", "--json").expect(0).json()["url"].rstrip("/") == url


def test_doctor_finds_nothing_wrong_on_a_machine_where_the_host_runs(cli: Cli) -> None:
    cli.run("doctor").expect(0)
    assert cli.run("doctor", "--json").expect(0).json()


def test_logs_show_what_the_host_did(cli: Cli) -> None:
    assert cli.run("logs").expect(0).stdout.strip()


def test_machine_exec_passes_output_and_exit_code(cli: Cli) -> None:
    assert cli.machine("echo", "two  words").expect(0).stdout == "two  words\n"
    cli.machine("sh", "-c", "exit 6").expect(6)


def test_a_command_that_ends_loses_no_other_request(cli: Cli) -> None:
    """The machine reads a request while the one before it ends: it forgot half of what it had read."""
    for number in range(40):
        assert cli.machine("echo", str(number)).expect(0).stdout == f"{number}\n"


@pytest.mark.parametrize("command", [[], ["sandbox"], ["machine"], ["up"], ["run"], ["sandbox", "exec"]])
def test_every_command_explains_itself(cli: Cli, command: list[str]) -> None:
    done = cli.run(*command, "--help").expect(0)
    assert "Usage:" in done.stdout


def test_arguments_that_make_no_sense_end_with_two(cli: Cli) -> None:
    cli.run("no-such-command").expect(2)
    cli.run("run", "--no-such-option").expect(2)


def test_a_host_that_is_not_there_is_named(cli: Cli) -> None:
    done = cli.run("sandbox", "ls", "--api-url", "http://127.0.0.1:9")
    assert done.code == 1
    assert "http://127.0.0.1:9" in done.stderr
    assert "podflare up" in done.stderr, "the error says what to do about it"


def test_a_broken_pipe_is_not_a_crash(cli: Cli) -> None:
    command = f"'{cli.binary}' run -c 'for n in range(100000): print(n)' | head -1"
    done = subprocess.run(
        ["bash", "-c", command], env=cli.environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.stdout == "0\n"
    assert "panicked" not in done.stderr
