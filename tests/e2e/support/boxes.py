"""Sandboxes that tests share. Creating one takes seconds on emulated hardware, so most tests take one that exists."""

import httpx
from podflare import Sandbox

from support.wire import raw_exec

PING_SECONDS = 60


class Boxes:
    """Shared sandboxes by name.

    One that no longer answers, or that a failed test has used, is replaced: one fault shall not fail later tests.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._by_name: dict[str, Sandbox] = {}

    def get(self, name: str) -> Sandbox:
        box = self._by_name.get(name)
        if box is not None and self._answers(box):
            return box
        self.discard(name)
        self._by_name[name] = Sandbox(host=self._url)
        return self._by_name[name]

    def discard(self, name: str) -> None:
        box = self._by_name.pop(name, None)
        if box is not None:
            box.close()

    def close_all(self) -> None:
        for name in list(self._by_name):
            self.discard(name)

    def _answers(self, box: Sandbox) -> bool:
        try:
            run = raw_exec(self._url, box.id, "print('here')", PING_SECONDS)
            return run.status == 200 and run.output() == "here"
        except (httpx.HTTPError, AssertionError, ValueError):
            return False
