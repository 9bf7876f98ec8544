"""A headless Chromium, the system's own."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Page, sync_playwright

from support.waiting import PATIENCE_SECONDS

NAMES = ("chromium", "chromium-browser", "google-chrome")


@contextmanager
def page() -> Iterator[Page]:
    """An empty page. Skips the test where there is no browser; `cargo xtask test` installs one where it may."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip(f"none of {', '.join(NAMES)} is installed")
    with sync_playwright() as playwright:
        # Chromium's own sandbox needs namespaces that containers often forbid; the page is ours.
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"], timeout=PATIENCE_SECONDS * 1000)
        try:
            page = browser.new_page(viewport={"width": 1000, "height": 600})
            page.set_default_timeout(PATIENCE_SECONDS * 1000)
            yield page
        finally:
            browser.close()
