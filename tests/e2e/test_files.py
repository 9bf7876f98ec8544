"""Files through the official client: upload, download and diff, which are code that it runs in the sandbox."""

import os
from pathlib import Path

import pytest
from podflare import Sandbox


def test_bytes_come_back_as_they_went(box: Sandbox) -> None:
    every_byte = bytes(range(256)) * 3 + b"\r\n\x00\n"
    box.upload(every_byte, "/root/bytes.bin")
    assert box.download("/root/bytes.bin") == every_byte


def test_a_local_file_is_uploaded_into_directories_that_do_not_exist_yet(box: Sandbox, tmp_path: Path) -> None:
    local = tmp_path / "table.csv"
    local.write_text("a,b\n1,2\n")
    box.upload(str(local), "/root/deep/er/still/table.csv")
    assert box.run_code("cat /root/deep/er/still/table.csv", language="bash").stdout == "a,b\n1,2"


def test_a_relative_path_is_below_the_home_directory(box: Sandbox) -> None:
    box.run_code("import os; os.chdir('/root')")
    box.upload(b"here", "relative.txt")
    assert box.download("/root/relative.txt") == b"here"


def test_an_empty_file_is_empty_bytes(box: Sandbox) -> None:
    box.upload(b"", "/root/empty")
    assert box.download("/root/empty") == b""


def test_names_with_blanks_quotes_and_umlauts_work(box: Sandbox) -> None:
    name = '/root/odd names/it\'s "größer" 😀.txt'
    box.upload(b"odd", name)
    assert box.download(name) == b"odd"


def test_a_missing_file_raises_with_the_reason(box: Sandbox) -> None:
    with pytest.raises(IOError, match="FileNotFoundError"):
        box.download("/root/no/such/file")


def test_a_directory_cannot_be_downloaded(box: Sandbox) -> None:
    with pytest.raises(IOError, match="IsADirectoryError"):
        box.download("/root")


def test_an_upload_over_a_directory_raises_with_the_reason(box: Sandbox) -> None:
    with pytest.raises(IOError, match="IsADirectoryError"):
        box.upload(b"x", "/tmp")


def test_six_mebibytes_survive_the_round_trip(box: Sandbox) -> None:
    content = os.urandom(6 << 20)
    box.upload(content, "/root/big.bin")
    assert box.download("/root/big.bin") == content


def test_a_sandbox_does_not_differ_from_itself(box: Sandbox) -> None:
    box.upload(b"something", "/root/something")
    assert box.diff(box) == {"added": [], "removed": [], "modified": []}


def test_running_code_leaves_no_file_of_ours_behind(box: Sandbox) -> None:
    listing = "find /root /tmp -type f | sort"
    before = box.run_code(listing, language="bash").stdout
    box.run_code("print(1)")
    box.run_code("echo 1", language="bash")
    box.run_code("1 / 0")
    assert box.run_code(listing, language="bash").stdout == before


def test_the_difference_of_two_sandboxes_is_added_removed_and_modified(box: Sandbox, neighbour: Sandbox) -> None:
    for sandbox in (box, neighbour):
        sandbox.run_code("rm -rf /root/diff; mkdir /root/diff", language="bash")
        sandbox.upload(b"same", "/root/diff/same")
    box.upload(b"old", "/root/diff/changed")
    neighbour.upload(b"new", "/root/diff/changed")
    box.upload(b"x", "/root/diff/only here")
    neighbour.upload(b"x", "/root/diff/only_there")
    assert box.diff(neighbour, paths=["/root/diff"]) == {
        "added": ["/root/diff/only_there"],
        "removed": ["/root/diff/only here"],
        "modified": ["/root/diff/changed"],
    }
