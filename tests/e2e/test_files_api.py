"""Files over the HTTP API: there and back, in parts, as trees, while other things go on, and when things go wrong."""

import hashlib
import io
import os
import tarfile
import threading

import pytest
from podflare import Sandbox

from support.cli import Cli
from support.family import forked
from support.files import Files, whole_answer
from support.waiting import wait_until
from support.wire import AbandonedRun, assert_error

SIZES = [0, 1, 4095, 4096, 4097, 6 << 20]


@pytest.fixture
def files(box: Sandbox, url: str) -> Files:
    box.run_code("rm -rf /root/t; mkdir /root/t", language="bash")
    return Files(url, box.id)


@pytest.mark.parametrize("size", SIZES)
def test_content_survives_the_round_trip_to_the_byte(files: Files, box: Sandbox, size: int) -> None:
    content = os.urandom(size)
    written = files.write("/root/t/file", content)
    assert (written["size"], written["mode"]) == (size, "0644")
    assert files.read("/root/t/file") == content
    inside = box.run_code("sha256sum < /root/t/file", language="bash").stdout.split()[0]
    assert inside == hashlib.sha256(content).hexdigest()


def test_ranges_versions_and_heads(files: Files) -> None:
    content = os.urandom(100_000)
    files.write("t/file", content)
    assert files.read("t/file", Range="bytes=70000-70009") == content[70000:70010]
    assert files.read("t/file", Range="bytes=-5") == content[-5:]
    beyond = files.call("GET", "t/file", headers={"Range": "bytes=100000-"})
    assert_error(beyond, 416)
    assert beyond.headers["content-range"] == "bytes */100000"
    head = files.call("HEAD", "t/file")
    assert (head.status_code, head.headers["content-length"]) == (200, "100000")
    tag = head.headers["etag"]
    assert files.call("GET", "t/file", headers={"If-None-Match": tag}).status_code == 304
    assert files.call("PUT", "t/file", headers={"If-Match": tag}, content=b"2").status_code == 200
    assert_error(files.call("PUT", "t/file", headers={"If-Match": tag}, content=b"3"), 412)
    assert files.read("t/file") == b"2"


def test_odd_names_modes_links_and_parents(files: Files, box: Sandbox) -> None:
    odd = "/root/t/odd names/it's \"größer\" 😀+%.txt".encode()
    files.write(odd, b"odd", mode="0750")
    raw = b"/root/t/\xff\xfe"
    files.write(raw, b"raw")
    assert (files.read(odd), files.read(raw)) == (b"odd", b"raw")
    box.run_code("cd /root/t && ln -s target link && stat -c %a 'odd names'/* > modes", language="bash")
    files.write("/root/t/link", b"through")
    assert (files.read("/root/t/target"), files.read("/root/t/modes")) == (b"through", b"750\n")
    assert_error(files.call("PUT", "t/a/b", query={"mkdirs": "false"}, content=b"x"), 404)
    made = files.call("POST", "t/new/folder", query={"mode": "0700"})
    assert (made.status_code, made.json()["kind"], made.json()["mode"]) == (200, "directory", "0700")
    assert files.call("DELETE", "t/new").json()["code"] == "directory_not_empty"
    assert files.call("DELETE", "t/new", query={"recursive": "true"}).status_code == 204
    assert "new" not in files.names("t")


def test_trees_go_down_and_up(files: Files, box: Sandbox) -> None:
    box.run_code(
        "mkdir -p /root/t/from/sub/empty; cd /root/t/from; for n in $(seq 300); do echo $n > sub/$n; done;"
        "ln -s sub/7 link; dd if=/dev/urandom of=big bs=1M count=3 status=none",
        language="bash",
    )
    tree = files.tree("/root/t/from")
    assert tree["sub/7"] == b"7\n" and len(tree) == 304
    archive = files.call("GET", "/root/t/from", query={"format": "tar"}).content
    up = files.call("PUT", "/root/t/to", content=archive, headers={"Content-Type": "application/x-tar"})
    assert (up.status_code, up.json()["entries"]) == (200, 304), up.text
    same = box.run_code("diff -r /root/t/from /root/t/to && readlink /root/t/to/link", language="bash")
    assert (same.exit_code, same.stdout) == (0, "sub/7"), same


def test_an_archive_cannot_leave_its_directory(files: Files, box: Sandbox) -> None:
    box.run_code("mkdir -p /root/t/in /root/t/outside", language="bash")
    for entries in (["../outside/x"], ["/root/t/outside/x"], ["link>../outside", "link/x"]):
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            for entry in entries:
                name, _, target = entry.partition(">")
                member = tarfile.TarInfo(name)
                member.type, member.linkname = (tarfile.SYMTYPE, target) if target else (tarfile.REGTYPE, "")
                tar.addfile(member)
        refused = files.call(
            "PUT", "/root/t/in", content=archive.getvalue(), headers={"Content-Type": "application/x-tar"}
        )
        assert assert_error(refused, 400)["code"] == "invalid_archive"
    assert files.names("/root/t/outside") == []


def test_special_files_neither_hang_nor_fill_anything(files: Files, box: Sandbox) -> None:
    box.run_code("mkfifo /root/t/pipe", language="bash")
    for path in ("/root/t/pipe", "/dev/zero", "/dev/console"):
        assert assert_error(files.call("GET", path), 409)["code"] == "special_file"
        assert assert_error(files.call("PUT", path, content=b"x"), 409)["code"] == "special_file"
    assert b"Linux version" in files.read("/proc/version")
    # One that would wait for more has said all it has.
    assert files.call("GET", "/proc/kmsg").status_code == 200
    assert_error(files.call("PUT", "/proc/sys/vm/x", content=b"x"), 409)


def test_changes_are_told_as_they_happen(files: Files, box: Sandbox) -> None:
    with files.watch("/root/t", recursive=True) as changes:
        def told(kind: str, path: str) -> dict[str, object]:
            return next(change for change in changes if (change["type"], change["path"]) == (kind, path))

        # A directory is watched, too, when it is told of.
        box.run_code("mkdir /root/t/sub", language="bash")
        told("created", "/root/t/sub")
        box.run_code("echo 1 > /root/t/sub/a; mv /root/t/sub/a /root/t/b", language="bash")
        told("created", "/root/t/sub/a")
        assert told("moved", "/root/t/sub/a")["to"] == "/root/t/b"
        files.write("/root/t/b", b"new")
        assert (change := next(changes))["type"] == "modified" and change["path"] == "/root/t/b"


def test_a_full_disk_is_told_and_the_old_file_stays(files: Files, box: Sandbox) -> None:
    box.run_code("mkdir /root/t/small && mount -t tmpfs -o size=2m tmpfs /root/t/small", language="bash")
    try:
        files.write("t/small/file", b"old")
        announced = files.call("PUT", "t/small/file", content=bytes(3 << 20))
        assert assert_error(announced, 409)["code"] == "disk_full"
        streamed = files.call("PUT", "t/small/file", content=iter([bytes(1 << 20)] * 3))
        assert assert_error(streamed, 409)["code"] == "disk_full"
        assert (files.read("t/small/file"), files.names("t/small")) == (b"old", ["file"])
        files.write("t/small/other", bytes(1 << 20))
    finally:
        box.run_code("umount /root/t/small", language="bash")


def test_more_than_the_disk_has_is_refused_before_it_is_sent(files: Files) -> None:
    with files.begin_upload("/root/t/file", 1 << 40) as connection:
        answer = whole_answer(connection)
    assert b"409" in answer.split(b"\r\n")[0] and b"disk_full" in answer, answer


def test_a_client_that_goes_away_leaves_nothing(files: Files, box: Sandbox) -> None:
    files.write("t/file", b"old")
    before = box.run_code("df --output=used / | tail -1", language="bash").stdout
    with files.begin_upload("/root/t/file", 64 << 20) as connection:
        connection.sendall(bytes(8 << 20))
    assert files.read("t/file") == b"old"
    assert files.names("t") == ["file"]

    def used_as_before() -> bool:
        used = box.run_code("sync; df --output=used / | tail -1", language="bash").stdout
        return int(used) - int(before) < 4096

    wait_until("the guest's disk has its room back", used_as_before)


def test_files_move_while_a_run_is_in_progress(files: Files, box: Sandbox, url: str) -> None:
    run = AbandonedRun(url, box.id, "import time; print('on'); time.sleep(600)")
    try:
        assert run.wait_for_event()["data"] == "on"
        files.write("t/beside", b"it")
        assert files.read("t/beside") == b"it"
    finally:
        run.leave()


def test_a_fork_in_the_middle_of_an_upload_has_none_of_it_and_the_upload_goes_on(
    files: Files, box: Sandbox, url: str
) -> None:
    content = os.urandom(4 << 20)
    with files.begin_upload("/root/t/file", len(content)) as connection:
        connection.sendall(content[: 2 << 20])
        with forked(box) as (child,):
            child_files = Files(url, child.id)
            assert child_files.names("/root/t") == []
            child_files.write("/root/t/own", b"child")
            connection.sendall(content[2 << 20 :])
            answer = whole_answer(connection)
            assert answer.startswith(b"HTTP/1.1 200"), answer
            assert child_files.names("/root/t") == ["own"]
    assert files.read("/root/t/file") == content


def test_a_fork_in_the_middle_of_a_download_does_not_touch_it(files: Files, box: Sandbox) -> None:
    content = os.urandom(24 << 20)
    files.write("t/file", content)
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(files.read("t/file")))
    reader.start()
    with forked(box):
        reader.join(380)
    assert got and got[0] == content


def test_another_sandbox_and_unknown_ones_are_not_found(url: str) -> None:
    nobody = Files(url, "sbx_" + "0" * 32)
    assert_error(nobody.call("GET", "/etc/hosts"), 404)
    assert_error(nobody.call("PUT", "/root/x", content=b"x"), 404)


def test_the_command_line_copies_files_trees_and_pipes(cli: Cli, files: Files, box: Sandbox, tmp_path) -> None:
    local = tmp_path / "project"
    (local / "sub").mkdir(parents=True)
    (local / "sub/tool").write_bytes(b"#!/bin/sh\necho from here\n")
    (local / "sub/tool").chmod(0o755)
    cli.run("cp", str(local), f"{box.id}:t").expect()
    assert box.run_code("/root/t/project/sub/tool", language="bash").stdout == "from here"
    box.run_code("echo changed > /root/t/project/new; ln -s / /root/t/project/out", language="bash")
    cli.run("cp", f"{box.id}:/root/t/project", str(tmp_path / "back")).expect()
    assert (tmp_path / "back/new").read_text() == "changed\n"
    assert os.access(tmp_path / "back/sub/tool", os.X_OK)
    cli.run("cp", "-", f"{box.id}:t/piped", stdin="through a pipe").expect()
    assert cli.run("cp", f"{box.id}:t/piped", "-").expect().stdout == "through a pipe"
    assert "piped" in cli.run("ls", f"{box.id}:t").expect().stdout
    missing = cli.run("cp", f"{box.id}:t/none", str(tmp_path)).expect(1)
    assert "No such file" in missing.stderr
