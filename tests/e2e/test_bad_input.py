"""Bad input: a clear status and text each time, no sandbox made by it, and the one addressed usable afterwards."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from podflare import Client, Sandbox

from support.wire import assert_error, raw_exec, sandbox_ids

UNKNOWN = "sbx_" + "f" * 32
MEBIBYTE = 1 << 20


@pytest.fixture(autouse=True)
def no_sandbox_comes_or_goes(http: httpx.Client, box: Sandbox) -> Iterator[None]:
    before = sandbox_ids(http)
    yield
    assert sandbox_ids(http) == before
    assert box.run_code("print('usable')").stdout == "usable"


def create(http: httpx.Client, body: Any) -> httpx.Response:
    answer = http.post("/v1/sandboxes", json=body)
    if answer.is_success:  # it should not have been; do not leave it behind
        http.delete(f"/v1/sandboxes/{answer.json()['id']}")
    return answer


def test_an_unknown_template_is_refused_and_the_known_ones_are_named(http: httpx.Client) -> None:
    answer = create(http, {"template": "no-such-template"})
    assert answer.status_code in (400, 404)
    assert_error(answer, answer.status_code, "no-such-template", "default")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("template", 5),
        ("template", ["default"]),
        ("timeout_seconds", "60"),
        ("timeout_seconds", -1),
        ("timeout_seconds", 1.5),
        ("idle_timeout_seconds", "60"),
        ("idle_timeout_seconds", -5),
        ("ram_mib", "1024"),
        ("ram_mib", -1024),
        ("ram_mib", True),
        ("rootfs_gb", {}),
        ("rootfs_gb", "4"),
        ("persistent", "yes"),
        ("egress", 1),
        ("egress", {"allow": ["https://a.example/"]}),
        ("egress", {"deny": []}),
    ],
)
def test_a_wrong_type_in_create_is_400_and_names_the_field(http: httpx.Client, field: str, value: object) -> None:
    assert_error(create(http, {field: value}), 400, field)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("code", 5),
        ("code", None),
        ("code", ["print(1)"]),
        ("language", 5),
        ("language", ["python"]),
        ("timeout_ms", "1000"),
        ("timeout_ms", -1),
        ("timeout_ms", 1.5),
    ],
)
def test_a_wrong_type_in_exec_is_400_and_names_the_field(
    http: httpx.Client, box: Sandbox, field: str, value: object
) -> None:
    body = {"code": "print(1)", "language": "python"} | {field: value}
    assert_error(http.post(f"/v1/sandboxes/{box.id}/exec", json=body), 400, field)


def test_exec_without_code_is_400_and_names_the_field(http: httpx.Client, box: Sandbox) -> None:
    assert_error(http.post(f"/v1/sandboxes/{box.id}/exec", json={"language": "python"}), 400, "code")


def test_an_unknown_language_is_400_and_the_known_ones_are_named(http: httpx.Client, box: Sandbox) -> None:
    answer = http.post(f"/v1/sandboxes/{box.id}/exec", json={"code": "puts 1", "language": "ruby"})
    assert_error(answer, 400, "python", "bash")


@pytest.mark.parametrize(
    "body", [b"{", b"", b"nonsense", b"[]", b'"text"', b"null", b'{"code": "\xff"}', b'{"code": "a"} {}']
)
def test_malformed_json_is_400(http: httpx.Client, box: Sandbox, body: bytes) -> None:
    headers = {"content-type": "application/json"}
    assert_error(http.post(f"/v1/sandboxes/{box.id}/exec", content=body, headers=headers), 400)


@pytest.mark.parametrize("body", [b"{", b"nonsense", b"[]", b'{"template": '])
def test_malformed_json_creates_nothing(http: httpx.Client, body: bytes) -> None:
    assert_error(http.post("/v1/sandboxes", content=body, headers={"content-type": "application/json"}), 400)


def test_json_nested_a_hundred_thousand_deep_is_400(http: httpx.Client, box: Sandbox) -> None:
    body = b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    headers = {"content-type": "application/json"}
    assert_error(http.post(f"/v1/sandboxes/{box.id}/exec", content=body, headers=headers), 400)


def test_unknown_fields_are_ignored(url: str, box: Sandbox) -> None:
    assert raw_exec(url, box.id, "print(1)", a_field_of_the_future={"deep": []}).output() == "1"


@pytest.mark.parametrize("sandbox_id", [UNKNOWN, "sbx_short", "sbx_" + "F" * 32, "x", "..%2f..%2fetc", "sbx_%00"])
def test_an_unknown_sandbox_is_404_for_every_call_but_delete(http: httpx.Client, sandbox_id: str) -> None:
    path = f"/v1/sandboxes/{sandbox_id}"
    body = assert_error(http.post(f"{path}/exec", json={"code": "1"}), 404)
    assert "sandbox not found" in body["error"]
    assert_error(http.get(path), 404)


def test_deleting_an_unknown_sandbox_is_fine(http: httpx.Client) -> None:
    assert http.delete(f"/v1/sandboxes/{UNKNOWN}").status_code == 204


def test_an_unknown_sandbox_is_refused_before_the_stream_begins(url: str) -> None:
    with pytest.raises(httpx.HTTPStatusError) as raised:
        Sandbox._from_id(UNKNOWN, Client(host=url)).run_code("1")
    assert raised.value.response.status_code == 404


def test_a_body_over_64_mib_is_413_and_names_the_limit(http: httpx.Client, box: Sandbox) -> None:
    body = b'{"code": "' + b"#" * (65 * MEBIBYTE) + b'"}'
    headers = {"content-type": "application/json"}
    answer = http.post(f"/v1/sandboxes/{box.id}/exec", content=body, headers=headers)
    assert_error(answer, 413, "64")


def test_a_body_over_64_mib_that_does_not_announce_its_length_is_413(http: httpx.Client, box: Sandbox) -> None:
    def pieces() -> Iterator[bytes]:
        yield b'{"code": "'
        for _ in range(65):
            yield b"#" * MEBIBYTE
        yield b'"}'

    headers = {"content-type": "application/json"}
    answer = http.post(f"/v1/sandboxes/{box.id}/exec", content=pieces(), headers=headers)
    assert_error(answer, 413)


def test_ten_megabytes_of_code_run(box: Sandbox) -> None:
    result = box.run_code("text = '" + "x" * 10_000_000 + "'\nprint(len(text))")
    assert (result.stdout, result.exit_code) == ("10000000", 0), result.stderr
    box.run_code("del text")


def test_ten_megabytes_of_bash_run(box: Sandbox) -> None:
    result = box.run_code("text=" + "x" * 10_000_000 + "\necho ${#text}", language="bash")
    assert (result.stdout, result.exit_code) == ("10000000", 0), result.stderr


@pytest.mark.parametrize("code", ["\0", "print('a\0b')", "# \ud7ff \U0010ffff", "\r\nprint(1)\r\n", "\ufeffprint(1)"])
def test_odd_characters_in_code_are_an_answer_and_no_crash(url: str, box: Sandbox, code: str) -> None:
    for language in ("python", "bash"):
        run = raw_exec(url, box.id, code, language=language)
        if run.status == 200:
            assert run.events[-1]["type"] == "exit"
        else:
            assert run.status == 400


def test_a_lone_surrogate_in_json_is_400(http: httpx.Client, box: Sandbox) -> None:
    body = b'{"code": "print(\'\\ud800\')"}'
    headers = {"content-type": "application/json"}
    assert_error(http.post(f"/v1/sandboxes/{box.id}/exec", content=body, headers=headers), 400)
