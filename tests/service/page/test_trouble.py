"""Test the page in a real browser. The tests cover errors, API keys, and texts that contain
markup."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Route, expect

from skytext.service.access.api_keys import KeyStore, Right
from skytext.service.http.web_page import FOLDER
from skytext.table.location import TableLocation
from tests.service.page.browser import (
    PHONE,
    members,
    open_page,
    search,
    serving,
)
from tests.service.page.table import HOSTILE, HOSTILE_MEMBER


def problem(status: int, detail: str, **headers: str) -> dict[str, Any]:
    body = {"type": "urn:skytext:problem:x", "title": "Trouble", "status": status, "detail": detail}
    return {
        "status": status,
        "headers": {"Content-Type": "application/problem+json", **headers},
        "body": json.dumps({**body, "request_id": "abc123"}),
    }


def test_a_problem_is_shown_in_the_api_s_words(page: Page) -> None:
    page.goto("/?text=a+river&where=gsd+<>+or")
    alert = page.locator("#failure")
    expect(alert).to_contain_text("422")
    expect(alert).to_contain_text("the filter is wrong at")
    expect(alert).to_contain_text("request ")
    expect(page.locator(".hit")).to_have_count(0)
    expect(page.locator("#results")).to_have_attribute("aria-busy", "false")


def test_the_user_can_retry_a_search_on_a_busy_service(page: Page) -> None:
    refuse = problem(503, "too many requests <b>wait</b>", **{"Retry-After": "2"})
    page.route("**/v1/search", lambda route: route.fulfill(**refuse))
    page.goto("/?text=a+brown+river")
    expect(page.locator("#failure")).to_contain_text("too many requests <b>wait</b>")
    expect(page.locator("#failure")).to_contain_text("Wait 2 s before you try again.")
    page.unroute("**/v1/search")
    page.get_by_role("button", name="Try again").click()
    page.wait_for_selector(".hit")
    assert members(page)[0] == "river.jpg"
    expect(page.locator("#failure .problem")).to_have_count(0)


def test_an_unreachable_service_is_shown(page: Page) -> None:
    page.goto("/")
    page.wait_for_selector("#welcome button")
    page.route("**/v1/search", lambda route: route.abort())
    page.fill("#text", "a river")
    page.keyboard.press("Enter")
    expect(page.locator("#failure")).to_contain_text("The service cannot be reached")


def test_a_proxy_error_without_problem_details_is_shown(page: Page) -> None:
    page.route("**/page.json", lambda route: route.fulfill(status=502, body="<h1>Bad</h1>"))
    page.goto("/")
    expect(page.locator("#failure")).to_contain_text("502")
    page.unroute("**/page.json")
    page.get_by_role("button", name="Try again").click()
    expect(page.locator("#welcome")).to_be_visible()


def test_loading_and_empty_results_are_shown(page: Page) -> None:
    page.goto("/")
    page.wait_for_selector("#welcome button")
    held: list[Route] = []
    page.route("**/v1/search", lambda route: held.append(route))
    page.fill("#text", "a river")
    page.click("#toggle-filters")
    page.fill("#bbox", "0,-80,1,-79")
    page.keyboard.press("Enter")
    expect(page.locator("#results")).to_have_attribute("aria-busy", "true")
    expect(page.locator("#status")).to_have_text("Searching …")
    page.wait_for_timeout(50)
    held[0].continue_()
    expect(page.locator("#status")).to_contain_text("Nothing found: no image matches the filter")


def test_a_later_search_wins_over_an_earlier_one(page: Page) -> None:
    page.goto("/?mode=dense")
    page.wait_for_selector("#welcome button")
    held: list[Route] = []
    page.route("**/v1/search", lambda route: route.continue_() if held else held.append(route))
    page.fill("#text", "an atoll in the sea")
    page.keyboard.press("Enter")
    expect(page.locator("#results")).to_have_attribute("aria-busy", "true")
    page.wait_for_timeout(50)
    assert search(page, "a brown river")[0] == "river.jpg"
    held[0].continue_()  # The page no longer waits for this answer.
    expect(page.locator(".sentence >> nth=0")).to_have_text("a brown river")
    assert "brown" in page.url


def test_thumbnails_are_retried_and_errors_are_shown(page: Page) -> None:
    tried: dict[str, int] = {}

    def answer(route: Route) -> None:
        tried[route.request.url] = tried.get(route.request.url, 0) + 1
        if tried[route.request.url] == 1:
            route.fulfill(**problem(503, "busy", **{"Retry-After": "1"}))
        else:
            route.fulfill(**problem(410, "the archive no longer holds it"))

    page.route("**/thumbnail*", answer)
    page.goto("/?text=a+brown+river&mode=dense&bbox=-70,-10,-50,0")
    expect(page.locator(".hit .reason")).to_have_text("this image has changed in the archive")
    assert list(tried.values()) == [2]


def test_without_archive_roots_no_image_is_requested(page_table: Path, browser: Browser) -> None:
    with serving(page_table, archive_roots=[]) as url, open_page(browser, url) as page:
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto("/?text=a+brown+river")
        page.wait_for_selector(".hit")
        expect(page.locator(".hit .reason >> nth=0")).to_have_text("no image")
        assert not [url for url in asked if "/v1/images/" in url]


def test_the_page_asks_for_a_key_and_keeps_it_in_the_tab(
    page_table: Path, tmp_path: Path, browser: Browser
) -> None:
    table = tmp_path / "table"
    shutil.copytree(page_table, table)
    key = KeyStore(TableLocation.parse(str(table))).add("somebody", Right.SEARCH)
    archive = str(page_table.parent / "archive")
    settings = {"access__require_keys": True, "archive_roots": [archive]}
    with serving(table, **settings) as url, open_page(browser, url) as page:
        page.goto("/?text=a+brown+river")
        expect(page.locator("#key")).to_be_visible()
        expect(page.locator("#key-value")).to_be_focused()
        page.keyboard.type("wrong")
        page.keyboard.press("Enter")
        expect(page.locator("#key-said")).to_have_text("this API key is unknown or was revoked")
        page.fill("#key-value", key)
        page.keyboard.press("Enter")
        page.wait_for_selector(".hit img")
        assert members(page)[0] == "river.jpg"
        assert key not in page.url
        assert page.evaluate("[sessionStorage.length, localStorage.length, document.cookie]") == [
            1,
            0,
            "",
        ]
        page.reload()
        page.wait_for_selector(".hit img")
        page.click("#change-key")
        page.click("#key-forget")
        assert page.evaluate("sessionStorage.length") == 0


@pytest.mark.parametrize("when", ["while the person types", "after the next key"])
def test_a_late_refusal_of_the_key_before_changes_nothing(
    page_table: Path, tmp_path: Path, browser: Browser, when: str
) -> None:
    """Test that the second refusal of a wrong key has no effect. The page sends two requests with
    the key at the same time, and the second refusal can arrive late."""
    table = tmp_path / "table"
    shutil.copytree(page_table, table)
    key = KeyStore(TableLocation.parse(str(table))).add("somebody", Right.SEARCH)
    late: list[Route] = []
    with (
        serving(table, access__require_keys=True) as url,
        open_page(browser, url) as page,
    ):
        page.route("**/v1/table", lambda route: late.append(route), times=1)
        page.goto("/?text=a+brown+river")
        page.fill("#key-value", "wrong")
        page.keyboard.press("Enter")
        expect(page.locator("#key-said")).to_have_text("this API key is unknown or was revoked")
        page.fill("#key-value", key)
        if when == "while the person types":
            _refuse(page, late)
        page.keyboard.press("Enter")
        page.wait_for_selector(".hit")
        if when == "after the next key":
            _refuse(page, late)
        expect(page.locator("#key")).to_be_hidden()


def _refuse(page: Page, late: list[Route]) -> None:
    with page.expect_response("**/v1/table") as refused:
        late.pop().fulfill(**problem(401, "too late"))
    refused.value.finished()
    page.evaluate("new Promise((heard) => setTimeout(heard, 100))")


def test_hostile_descriptions_stay_text(page: Page) -> None:
    page.goto("/?mode=dense")
    assert search(page, HOSTILE[0])[0] == HOSTILE_MEMBER
    expect(page.locator(".sentence >> nth=0")).to_have_text(HOSTILE[0])
    page.wait_for_selector("#map path.footprint")
    page.focus(".hit >> nth=0")
    page.keyboard.press("Enter")
    expect(page.locator(".one-sentence")).to_have_text(list(HOSTILE))
    expect(page.locator("#detail-uri")).to_contain_text(HOSTILE_MEMBER)
    expect(page.locator("#detail dd").filter(has_text=HOSTILE[0])).to_have_count(1)
    expect(page.locator("#detail pre")).to_contain_text("<script>window.hacked")
    page.click("#more-like")
    expect(page.locator("#like")).to_contain_text(HOSTILE_MEMBER)
    for address in ("?text=", "?bbox=", "?like=", "?where=", "?version=", "?image=", "?mode="):
        page.goto(f"/{address}<img src=x onerror=window.hacked=5>&text=a")
        page.wait_for_selector("#results[aria-busy=false]")
    assert page.evaluate("window.hacked") is None
    assert page.locator("[onerror], [onload]").count() == 0


def test_a_hostile_footprint_s_tip_stays_text(page: Page) -> None:
    page.goto(f"/?mode=dense&where=member+%3D+'{HOSTILE_MEMBER}'")
    assert search(page, HOSTILE[0]) == [HOSTILE_MEMBER]
    page.hover("#map path.footprint")
    expect(page.locator(".map-tip")).to_have_text(f"1. {HOSTILE[0]}")
    assert page.evaluate("window.hacked") is None


def test_the_content_policy_blocks_foreign_code(browser: Browser, site: str) -> None:
    refused: list[str] = []
    context = browser.new_context(base_url=site)
    page = context.new_page()
    page.on("console", lambda message: refused.append(message.text))
    page.goto("/")
    page.evaluate(
        """() => {
            const script = document.createElement('script');
            script.textContent = 'window.hacked = 1';
            document.head.append(script);
            const image = new Image();
            image.src = 'https://elsewhere.example.org/x.png';
            document.body.append(image);
            const button = document.createElement('button');
            button.setAttribute('onclick', 'window.hacked = 2');
            document.body.append(button);
            button.click();
        }"""
    )
    page.wait_for_timeout(100)
    assert page.evaluate("window.hacked") is None
    assert sum("Content Security Policy" in text for text in refused) == 3
    context.close()


def test_our_scripts_make_no_markup_of_text() -> None:
    ours = list(FOLDER.glob("*.js"))
    assert len(ours) >= 10
    risky = re.compile(
        r"innerHTML\s*[+=]|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function"
    )
    for path in ours:
        assert not risky.search(path.read_text(encoding="utf-8")), path.name
    for path in [*FOLDER.glob("*.html"), *FOLDER.glob("*.css"), *ours]:
        addresses = re.findall(r"https?://[\w.]+", path.read_text(encoding="utf-8"))
        assert not addresses, path.name


def test_browsers_keep_files_and_ask_whether_they_changed(site: str) -> None:
    with httpx.Client(base_url=site) as http:
        first = http.get("/page/main.js")
        assert first.headers["cache-control"] == "no-cache"
        assert "javascript" in first.headers["content-type"]
        again = http.get("/page/main.js", headers={"If-None-Match": first.headers["etag"]})
        assert again.status_code == 304
        assert http.get("/page/../page.py").status_code == 404
        assert http.get("/page/%2e%2e/page.py").status_code == 404


@pytest.mark.parametrize(
    ("scheme", "size"), [("light", "desktop"), ("dark", "desktop"), ("light", "phone")]
)
def test_axe_finds_nothing_serious(browser: Browser, site: str, scheme: str, size: str) -> None:
    context: dict[str, Any] = {"color_scheme": scheme, "reduced_motion": "reduce"}
    if size == "phone":
        context |= {"viewport": PHONE, "is_mobile": True, "has_touch": True}
    with open_page(browser, site, **context) as page:
        page.goto("/")
        page.wait_for_selector("#welcome button")
        check(page, "welcome")
        page.click("#toggle-filters")
        if size == "phone":
            page.click("#toggle-map")
        page.fill("#until", "2024-01-20")
        search(page, "a ploughed field")
        page.wait_for_selector("#map path.footprint")
        page.wait_for_selector(".hit img")
        check(page, "results")
        page.locator(".hit >> nth=0").click()
        page.wait_for_selector("#detail .variants li")
        check(page, "detail")
        page.get_by_role("button", name="More like this").click()
        page.wait_for_selector("#like .picture")
        page.wait_for_selector("#results[aria-busy=false]")
        page.fill("#where", "gsd <> or")
        page.click("#filters button[type=submit]")
        page.wait_for_selector(".problem")
        check(page, "failure")
        page.evaluate("document.getElementById('key').showModal()")
        check(page, "key")


def check(page: Page, what: str) -> None:
    found = Axe().run(page).response["violations"]
    serious = [
        f"{what}: {one['id']}: {node['html'][:120]}: {node['failureSummary']}"
        for one in found
        for node in one["nodes"]
        if one["impact"] in ("serious", "critical")
    ]
    assert not serious, "\n".join(serious)
