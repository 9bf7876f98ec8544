"""The event stream, byte for byte: what every line looks like, when it comes, and how odd output is carried."""

import time

import pytest
from podflare import Sandbox

from support.gate import Gate
from support.waiting import Stopwatch
from support.wire import EVENT_KEYS, AbandonedRun, RawRun, raw_exec

NOISY = """
import sys
print("plain")
print("caf\\u00e9 \\u2028 \\u2029 \\x85 \\U0001f600 \\x00 \\x1b[31m \\x7f \\r tab\\t quote\\" back\\\\slash")
print()
print("error", file=sys.stderr)
_ = sys.stdout.write("unfinished")
"""


def assert_stream_is_sound(run: RawRun) -> None:
    """Everything the contract says about any stream."""
    assert run.status == 200
    assert run.rest == b"", "a stream ends with a newline"
    for line in run.lines:
        assert line.text.isascii(), "httpx splits lines at U+0085, U+2028 and U+2029 too, so all of it must be escaped"
        assert line.text == b"" or line.text.startswith(b"{"), f"neither heartbeat nor event: {line.text[:80]!r}"
    events = run.events
    for event in events:
        assert set(event) == EVENT_KEYS
        assert event["type"] in ("stdout", "stderr", "exit")
        if event["type"] == "exit":
            assert type(event["data"]) is int
        else:
            assert isinstance(event["data"], str)
            assert "\n" not in event["data"]
    assert [event["seq"] for event in events] == list(range(len(events)))
    assert [event["type"] for event in events].count("exit") == 1
    assert events[-1]["type"] == "exit"
    stamps = [event["ts"] for event in events]
    assert all(type(stamp) is int for stamp in stamps)
    assert stamps == sorted(stamps)
    assert abs(stamps[-1] / 1000 - time.time()) < 120, "ts is wall-clock time in milliseconds"
    assert run.lines[-1] is run.event_lines[-1], "the body must end right after the exit event"


@pytest.mark.parametrize("language", ["python", "bash"])
def test_every_stream_keeps_the_rules(url: str, box: Sandbox, language: str) -> None:
    code = NOISY if language == "python" else f"python3 - <<'END'\n{NOISY}\nEND"
    run = raw_exec(url, box.id, code, language=language)
    assert_stream_is_sound(run)
    assert run.exit_code == 0
    assert run.output("stdout").split("\n") == [
        "plain",
        'café \u2028 \u2029 \x85 😀 \x00 \x1b[31m \x7f \r tab\t quote" back\\slash',
        "",
        "unfinished",
    ]
    assert run.output("stderr") == "error"


def test_a_run_without_output_is_one_exit_event_with_number_zero(url: str, box: Sandbox) -> None:
    run = raw_exec(url, box.id, "pass")
    assert_stream_is_sound(run)
    (event,) = run.events
    assert (event["type"], event["data"], event["seq"]) == ("exit", 0, 0)


def test_events_arrive_while_the_code_still_runs(url: str, box: Sandbox) -> None:
    gates = [Gate() for _ in range(4)]
    lines = "".join(f"print({n})\n{gate.wait}\n" for n, gate in enumerate(gates))
    clock = Stopwatch()
    events = []
    for event in box.run_code_stream(f"import os, time\n{lines}"):
        events.append(event)
        if event.type == "stdout":
            # The next one is not printed before this one has come, nor before a while has passed.
            time.sleep(0.5)
            gates[int(event.data)].open(url, box.id)
    assert [event.data for event in events] == ["0", "1", "2", "3", 0]
    assert [event.seq for event in events] == [0, 1, 2, 3, 4]
    times = [event.ts for event in events]
    assert 1500 < times[-1] - times[0] < clock.seconds * 1000 + 500, f"ts counts milliseconds: {times}"


def test_a_line_is_sent_before_the_next_begins_also_without_flush(url: str, box: Sandbox) -> None:
    gate = Gate()
    run = AbandonedRun(url, box.id, f"import os, time\nprint('first')\n{gate.wait}\nprint('second')")
    assert run.wait_for_event()["data"] == "first"
    gate.open(url, box.id)
    assert run.wait_for_event()["data"] == "second"
    assert run.wait_for_event()["type"] == "exit"
    run.leave()


def test_stderr_and_stdout_written_in_turn_arrive_in_turn(url: str, box: Sandbox) -> None:
    gates = [Gate() for _ in range(3)]
    streams = ["stdout", "stderr", "stdout"]
    turns = (f"print(1, file=sys.{name}, flush=True)\n{gate.wait}\n" for name, gate in zip(streams, gates))
    run = AbandonedRun(url, box.id, f"import os, sys, time\n{''.join(turns)}")
    for name, gate in zip(streams, gates):
        assert run.wait_for_event()["type"] == name
        gate.open(url, box.id)
    assert run.wait_for_event()["type"] == "exit"
    run.leave()


@pytest.mark.parametrize("language", ["python", "bash"])
def test_bytes_that_are_no_utf8_become_replacement_characters(url: str, box: Sandbox, language: str) -> None:
    code = {
        "python": "import os; os.write(1, b'a\\xff\\xfeb\\n\\xe2\\x82\\n\\x80')",
        "bash": r"printf 'a\xff\xfeb\n\xe2\x82\n\x80'",
    }
    run = raw_exec(url, box.id, code[language] + ("; None" if language == "python" else ""), language=language)
    assert_stream_is_sound(run)
    assert run.output() == "a\ufffd\ufffdb\n\ufffd\n\ufffd"


def test_a_character_written_in_two_halves_is_put_together(url: str, box: Sandbox) -> None:
    code = "import os, time\nn = os.write(1, b'\\xf0\\x9f')\ntime.sleep(0.5)\nn = os.write(1, b'\\x98\\x80\\n')"
    run = raw_exec(url, box.id, code)
    assert run.output() == "\U0001f600"


def test_a_line_written_in_many_pieces_is_one_event(url: str, box: Sandbox) -> None:
    code = "import sys, time\nfor n in range(5):\n    print(n, end='', flush=True)\n    time.sleep(0.2)\nprint()"
    run = raw_exec(url, box.id, code)
    assert [event["data"] for event in run.events] == ["01234", 0]


@pytest.mark.timeout(900)
def test_two_hundred_thousand_lines_all_arrive_in_order(url: str, box: Sandbox) -> None:
    run = raw_exec(url, box.id, "for n in range(200_000): print(n)", seconds=800)
    assert_stream_is_sound(run)
    assert run.output() == "\n".join(map(str, range(200_000)))


@pytest.mark.timeout(900)
def test_a_line_of_twelve_megabytes_is_one_event(url: str, box: Sandbox) -> None:
    run = raw_exec(url, box.id, "print('0123456789ab' * (1 << 20))", seconds=800)
    assert_stream_is_sound(run)
    assert [len(str(event["data"])) for event in run.events] == [12 << 20, 1]
    assert run.output() == "0123456789ab" * (1 << 20)


def test_a_reader_that_is_slow_loses_nothing(box: Sandbox) -> None:
    lines = []
    for event in box.run_code_stream("for n in range(3000): print(n, 'x' * 1000)"):
        if event.type == "stdout":
            lines.append(str(event.data).split()[0])
            if len(lines) % 500 == 0:
                time.sleep(0.5)
    assert lines == [str(n) for n in range(3000)]
