"""Test the keyboard, the map and the layout for phones in a real browser."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests.service.page.browser import (
    PHONE,
    members,
    open_page,
    search,
    serving,
)


def test_the_keyboard_is_enough(page: Page) -> None:
    page.goto("/?mode=dense")
    page.wait_for_selector("#welcome button")
    page.keyboard.press("/")
    expect(page.locator("#text")).to_be_focused()
    page.keyboard.type("a ploughed field / a road")
    with page.expect_response("**/v1/search"):
        page.keyboard.press("Enter")
    found = members(page)
    page.keyboard.press("ArrowDown")
    expect(page.locator(".hit >> nth=0")).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(page.locator(".hit >> nth=1")).to_be_focused()
    columns = page.locator("#hits").evaluate(
        "list => getComputedStyle(list).gridTemplateColumns.split(' ').length"
    )
    page.keyboard.press("ArrowDown")
    expect(page.locator(f".hit >> nth={columns + 1}")).to_be_focused()
    # All hits together are one stop of the Tab key.
    assert page.locator(".hit[tabindex='0']").count() == 1
    page.keyboard.press("Home")
    page.keyboard.press("Enter")
    dialog = page.locator("#detail")
    expect(dialog.locator("#detail-title")).to_be_focused()
    expect(dialog.locator("#detail-uri")).to_contain_text(found[0])
    page.keyboard.press("ArrowRight")
    expect(dialog.locator("#detail-uri")).to_contain_text(found[1])
    # The Tab key does not reach elements behind the dialog.
    for _ in range(12):
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.closest('dialog, body').id || 'body'") in (
            "detail",
            # The focus can be on the browser's own controls, between the last stop and the first
            # stop.
            "body",
        )
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(page.locator(".hit >> nth=1")).to_be_focused()
    page.keyboard.press("ArrowUp")
    expect(page.locator("#text")).to_be_focused()


def box_in(url: str) -> tuple[float, ...]:
    return tuple(map(float, parse_qs(urlsplit(url).query)["bbox"][0].split(",")))


def drag(page: Page, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Drag the mouse on the map. Each place is given as fractions of the width and the height of
    the map."""
    box = page.locator("#map").bounding_box()
    assert box is not None
    at = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in (start, end)]
    page.mouse.move(*at[0])
    page.mouse.down()
    page.mouse.move(*at[1], steps=8)
    # Hold the mouse still, because a map that is released in motion continues to move.
    page.wait_for_timeout(200)
    page.mouse.up()


def test_a_rectangle_on_the_map_filters(page: Page) -> None:
    page.goto("/")
    page.click("#toggle-filters")
    page.wait_for_selector("#map .land", state="attached")
    page.fill("#text", "a brown river")
    page.click("#draw")
    expect(page.locator("#draw")).to_have_attribute("aria-pressed", "true")
    with page.expect_response("**/v1/search"):
        drag(page, (0.25, 0.45), (0.42, 0.62))
    west, south, east, north = box_in(page.url)
    assert -120 < west < -60 < east < -20
    assert south < -5 < -4 < north
    assert members(page) == ["river.jpg"]
    expect(page.locator("#draw")).to_have_attribute("aria-pressed", "false")
    expect(page.locator("#map path.area")).to_have_count(1)
    expect(page.locator("#map path.footprint")).to_have_count(1)
    assert page.input_value("#bbox") == ",".join(f"{n:g}" for n in (west, south, east, north))


def test_a_rectangle_may_cross_the_antimeridian(page: Page) -> None:
    page.goto("/")
    page.click("#toggle-filters")
    page.wait_for_selector("#map .land", state="attached")
    drag(page, (0.9, 0.5), (0.4, 0.5))  # This moves the map, so that 180° is in the middle.
    page.fill("#text", "an atoll in the sea")
    page.click("#draw")
    with page.expect_response("**/v1/search"):
        drag(page, (0.3, 0.4), (0.7, 0.7))
    box = box_in(page.url)
    assert box[0] > 0 > box[2]
    assert members(page) == ["fiji.jpg"]
    # The footprint is three degrees wide and three degrees high. The map must not draw the
    # footprint around the whole world.
    shape = page.locator("#map path.footprint").bounding_box()
    assert shape is not None
    assert shape["width"] == pytest.approx(shape["height"], rel=0.1)


def test_escape_ends_drawing_and_the_map_can_be_moved_again(page: Page) -> None:
    page.goto("/?text=a+brown+river")
    page.click("#toggle-filters")
    page.wait_for_selector("#map .land", state="attached")
    members(page)
    page.click("#draw")
    page.keyboard.press("Escape")
    expect(page.locator("#draw")).to_have_attribute("aria-pressed", "false")
    before = page.url
    drag(page, (0.3, 0.4), (0.5, 0.5))
    assert page.url == before


def test_footprints_and_hits_point_at_each_other(page: Page) -> None:
    page.goto("/?mode=dense&bbox=-70,-10,-50,0")
    page.wait_for_selector("#map .land", state="attached")
    assert search(page, "a brown river") == ["river.jpg"]
    page.focus(".hit >> nth=0")
    expect(page.locator("#map path.footprint.marked")).to_have_count(1)
    page.focus("#text")
    expect(page.locator("#map path.footprint.marked")).to_have_count(0)
    page.hover("#map path.footprint")
    expect(page.locator(".hit.marked")).to_have_count(1)
    expect(page.locator(".map-tip")).to_have_text("1. a brown river")
    page.click("#map path.footprint")
    expect(page.locator("#detail-title")).to_have_text("a brown river")


def test_hits_without_a_place_are_counted(page: Page) -> None:
    page.goto("/")
    search(page, "dense forest")
    expect(page.locator("#map-note")).to_contain_text("have no location")


def test_a_phone_shows_it_all_in_its_width(browser: Browser, site: str) -> None:
    phone = {"viewport": PHONE, "is_mobile": True, "has_touch": True}
    with open_page(browser, site, **phone) as page:
        page.goto("/?text=a+brown+river")
        page.wait_for_selector(".hit")
        members(page)
        expect(page.locator("#map")).to_be_hidden()
        page.tap("#toggle-map")
        page.wait_for_selector("#map .footprint")
        page.tap("#toggle-filters")
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        page.locator(".hit >> nth=0").tap()
        expect(page.locator("#detail .variants li >> nth=0")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        expect(page.get_by_role("button", name="Close")).to_be_in_viewport()


def test_map_tiles_come_from_where_they_are_configured(page_table: Path, browser: Browser) -> None:
    asked = []

    def answer(route: Route) -> None:
        asked.append(route.request.url)
        route.fulfill(status=404)

    tiles = {
        "map_tiles_url": "https://tiles.example.org/{z}/{x}/{y}.png",
        "map_tiles_attribution": "<b>Somebody</b> & others",
    }
    hosts = ("tiles.example.org",)
    with serving(page_table, **tiles) as url, open_page(browser, url, hosts) as page:
        page.route("https://tiles.example.org/**", answer)
        page.goto("/")
        expect(page.locator(".leaflet-control-attribution")).to_have_text(
            "<b>Somebody</b> & others"
        )
        page.wait_for_selector(".leaflet-tile", state="attached")
    assert asked
    assert all(url.startswith("https://tiles.example.org/") for url in asked)
