"""Measure the time until the search page shows results, and compare it with the search alone.

The program opens a link to a running service several times, in Chromium and always with an empty
cache. It measures two times from the start of the navigation. The first time ends when the page
shows the hits. The second time ends when the page shows the first thumbnail. Then the program runs
the same search through the API::

    python -m bench.page http://127.0.0.1:8000/ "storage tanks" --repeats 9
"""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from statistics import median
from typing import Annotated, Any
from urllib.parse import urlencode, urljoin

import httpx
import typer
from playwright.sync_api import Browser, sync_playwright

_HITS_AT = "performance.getEntriesByName('skytext-results')[0].startTime"
_LOADED = """performance.getEntriesByType('resource').map(
    (one) => ({name: one.name, end: one.responseEnd, size: one.transferSize}))"""
_VIEWPORT = {"width": 1280, "height": 800}
_NUM_HITS = 24


def main(
    url: Annotated[str, typer.Argument(help="URL of a running service that requires no key.")],
    text: Annotated[str, typer.Argument(help="The query.")],
    repeats: Annotated[
        int, typer.Option(min=1, help="Number of page loads. The medians are reported.")
    ] = 9,
    output: Annotated[Path | None, typer.Option(help="JSON file for the result.")] = None,
) -> None:
    """Measure the page, and print one JSON object."""
    flags = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=flags)
        loads = [
            _load(browser, urljoin(url, f"?{urlencode({'text': text})}")) for _ in range(repeats)
        ]
        browser.close()
    search_ms = median(_search_ms(url, text) for _ in range(repeats))
    hits_ms = [load["hits_ms"] for load in loads]
    result: dict[str, Any] = {
        "hits_ms": median(hits_ms),
        "hits_slowest_ms": max(hits_ms),
        "first_thumbnail_ms": median(load["first_thumbnail_ms"] for load in loads),
        "search_ms": search_ms,
        "hits_over_search": median(hits_ms) / search_ms,
        "num_kib": max(load["num_kib"] for load in loads),
        "repeats": repeats,
    }
    printed = json.dumps({name: round(value, 2) for name, value in result.items()})
    typer.echo(printed)
    if output is not None:
        output.write_text(printed)


def _load(browser: Browser, link: str) -> dict[str, float]:
    """Open a link with an empty cache."""
    context = browser.new_context(viewport=_VIEWPORT)
    page = context.new_page()
    page.goto(link)
    page.wait_for_selector(".hit img")
    hits_ms, loaded = page.evaluate(_HITS_AT), page.evaluate(_LOADED)
    context.close()
    thumbnails = [one["end"] for one in loaded if "/thumbnail" in one["name"]]
    own = [one["size"] for one in loaded if "/v1/" not in one["name"]]
    return {
        "hits_ms": hits_ms,
        "first_thumbnail_ms": min(thumbnails),
        "num_kib": sum(own) / 1024,
    }


def _search_ms(url: str, text: str) -> float:
    started = time.perf_counter()
    httpx.post(urljoin(url, "v1/search"), json={"text": text, "k": _NUM_HITS}).raise_for_status()
    return (time.perf_counter() - started) * 1000


if __name__ == "__main__":
    typer.run(main)
