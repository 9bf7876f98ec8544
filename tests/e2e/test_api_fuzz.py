"""Generated requests from the OpenAPI document, against real sandboxes: no 500, and no answer that is not documented.

schemathesis makes the requests, good ones and broken ones. It gets the document with ids that exist in the place of
patterns of ids, and with bounds that keep one run of it short; what it must not touch is left out below, each with the
reason.
"""

import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from podflare import Sandbox

from support.family import forked
from support.settings import USER_ENVIRONMENT
from support.venvs import python_with
from support.wire import api, sandbox_ids

SCHEMATHESIS = "schemathesis==4.32.5"
EXAMPLES = "5"
UNKNOWN = "sbx_00000000000000000000000000000000"

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
)

# What a host that is full answers is documented and no fault.
CONFIG = """
[checks.not_a_server_error]
expected-statuses = ["2xx", "3xx", "4xx", "503"]
"""

Document = dict[str, Any]


def operation(document: Document, method: str, path: str) -> dict[str, Any]:
    return document["paths"][path][method]


def narrowed(document: Document, sandbox: str, child: str) -> Document:
    """The document about sandboxes that exist."""
    # Whatever listens in a sandbox answers there, or the host with 502.
    for path in [path for path in document["paths"] if path.endswith("/{path}")]:
        del document["paths"][path]
    for path, methods in document["paths"].items():
        for name, described in methods.items():
            for parameter in described.get("parameters", ()):
                if parameter["in"] == "path":
                    parameter["schema"] = {"enum": ids_for(name, path, parameter["name"], sandbox, child)}
    schemas = document["components"]["schemas"]
    # Each of these would be a boot of its own, or many clones.
    for field in ("ram_mib", "rootfs_gb"):
        schemas["CreateRequest"]["properties"].pop(field)
    schemas["CreateRequest"]["properties"]["template"] = {"enum": ["default", "no-such-template", "", None]}
    create = operation(document, "post", "/v1/sandboxes")["requestBody"]["content"]["application/json"]
    create["example"] = {"template": "default"}
    schemas["ForkRequest"]["properties"]["n"]["maximum"] = 1
    # Nobody's machine is to be sent anything.
    for name in ("WebhookRequest", "WebhookChange"):
        schemas[name]["properties"]["url"] = {"enum": ["https://receiver.invalid/", "ftp://receiver.invalid/", "", None]}
    # The tool can make bytes, and nothing of a media type of ours.
    space = operation(document, "post", "/v1/spaces/import")["requestBody"]["content"]
    space["application/octet-stream"] = space.pop("application/vnd.podflare.space")
    # Code that was drawn by lot may wait for ever.
    exec_request = schemas["ExecRequest"]
    exec_request["properties"]["timeout_ms"] |= {"type": "integer", "minimum": 1, "maximum": 1500}
    exec_request["required"] = ["code", "timeout_ms"]
    return document


def ids_for(method: str, path: str, name: str, sandbox: str, child: str) -> list[str]:
    # The sandboxes are needed to the end.
    ends = ("delete", "/v1/sandboxes/{id}"), ("patch", "/v1/sandboxes/{id}"), ("post", "/v1/sandboxes/{id}/freeze")
    if (method, path) in ends:
        return [UNKNOWN]
    if name == "port":
        return ["80", "0", "65536", "http"]
    # A watch of something that is there has no end, and where nothing listens a tunnel is 502.
    if path.endswith(("/files/watch", "/tunnel/{port}")):
        return [UNKNOWN]
    if name == "winner":
        return [UNKNOWN, sandbox]
    if path.endswith("/merge_into/{winner}"):
        return [sandbox, UNKNOWN]
    return [sandbox, child, UNKNOWN] if name in ("id", "other") else [UNKNOWN]


@contextmanager
def others_end(url: str, keep: set[str]) -> Iterator[None]:
    """Ends sandboxes that generated requests have made, so that the host is not full after a few."""
    over = threading.Event()

    def sweep(client: httpx.Client) -> None:
        for sandbox_id in sandbox_ids(client) - keep:
            client.delete(f"/v1/sandboxes/{sandbox_id}")

    def sweep_until_over() -> None:
        with api(url) as client:
            while not over.wait(1):
                sweep(client)
            sweep(client)

    keep |= sandbox_ids_of(url)
    sweeper = threading.Thread(target=sweep_until_over)
    sweeper.start()
    try:
        yield
    finally:
        over.set()
        sweeper.join()


def sandbox_ids_of(url: str) -> set[str]:
    with api(url) as client:
        return sandbox_ids(client)


def fuzz(tmp_path: Path, url: str, document: Document, *options: str) -> None:
    schema = tmp_path / "openapi.json"
    schema.write_text(json.dumps(document))
    (tmp_path / "schemathesis.toml").write_text(CONFIG)
    python = python_with("schemathesis", SCHEMATHESIS)
    done = subprocess.run(
        [
            *(str(python.with_name("schemathesis")), "run", str(schema), "--url", url),
            *("--checks", ",".join(CHECKS), "--phases", "examples,coverage,fuzzing"),
            # The same requests every time. Two workers at once trip over the interpreter's own parser.
            *("--generation-deterministic", "--no-shrink", "--workers", "1"),
            *("--max-examples", EXAMPLES, "--request-timeout", "120", "--no-color", "--warnings", "off"),
            *options,
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=1100,
        env=USER_ENVIRONMENT,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]


@pytest.mark.timeout(1200)
def test_generated_requests_get_documented_answers(
    url: str, http: httpx.Client, fresh: Sandbox, tmp_path: Path
) -> None:
    with forked(fresh) as (child,):
        document = narrowed(http.get("/openapi.json").json(), fresh.id, child.id)
        with others_end(url, {fresh.id, child.id}):
            fuzz(tmp_path, url, document, "--max-time", "200")
        for hook in http.get("/v1/webhooks").json()["webhooks"]:
            assert http.delete(f"/v1/webhooks/{hook['id']}").status_code == 204
        assert fresh.run_code("print('alive')").stdout == "alive"
        assert child.run_code("print('alive')").stdout == "alive"


def test_the_document_has_a_page_that_needs_no_script(http: httpx.Client) -> None:
    page = http.get("/docs")
    assert page.status_code == 200 and page.headers["content-type"].startswith("text/html")
    assert "<script" not in page.text
    for path in http.get("/openapi.json").json()["paths"]:
        assert path in page.text
