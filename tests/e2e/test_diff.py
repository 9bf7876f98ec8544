"""Files that differ between two sandboxes: the host's own comparison, and the official client's."""

from typing import Any

import httpx
import pytest
from podflare import Sandbox

from support.cli import Cli
from support.family import forked
from support.wire import assert_error

CHANGE = """
import os, shutil
open("/root/new", "w").write("12345")
open("/root/same size", "w").write("two")
open("/root/grown", "a").write("more")
os.unlink("/root/gone")
os.mkdir("/root/directory")
open("/tmp/elsewhere", "w").write("x")
os.utime("/root/touched")
os.chmod("/root/permitted", 0o600)
"""

PREPARE = """
for name, text in [("same size", "one"), ("grown", "a"), ("gone", "b"), ("touched", "c"), ("permitted", "d"), ("kept", "e")]:
    open(f"/root/{name}", "w").write(text)
"""


def diff(http: httpx.Client, a: Sandbox, b: Sandbox, *paths: str) -> dict[str, Any]:
    answer = http.get(f"/v1/sandboxes/{a.id}/diff/{b.id}", params=[("paths", path) for path in paths], timeout=300)
    assert answer.status_code == 200, answer.text
    return answer.json()


def paths(entries: list[dict[str, Any]]) -> list[str]:
    return [entry["path"] for entry in entries]


def test_what_a_child_changed_is_listed_with_sizes(http: httpx.Client, fresh: Sandbox) -> None:
    fresh.run_code(PREPARE)
    with forked(fresh, 2) as (first, second):
        second.run_code(CHANGE)
        found = diff(http, first, second, "/root", "/tmp")
        assert paths(found["added"]) == ["/root/directory", "/root/new", "/tmp/elsewhere"]
        assert found["added"][1] == {"path": "/root/new", "kind": "file", "size": 5}
        assert paths(found["removed"]) == ["/root/gone"]
        assert paths(found["modified"]) == ["/root/grown", "/root/permitted", "/root/same size"]
        assert (found["modified"][0]["size_before"], found["modified"][0]["size"]) == (1, 5)
        assert found["truncated"] is False
        back = diff(http, second, first, "/root")
        assert paths(back["added"]) == ["/root/gone"]
        # The parent is what the first child is still.
        assert paths(diff(http, fresh, second, "/root")["modified"]) == paths(found["modified"])


def test_siblings_that_write_the_same_file_at_the_same_time_differ(http: httpx.Client, fresh: Sandbox) -> None:
    fresh.run_code("open('/root/answer', 'w').write('?')")
    with forked(fresh, 2) as children:
        for number, child in enumerate(children):
            child.run_code(f"handle = open('/root/answer', 'r+'); handle.write('{number}'); handle.close()")
            child.run_code("import os; os.utime('/root/answer', ns=(1, 1))")
        assert paths(diff(http, *children, "/root")["modified"]) == ["/root/answer"]


# Both root file systems are listed whole, three times from the disk.
@pytest.mark.timeout(900)
def test_a_sandbox_does_not_differ_from_itself_nor_from_its_fresh_child(
    http: httpx.Client, fresh: Sandbox
) -> None:
    nothing = {"added": [], "removed": [], "modified": []}
    found = diff(http, fresh, fresh)
    assert {group: found[group] for group in nothing} == nothing
    assert found["compared"] > 5000, "the whole root file system was looked at"
    with forked(fresh, 1) as (child,):
        found = diff(http, fresh, child)
        assert {group: found[group] for group in nothing} == nothing


def test_the_official_client_and_the_host_agree(http: httpx.Client, fresh: Sandbox) -> None:
    with forked(fresh, 2) as (first, second):
        second.run_code("open('/root/one', 'w').write('1'); open('/tmp/two', 'w').write('2')")
        theirs = first.diff(second)
        ours = diff(http, first, second, "/root", "/tmp")
        assert theirs["added"] == paths(ours["added"]) == ["/root/one", "/tmp/two"]
        assert theirs["removed"] == theirs["modified"] == []


def test_bad_paths_are_refused(http: httpx.Client, box: Sandbox) -> None:
    for wrong in ("root", "", "/a/../b"):
        answer = http.get(f"/v1/sandboxes/{box.id}/diff/{box.id}", params={"paths": wrong})
        assert_error(answer, 400, "paths")
    assert_error(http.get(f"/v1/sandboxes/{box.id}/diff/sbx_{'0' * 32}"), 404)


def test_the_command_line_shows_it(cli: Cli, fresh: Sandbox) -> None:
    with forked(fresh, 1) as (child,):
        child.run_code("open('/root/new', 'w').write('12345')")
        assert cli.run("sandbox", "diff", fresh.id, child.id, "/root").expect(0).stdout == "+ /root/new  5\n"
