"""Metrics, traces and logs, of real VMs and with the official client."""

import json
import secrets
from pathlib import Path
from typing import Any

import httpx
import pytest
from podflare import Sandbox

from support.cli import Cli
from support.collector import Collector
from support.daemon import Daemon
from support.family import forked
from support.metrics import scrape, total
from support.settings import Settings
from support.waiting import wait_until
from support.wire import AbandonedRun, raw_exec

LOG_LINES = "20000"
SHOW = "import os; print(os.environ.get('TRACEPARENT'))"


def new_trace() -> tuple[str, str]:
    """A trace id, and a header that names it."""
    trace_id = secrets.token_hex(16)
    return trace_id, f"00-{trace_id}-{secrets.token_hex(8)}-01"


def log_lines(cli: Cli, *words: str) -> list[str]:
    """Lines of the host's log that hold all of the words."""
    text = cli.run("logs", "-n", LOG_LINES).expect().stdout
    return [line for line in text.splitlines() if all(word in line for word in words)]


def test_counters_move_with_what_the_client_does(url: str, http: httpx.Client, fresh: Sandbox) -> None:
    before = scrape(http)
    assert fresh.run_code("print('ab')").ok
    assert fresh.run_code("exit 7", language="bash").exit_code == 7
    with forked(fresh, 2) as children:
        fresh.merge_into(children[0])
    with Sandbox(host=url) as another:
        assert another.run_code("1 + 1").stdout == "2"
    now = before

    def grown(name: str, *labels: str) -> float:
        return total(now, name, *labels) - total(before, name, *labels)

    def runs_are_counted() -> bool:
        nonlocal now
        now = scrape(http)
        # A run is counted when its client has heard of its end, or just before.
        return grown("podflare_run_duration_seconds_count") >= 3

    wait_until("the runs are counted", runs_are_counted)

    assert grown("podflare_runs_total", 'language="python"', 'outcome="ok"') == 2
    assert grown("podflare_runs_total", 'language="bash"', 'outcome="error"') == 1
    assert grown("podflare_run_duration_seconds_count") == 3
    assert grown("podflare_run_output_bytes_total", 'stream="stdout"') == len("ab\n") + len("2\n")
    assert grown("podflare_creates_total", 'template="default"') == 1
    assert grown("podflare_fork_children_total") == 2
    assert grown("podflare_merges_total") == 1
    assert grown("podflare_stage_duration_seconds_count", 'operation="fork"', 'stage="identity"') == 1
    assert grown("podflare_http_requests_total", 'route="/v1/sandboxes/{id}/exec"', 'status="2xx"') == 3
    assert total(now, "podflare_sandboxes", 'state="ready"') >= 1
    assert total(now, "process_resident_memory_bytes") > 1 << 20
    labels = " ".join(key for series in now.values() for key in series)
    assert "sbx_" not in labels


def test_a_vm_that_panics_is_counted_by_how_it_died(http: httpx.Client, fresh: Sandbox) -> None:
    before = scrape(http)
    fresh.run_code("echo c > /proc/sysrq-trigger", language="bash")
    dead = ('role="sandbox"', 'kind="guest_panic"')
    wait_until(
        "the panic is counted",
        lambda: total(scrape(http), "podflare_vm_deaths_total", *dead) > total(before, "podflare_vm_deaths_total", *dead),
    )


def test_a_trace_of_the_client_reaches_the_code_and_the_log(url: str, cli: Cli) -> None:
    trace_id, traceparent = new_trace()
    with Sandbox(host=url, traceparent=traceparent) as sandbox:
        # A daemon that exports spans puts its own in between: the trace stays, the parent changes.
        assert sandbox.run_code(SHOW).stdout.startswith(f"00-{trace_id}-")
        assert sandbox.run_code("echo $TRACEPARENT", language="bash").stdout.startswith(f"00-{trace_id}-")
        child = "import subprocess as s; print(s.run('echo $TRACEPARENT', shell=True, capture_output=True).stdout)"
        assert trace_id in sandbox.run_code(child).stdout
        # And another client's run in the same sandbox has none of it.
        assert raw_exec(url, sandbox.id, SHOW).output() == "None"
    wait_until(
        "the log has the requests of this trace",
        lambda: len(log_lines(cli, trace_id, "http_request")) >= 4,
    )
    created = log_lines(cli, trace_id, "sandbox_created")
    assert len(created) == 1 and sandbox.id in created[0]


@pytest.mark.parametrize("malformed", ["00-0123456789abcdef-0123456789abcdef-01", "x", "00-" + "0" * 32 + "-1-01"])
def test_a_malformed_trace_is_ignored(url: str, malformed: str) -> None:
    with Sandbox(host=url, traceparent=malformed) as sandbox:
        assert sandbox.run_code(SHOW).stdout == "None"


def test_what_a_sandbox_was_and_did_is_in_the_log(url: str, cli: Cli) -> None:
    with Sandbox(host=url) as sandbox, forked(sandbox, 1) as (child,):
        assert child.run_code("1").ok
    for event, id in [
        ("sandbox_created", sandbox.id),
        ("sandbox_forked", child.id),
        ("sandbox_destroyed", child.id),
        ("sandbox_destroyed", sandbox.id),
    ]:
        wait_until(f"the log has {event} of {id}", lambda: log_lines(cli, event, id))


def test_a_guest_cannot_flood_the_hosts_log(url: str, cli: Cli, fresh: Sandbox) -> None:
    before = len(log_lines(cli))
    flood = "for i in range(3000): print('\\x1b[2Jflood', i, flush=True)"
    assert fresh.run_code(flood).ok
    kernel = "for i in $(seq 300); do echo '<1>flood-of-the-kernel' > /dev/kmsg; done; echo done"
    assert fresh.run_code(kernel, language="bash").stdout == "done"
    # Neither its output nor its kernel's console is the host's log.
    assert not log_lines(cli, "flood")
    assert len(log_lines(cli)) - before < 100
    console = httpx.get(f"{url}/v1/sandboxes/{fresh.id}/console", timeout=60, trust_env=False).text
    assert len(console) <= 1 << 20


def test_top_shows_what_runs(url: str, cli: Cli, box: Sandbox) -> None:
    assert box.run_code("print(1)").ok
    once = cli.run("top", "--once").expect()
    assert box.id in once.stdout and "\x1b" not in once.stdout
    view = cli.run("top", "--json").expect().json()
    row = next(row for row in view["sandboxes"] if row["id"] == box.id)
    assert row["runs"] >= 1 and row["memory_resident_bytes"] > 1 << 20
    assert row["memory_own_bytes"] <= row["memory_resident_bytes"]
    run = AbandonedRun(url, box.id, "print('on', flush=True)\nwhile True: pass")
    run.wait_for_event()

    def is_shown_as_busy() -> bool:
        view = cli.run("top", "--json").expect().json()
        row = next(row for row in view["sandboxes"] if row["id"] == box.id)
        return row["cpu_percent"] > 1 and row["running_execs"] == 1

    wait_until("it is shown as busy", is_shown_as_busy)
    run.leave()


def test_json_lines_carry_the_trace_and_a_collector_gets_it_too(settings: Settings, tmp_path: Path) -> None:
    trace_id, traceparent = new_trace()
    with (
        Collector() as collector,
        Daemon(
            settings.bin_dir / "podflare-hostd",
            tmp_path,
            PODFLARE_LOG_FORMAT="json",
            PODFLARE_BOOT_ONLY="1",
            OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
            OTEL_BSP_SCHEDULE_DELAY="200",
            OTEL_BLRP_SCHEDULE_DELAY="200",
        ).wait_until_it_answers() as daemon,
    ):
        answer = daemon.call("GET", "/v1/sandboxes", headers={"traceparent": traceparent})
        assert answer.status_code == 200

        def told() -> list[dict[str, Any]]:
            lines = [json.loads(line) for line in daemon.log_lines]
            for line in lines:
                assert {"timestamp", "level", "message", "target"} <= line.keys()
            return [line for line in lines if line.get("trace_id") == trace_id]

        mine = wait_until("the log has the request", told)
        assert mine[0]["span"]["name"] == "http_request" and mine[0]["fields"]["event"] == "http_request"
        wanted = bytes.fromhex(trace_id)
        wait_until("the collector has the span", lambda: wanted in collector.got("/v1/traces"))
        wait_until("the collector has the line", lambda: wanted in collector.got("/v1/logs"))


def test_metrics_have_a_key_and_an_address_of_their_own(settings: Settings, tmp_path: Path) -> None:
    keys = {"PODFLARE_API_KEYS": "tenant", "PODFLARE_BOOT_ONLY": "1"}

    def status(daemon: Daemon, key: str) -> int:
        header = {"authorization": f"Bearer {key}"}
        return daemon.call("GET", "/metrics", headers=header).status_code

    hostd = settings.bin_dir / "podflare-hostd"
    with Daemon(hostd, tmp_path, **keys).wait_until_it_answers() as closed:
        assert status(closed, "tenant") == 401
    with Daemon(hostd, tmp_path, PODFLARE_METRICS_KEY="operator", **keys).wait_until_it_answers() as opened:
        assert (status(opened, "tenant"), status(opened, "operator")) == (401, 200)
    with Daemon(hostd, tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT="https://x", **keys) as refused:
        assert refused.wait_until_it_ends() == 1
        assert "expected a URL that begins with http://" in refused.log
