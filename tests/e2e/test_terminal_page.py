"""The page at /terminal, in a real browser, and what pages of other sites may do."""

import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from playwright.sync_api import Page, expect
from podflare import Sandbox

from support import browser
from support.terminals import opened
from support.wire import assert_error

WAIT_MS = 120_000
AGAIN_MS = 3_000


@pytest.fixture
def page() -> Iterator[Page]:
    with browser.page() as page:
        yield page


def test_the_page_opens_a_shell_draws_it_and_keeps_to_its_policy(url: str, page: Page, box: Sandbox) -> None:
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    requested: list[str] = []
    page.on("request", lambda request: requested.append(request.url))
    page.goto(f"{url}/terminal")
    page.fill("#sandbox", box.id)
    click_open(page)
    screen = page.locator("#screen")
    expect(screen).to_contain_text("root@sbx-", timeout=WAIT_MS)
    screen.focus()
    page.keyboard.type("printf '\\033[31mred\\033[0m gr\\303\\274n \\u4e16\\u754c\\n'; stty size\n")
    expect(screen).to_contain_text("red grün 世界", timeout=WAIT_MS)
    red = page.locator("#screen span", has_text="red").last
    assert red.evaluate("node => node.style.color") == "rgb(224, 97, 107)"
    rows = page.locator("#screen .row").count()
    expect(screen).to_contain_text(re.compile(rf"\b{rows} \d+"), timeout=WAIT_MS)
    page.keyboard.type("sh -c \"echo be''gun; exec sleep 1000\"\n")
    expect(screen).to_contain_text("begun", timeout=WAIT_MS)
    # A shell that is just starting a program loses signals, and the program then has the terminal for good: never type
    # ahead, and have each program say that it runs.
    press_until(page, "Control+c", re.compile(r"\^C[\s\S]*root@sbx-"))
    page.keyboard.type("sh -c \"echo inter''rupted; exec cat -v\"\n")
    expect(screen).to_contain_text("interrupted", timeout=WAIT_MS)
    page.keyboard.press("ArrowUp")
    page.keyboard.press("F5")
    page.keyboard.press("Enter")
    expect(screen).to_contain_text("^[[A^[[15~", timeout=WAIT_MS)
    expect(screen).to_contain_text(re.compile(r"15~[\s\S]*15~"), timeout=WAIT_MS)
    page.keyboard.press("Control+d")
    expect(screen).to_contain_text(re.compile(r"15~[\s\S]*root@sbx-"), timeout=WAIT_MS)
    page.keyboard.type("exit 9\n")
    expect(page.locator("#status")).to_contain_text("exited with code 9", timeout=WAIT_MS)
    assert complaints == [], "nothing is against the page's own policy"
    assert all(asked.startswith(url) for asked in requested), "nothing comes from elsewhere"


def click_open(page: Page) -> None:
    """A click beside the list of suggestions of a field only closes that list."""
    for _ in range(WAIT_MS // AGAIN_MS):
        page.click("#open")
        try:
            # It says so at once, and a click too many would open another one.
            expect(page.locator("#status")).to_contain_text(re.compile("connecting|attached"), timeout=AGAIN_MS)
        except AssertionError:
            continue
        return expect(page.locator("#status")).to_contain_text("attached to", timeout=WAIT_MS)
    raise AssertionError("the page does not open a terminal")


def press_until(page: Page, key: str, shown: re.Pattern[str]) -> None:
    for _ in range(WAIT_MS // AGAIN_MS):
        page.keyboard.press(key)
        try:
            return expect(page.locator("#screen")).to_contain_text(shown, timeout=AGAIN_MS)
        except AssertionError:
            continue
    expect(page.locator("#screen")).to_contain_text(shown, timeout=AGAIN_MS)


def test_a_page_loaded_anew_finds_its_terminal_and_the_whole_screen_works(url: str, page: Page, box: Sandbox) -> None:
    pty, output = opened(box, "echo born before; cat")
    output.wait_for("born before")
    page.goto(f"{url}/terminal#{box.id}/{pty.id}")
    screen = page.locator("#screen")
    expect(screen).to_contain_text("born before", timeout=WAIT_MS)
    screen.focus()
    page.keyboard.type("typed in the page\n")
    output.wait_for("typed in the page\r\ntyped in the page")
    pty.kill()
    expect(page.locator("#status")).to_contain_text("exited with code 137", timeout=WAIT_MS)
    editor, _ = opened(box, "vim -u NONE /root/from-the-page.txt")
    page.goto("about:blank")
    page.goto(f"{url}/terminal#{box.id}/{editor.id}")
    expect(screen).to_contain_text("~", timeout=WAIT_MS)
    screen.focus()
    page.keyboard.type("ihello from a page")
    expect(screen).to_contain_text("hello from a page", timeout=WAIT_MS)
    page.keyboard.press("Escape")
    page.keyboard.type(":wq\n")
    expect(page.locator("#status")).to_contain_text("exited with code 0", timeout=WAIT_MS)
    assert box.run_code("print(open('/root/from-the-page.txt').read())").stdout == "hello from a page\n"


FOREIGN = b"""<!doctype html><script>
const [path] = location.search.slice(1).split('&');
const socket = new WebSocket('ws://' + path);
socket.onopen = () => { document.title = 'open'; };
socket.onerror = () => { document.title = 'refused'; };
</script>"""


class ForeignSite(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.end_headers()
        self.wfile.write(FOREIGN)

    def log_message(self, *_: object) -> None:
        pass


def test_a_page_of_another_site_reaches_no_terminal(url: str, http: httpx.Client, page: Page, box: Sandbox) -> None:
    pty, _ = opened(box, ["cat"])
    path = f"/v1/sandboxes/{box.id}/pty/{pty.id}/attach"
    with ForeignServer() as foreign:
        page.goto(f"{foreign}/?{url.removeprefix('http://')}{path}")
        page.wait_for_function("document.title !== ''", timeout=WAIT_MS)
        assert page.title() == "refused"
    assert_error(http.post("/v1/sandboxes", json={}, headers={"origin": "http://evil.example"}), 403)
    assert_error(http.get("/v1/sandboxes", headers={"host": "evil.example:7070"}), 403, "127.0.0.1")
    pty.kill()


class ForeignServer:
    """Another port is another site."""

    def __enter__(self) -> str:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), ForeignSite)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
