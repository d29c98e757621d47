from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.service.page.browser import open_browser, open_window, serving, watched_page
from tests.service.page.table import make_page_table

# If a second process runs tests at the same time, the default of five seconds is sometimes too
# short.
expect.set_options(timeout=20_000)


@pytest.fixture(scope="session")
def page_table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_page_table(tmp_path_factory.mktemp("page"))


# The scope is the module and not the session. While playwright is open, no other test of this
# process can start an event loop.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def site(page_table: Path) -> Iterator[str]:
    with serving(page_table) as url:
        yield url


@pytest.fixture(scope="module")
def window(browser: Browser, site: str) -> Iterator[BrowserContext]:
    with open_window(browser, site) as opened:
        yield opened


@pytest.fixture
def page(window: BrowserContext, site: str) -> Iterator[Page]:
    """Open a tab in the window of the module. A new window would take longer than most tests."""
    with watched_page(window, site) as opened:
        yield opened
