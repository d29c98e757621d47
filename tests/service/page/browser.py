"""Serve the application on its own port, and open its page in a real browser."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import uvicorn
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Request,
    sync_playwright,
)

from tests.service.app import Application, make_config

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
DESKTOP = {"width": 1280, "height": 800}
PHONE = {"width": 390, "height": 844}
# Chromium starts processes for these features with every window. No page here uses the features.
# These processes would do half of the work of Chromium.
_UNUSED = ("WebUIOmniboxPopup", "WebUIOmniboxAimPopup", "SpareRendererForSitePerProcess")


def find_chromium() -> str:
    """Return the path of the installed Chromium. Skip the test if Chromium is not installed."""
    for name in _NAMES:
        found = shutil.which(name)
        if found is not None:
            return found
    pytest.skip(
        f"no browser: none of {', '.join(_NAMES)} is installed (Debian: apt install chromium)"
    )


@contextmanager
def open_browser() -> Iterator[Browser]:
    """Start the installed Chromium in headless mode. Nothing is downloaded."""
    path = find_chromium()
    flags = [f"--disable-features={','.join(_UNUSED)}"]
    # As root, Chromium does not start with its sandbox. The pages here are our own pages, so they
    # do not need a sandbox.
    flags += ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=flags)
        yield browser
        browser.close()


@contextmanager
def serving(table: Path | str, more: Sequence[Path] = (), **settings: Any) -> Iterator[str]:
    """Run a service in this process, and yield its address."""
    application = Application(table, make_config(table, **settings), more=more)
    server = uvicorn.Server(
        uvicorn.Config(application.asgi, host="127.0.0.1", port=0, log_level="error", ws="none")
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        if not thread.is_alive():
            raise RuntimeError("the service did not start")
        thread.join(0.02)
    try:
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}/"
    finally:
        server.should_exit = True
        thread.join(20)


@contextmanager
def open_page(
    browser: Browser, url: str, hosts: tuple[str, ...] = (), **context: Any
) -> Iterator[Page]:
    """Open a page in its own window, and watch the page with `watched_page`."""
    with open_window(browser, url, **context) as window, watched_page(window, url, hosts) as page:
        yield page


@contextmanager
def open_window(browser: Browser, url: str, **context: Any) -> Iterator[BrowserContext]:
    """Open a window that shares nothing with other windows. Addresses are relative to ``url``."""
    with browser.new_context(base_url=url, **{"viewport": DESKTOP, **context}) as window:
        window.set_default_timeout(10_000)
        yield window


@contextmanager
def watched_page(window: BrowserContext, url: str, hosts: tuple[str, ...] = ()) -> Iterator[Page]:
    """Open a page. Fail the test if the page has an error, a refused load or a request to a foreign
    host."""
    wrong: list[str] = []
    ours = {urlsplit(url).netloc, *hosts}

    def on_console(message: ConsoleMessage) -> None:
        # Ignore answers with a status of 4xx or 5xx. Some tests expect these answers, and the page
        # shows them.
        if message.type == "error" and not message.text.startswith("Failed to load resource"):
            wrong.append(message.text)

    def on_request(request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme in ("http", "https") and parts.netloc not in ours:
            wrong.append(f"asked {request.url}")

    page = window.new_page()
    page.on("console", on_console)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", on_request)
    try:
        yield page
    finally:
        page.close()
    assert not wrong


def members(page: Page) -> list[str]:
    """Wait for the end of the search. Return the names of the images in the order of the grid."""
    page.wait_for_selector("#results[aria-busy=false]")
    return page.eval_on_selector_all(
        ".hit .name", "all => all.map((one) => one.title.split('#').pop())"
    )


def search(page: Page, text: str) -> list[str]:
    """Type a text, press Enter, and return the names of the found images."""
    page.wait_for_selector("#about:not(:empty)")  # Wait until the page is loaded.
    page.fill("#text", text)
    with page.expect_response("**/v1/search"):
        page.press("#text", "Enter")
    return members(page)
