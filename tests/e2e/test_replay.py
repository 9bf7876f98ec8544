"""Replay: the last events of a sandbox's runs, through the official client and on the wire, across fork and merge."""

import json
from typing import Any

import httpx
from podflare import Client, Sandbox

from support.family import forked
from support.gate import Gate
from support.wire import AbandonedRun, raw_exec

COUNTING = """
import os, sys, time
for n in range({count}):
    print(f'line-{{n}}', end='', flush=True)
    time.sleep({pause})
    while n == {hold} and {is_shut}: time.sleep(0.02)
    print(f'/{{n}}', flush=True)
    if n % 3 == 0: print(f'err-{{n}}', file=sys.stderr, flush=True)
"""


def replayed(http: httpx.Client, sandbox_id: str, follow: bool = False) -> list[dict[str, Any]]:
    query = "?follow=true" if follow else ""
    answer = http.get(f"/v1/sandboxes/{sandbox_id}/replay{query}", timeout=180)
    assert answer.status_code == 200 and answer.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in answer.text.split("\n") if line]


def said(events: list[dict[str, Any]], kind: str = "stdout") -> list[str]:
    return [event["data"] for event in events if event["type"] == kind]


def counted(count: int) -> list[str]:
    return [f"line-{n}/{n}" for n in range(count)]


def test_replay_gives_what_runs_have_said_in_order(url: str, http: httpx.Client, fresh: Sandbox) -> None:
    streamed = []
    for code in ("print(1)", "raise SystemExit(3)", "import sys; print('e', file=sys.stderr); 'ä\u2028😀'"):
        streamed += raw_exec(url, fresh.id, code).events
    assert replayed(http, fresh.id) == streamed
    events = Client(host=url).replay(fresh.id)
    assert events == fresh.replay()
    assert [(event.type, event.data, event.seq) for event in events] == [
        (event["type"], event["data"], event["seq"]) for event in streamed
    ]


def test_the_newest_thousand_events_are_kept(http: httpx.Client, fresh: Sandbox) -> None:
    fresh.run_code("for n in range(700): print(n)")
    fresh.run_code("for n in range(700, 1400): print(n)")
    events = replayed(http, fresh.id)
    assert len(events) == 1000
    assert said(events) == [str(n) for n in range(402, 1400)]
    fresh.run_code("print('x' * 12_000_000)")
    events = replayed(http, fresh.id)
    assert len(events) == 1000 and events[-1]["type"] == "exit"
    assert "more bytes are not kept for replay" in events[-2]["data"] and len(events[-2]["data"]) < 100_000


def test_a_child_starts_with_its_parents_events_and_a_merge_keeps_the_winners(
    http: httpx.Client, fresh: Sandbox
) -> None:
    fresh.run_code("print('before')")
    with forked(fresh, 2) as (winner, other):
        fresh.run_code("print('parent')")
        winner.run_code("print('winner')")
        assert said(replayed(http, other.id)) == ["before"]
        assert said(replayed(http, winner.id)) == ["before", "winner"]
        assert said(replayed(http, fresh.id)) == ["before", "parent"]
        fresh.merge_into(winner)
        assert said(replayed(http, fresh.id)) == ["before", "winner"]


def test_a_run_in_progress_goes_on_in_a_child_whose_replay_shows_it_to_its_end(
    url: str, http: httpx.Client, fresh: Sandbox
) -> None:
    fresh.run_code("print('before')")
    # It does not end before all have been forked: it is held in the middle of a line.
    count, gate = 40, Gate()
    run = AbandonedRun(url, fresh.id, COUNTING.format(count=count, pause=0.1, hold=25, is_shut=gate.is_shut))
    for _ in range(6):
        run.wait_for_event()
    with forked(fresh, 2) as children:
        for child in children:
            assert http.get(f"/v1/sandboxes/{child.id}").json()["running_execs"] == 1
        # A fork of a child that carries a run carries it on, too.
        with forked(children[0], 1) as (grandchild,):
            assert http.get(f"/v1/sandboxes/{grandchild.id}").json()["running_execs"] == 1
            for sandbox in (*children, grandchild):
                gate.open(url, sandbox.id)
                events = replayed(http, sandbox.id, follow=True)
                assert said(events) == ["before", *counted(count)]
                assert said(events, "stderr") == [f"err-{n}" for n in range(0, count, 3)]
                assert (events[-1]["type"], events[-1]["data"]) == ("exit", 0)
                seqs = [event["seq"] for event in events[2:]]
                assert seqs == sorted(set(seqs)) and seqs[0] == 0
                assert sandbox.run_code("print(n)").stdout == str(count - 1)
        # The parent's stream has everything once, too.
        gate.open(url, fresh.id)
        last = run.wait_for_event()
        while last["type"] != "exit":
            last = run.wait_for_event()
        events = replayed(http, fresh.id)
        assert said(events) == ["before", *counted(count)] and last["data"] == 0
    run.leave()


def test_a_new_run_in_the_child_waits_for_the_one_it_carries(url: str, http: httpx.Client, fresh: Sandbox) -> None:
    gate = Gate()
    code = f"import os, time\nprint('begun', flush=True)\n{gate.wait}\nprint('done')"
    run = AbandonedRun(url, fresh.id, code)
    run.wait_for_event()
    with forked(fresh) as (child,):
        run.leave()
        following = AbandonedRun(url, child.id, "print('next')")
        following.wait_for_headers()
        assert http.get(f"/v1/sandboxes/{child.id}").json()["running_execs"] == 2
        gate.open(url, child.id)
        assert following.wait_for_event()["data"] == "next"
        assert following.wait_for_event()["type"] == "exit"
        following.leave()
        assert said(replayed(http, child.id)) == ["begun", "done", "next"]
        # The parent's was interrupted when its client left.
        events = replayed(http, fresh.id, follow=True)
        assert events[-1]["data"] == 130 and "the client went away" in said(events, "stderr")[-1]


def test_following_a_silent_run_gets_heartbeats(url: str, http: httpx.Client, fresh: Sandbox) -> None:
    gate = Gate()
    code = f"import os, time\nprint('begun', flush=True)\n{gate.wait}\nprint('done')"
    run = AbandonedRun(url, fresh.id, code)
    run.wait_for_event()
    told = b""
    with http.stream("GET", f"/v1/sandboxes/{fresh.id}/replay?follow=true") as answer:
        for piece in answer.iter_raw():
            told += piece
            if told.endswith(b"\n\n"):
                gate.open(url, fresh.id)
    lines = told.split(b"\n")[:-1]
    assert b"" in lines, "no heartbeat"
    assert [json.loads(line)["data"] for line in lines if line] == ["begun", "done", 0]
    run.leave()
