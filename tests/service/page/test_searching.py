"""Test searches, links, paging and details on the page in a real browser."""

from __future__ import annotations

import io
import re
import tarfile
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from skytext.table.images_dataset import ImagesTable
from skytext.table.location import TableLocation
from skytext.table.versions.promote_rollback import promote
from tests.search.test_image_modes import make_searched
from tests.service.page.browser import members, open_page, search, serving
from tests.service.page.table import BULK, DESCRIBED, make_page_table
from tests.table.rows import good_row


def link(page: Page) -> dict[str, str]:
    """Return the parameters in the address bar."""
    return {name: values[0] for name, values in parse_qs(urlsplit(page.url).query).items()}


def test_the_page_shows_the_archive_and_an_example(page: Page) -> None:
    page.goto("/")
    expect(page.locator("#welcome")).to_contain_text("30 images")
    expect(page.locator("#welcome")).to_contain_text("fake-llava")
    expect(page.locator("#about")).to_contain_text("30 images · version")
    with page.expect_response("**/v1/search"):
        page.click("#welcome button >> nth=0")
    assert len(members(page)) == 24
    expect(page.locator("#welcome")).to_be_hidden()


def test_words_find_images_with_score_variant_and_thumbnail(page: Page) -> None:
    page.goto("/")
    assert search(page, "water in fields")[0] == "river.jpg"
    best = page.locator(".hit >> nth=0")
    expect(best.locator(".sentence")).to_have_text("water in fields")
    expect(best).to_contain_text("variant 2")
    scores = [float(score) for score in page.locator(".score").all_inner_texts()]
    assert scores[0] == max(scores) == 1
    image = best.locator("img")
    image.wait_for()
    size = image.evaluate("(image) => [image.naturalWidth, image.naturalHeight]")
    assert size == [256, 192]


@pytest.mark.parametrize(("mode", "label"), [("dense", "Dense"), ("text", "Text")])
def test_the_mode_can_be_chosen(page: Page, mode: str, label: str) -> None:
    page.goto("/")
    expect(page.locator("input[value=hybrid]")).to_be_checked()
    with page.expect_response("**/v1/search"):
        page.fill("#text", "a brown river")
        page.get_by_label(label, exact=True).check()
    assert members(page)[0] == "river.jpg"
    expect(page.locator("#status")).to_contain_text(f"{mode}, exact")
    assert link(page)["mode"] == mode


def test_images_are_searched_by_what_they_show_where_they_have_vectors(
    page: Page, browser: Browser, tmp_path: Path
) -> None:
    page.goto("/")
    expect(page.locator("input[value=dense]").locator("..")).to_be_visible()
    expect(page.locator("input[value=image]").locator("..")).to_be_hidden()
    make_searched(tmp_path / "table")
    with serving(tmp_path / "table") as url, open_page(browser, url) as other:
        other.goto("/")
        with other.expect_response("**/v1/search"):
            other.fill("#text", "red")
            other.get_by_label("Image", exact=True).check()
        assert members(other)[:2] == ["a.jpg", "b.jpg"]
        expect(other.locator("#status")).to_contain_text("image, exact")
        with other.expect_response("**/v1/search"):
            other.get_by_label("Image + dense", exact=True).check()
        assert members(other)[0] == "a.jpg"
        expect(other.locator(".score").first).to_have_attribute("title", re.compile("image cosine"))
        other.goto(f"{url}?like={good_row('a.jpg')['image_id']}&mode=image")
        other.wait_for_selector(".hit")
        assert members(other)[0] == "b.jpg"


def test_the_link_finds_the_same_again(page: Page, browser: Browser, site: str) -> None:
    page.goto("/")
    page.click("#toggle-filters")
    page.fill("#after", "2024-01-04")
    page.fill("#until", "2024-01-09")
    page.fill("#where", "metadata.cloud != 5")
    found = search(page, "a ploughed field")
    assert sorted(found) == [BULK[i] for i in (3, 4, 6, 7, 8)]
    parameters = link(page)
    assert parameters["version"]
    assert parameters["text"] == "a ploughed field"
    with open_page(browser, site) as other:
        other.goto(page.url)
        other.wait_for_selector(".hit")
        assert members(other) == found
        assert other.input_value("#text") == "a ploughed field"
        assert other.input_value("#after") == "2024-01-04"
        assert other.input_value("#where") == "metadata.cloud != 5"
        expect(other.locator("#toggle-filters")).to_have_text("Filters (3)")
        assert link(other) == parameters


def test_text_typed_before_the_first_answer_is_kept(page: Page) -> None:
    held: list[Route] = []
    page.route("**/page.json", lambda route: held.append(route))
    page.goto("/")
    page.fill("#text", "a brown river")
    held[0].continue_()
    page.wait_for_selector("#welcome button")
    assert page.input_value("#text") == "a brown river"


def test_the_back_button_returns_to_the_previous_search(page: Page) -> None:
    page.goto("/")
    first = search(page, "a brown river")
    assert search(page, "an atoll in the sea") != first
    with page.expect_response("**/v1/search"):
        page.go_back()
    assert members(page) == first
    assert page.input_value("#text") == "a brown river"


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("#gsd", "1", {BULK[i] for i in range(1, 26, 2)}),
        ("#collection", "it's s2", {BULK[i] for i in range(0, 26, 2)} | {"fiji.jpg", "river.jpg"}),
        ("#bbox", "-70, -10, -50, 0", {"river.jpg"}),
        ("#bbox", "179, -20, -179.5, -10", {"fiji.jpg"}),
    ],
)
def test_filters_leave_out_what_they_say(
    page: Page, field: str, value: str, expected: set[str]
) -> None:
    page.goto("/?mode=dense")
    page.click("#toggle-filters")
    page.fill(field, value)
    assert set(search(page, "a ploughed field")) == expected
    with page.expect_response("**/v1/search"):
        page.click("#clear-filters")
    assert len(members(page)) == 24


def test_only_filters_that_can_be_fulfilled_are_offered(served: Path, browser: Browser) -> None:
    with serving(served) as url, open_page(browser, url) as page:
        page.goto("/")
        page.click("#toggle-filters")
        expect(page.locator("#gsd")).to_be_visible()
        expect(page.locator("#collection")).to_be_hidden()


def test_the_more_button_continues_after_the_last_hit(page: Page) -> None:
    page.goto("/?mode=dense")
    first = search(page, "a ploughed field")
    assert len(first) == 24
    expect(page.locator("#status")).to_contain_text("The best 24 images")
    with page.expect_response("**/v1/search"):
        page.click("#more")
    expect(page.locator(".hit")).to_have_count(30)
    everything = members(page)
    assert everything[:24] == first
    assert set(everything) == set(DESCRIBED)
    expect(page.locator("#more")).to_be_hidden()
    expect(page.locator(".hit >> nth=24")).to_be_focused()


def test_details_show_every_variant_and_where_they_come_from(page: Page) -> None:
    page.goto("/")
    search(page, "water in fields")
    page.click(".hit >> nth=0")
    dialog = page.locator("#detail")
    expect(dialog.locator(".variants li")).to_have_count(3)
    expect(dialog.locator(".one-sentence")).to_have_text(DESCRIBED["river.jpg"])
    expect(dialog.locator(".matching")).to_contain_text("water in fields")
    expect(dialog.locator(".matching")).to_contain_text("nearest to the query: cosine 1.0")
    for said in ("fake-llava (r1)", "demo-1", "vLLM 0.32.0", "-60°, -5°, -59°, -4°", "2024-01-31"):
        expect(dialog.locator("#detail-rest")).to_contain_text(said)
    expect(dialog.locator("pre")).to_contain_text('"cloud": 30')
    dialog.locator("img").wait_for()
    assert "image=" in page.url
    page.reload()
    expect(page.locator("#detail .variants li")).to_have_count(3)


def test_the_original_can_be_saved(page: Page, page_table: Path) -> None:
    page.goto("/")
    search(page, "a brown river")
    page.click(".hit >> nth=0")
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Save original").click()
    assert waiting.value.suggested_filename == "river.jpg"
    with tarfile.open(page_table.parent / "archive" / "a.tar") as tar:
        held = tar.extractfile("river.jpg")
        assert isinstance(held, io.BufferedReader)
        assert Path(waiting.value.path()).read_bytes() == held.read()


def test_more_like_this_searches_by_the_image(page: Page) -> None:
    page.goto("/")
    search(page, "a brown river")
    page.click(".hit >> nth=0")
    with page.expect_response("**/v1/search"):
        page.get_by_role("button", name="More like this").click()
    found = members(page)
    assert "river.jpg" not in found
    assert len(found) == 24
    expect(page.locator("#detail")).to_be_hidden()
    expect(page.locator("#like")).to_contain_text("More like river.jpg")
    assert set(link(page)) == {"like", "mode", "version"}
    page.get_by_role("button", name="Stop the search for similar images").click()
    expect(page.locator("#welcome")).to_be_visible()


def test_a_hit_says_of_which_table_it_is(served_two: list[Path], browser: Browser) -> None:
    with serving(served_two[0], served_two[1:]) as url, open_page(browser, url) as page:
        page.goto("/?text=a+brown+river&mode=dense")
        expect(page.locator(".hit img")).to_have_count(5)
        expect(page.locator("#about")).to_contain_text("5 images in north, south")
        for rank, table in enumerate(("north", "south")):
            hit = page.locator(f".hit >> nth={rank}")
            expect(hit).to_contain_text(f"{table} · 2024-05-31")
            with page.expect_response(f"**/v1/images/*?*table={table}*"):
                hit.click()
            expect(page.locator("#detail dl >> nth=-1")).to_contain_text(f"Table{table}")
            page.keyboard.press("Escape")


def test_a_promotion_is_shown_and_used_on_request(tmp_path: Path, browser: Browser) -> None:
    table = make_page_table(tmp_path)
    where = TableLocation.parse(str(table))
    last = ImagesTable.open(where).version
    promote(where, last - 1)
    promote(where, last)
    with serving(table) as url, open_page(browser, url) as page:
        page.goto(f"/?text=a+ploughed+field&mode=dense&version={last - 1}")
        page.wait_for_selector(".hit")
        expect(page.locator("#stale")).to_contain_text(f"The live version is {last}")
        assert link(page)["version"] == str(last - 1)
        with page.expect_response("**/v1/search"):
            page.get_by_role("button", name=f"Search version {last}").click()
        members(page)
        expect(page.locator("#stale")).to_be_hidden()
        assert link(page)["version"] == str(last)


def test_a_link_to_a_version_shows_the_images_of_that_version(
    tmp_path: Path, browser: Browser
) -> None:
    table = make_page_table(tmp_path)
    where = TableLocation.parse(str(table))
    last = ImagesTable.open(where).version
    lacking = next(
        version
        for version in range(last, 0, -1)
        if ImagesTable.open(where, version).status_counts()["ok"] < len(DESCRIBED)
    )
    promote(where, last)
    promote(where, lacking)
    member = BULK[-1]
    with serving(table) as url, open_page(browser, url) as page:
        page.goto(f"/?text=a+field&mode=dense&where=member+%3D+'{member}'&version={last}")
        page.wait_for_selector(".hit img")
        assert members(page) == [member]
        page.locator(".hit >> nth=0").click()
        expect(page.locator(".one-sentence")).to_have_text(DESCRIBED[member])
        expect(page.locator("#detail dl >> nth=-1")).to_contain_text(f"Table version{last}")
        page.wait_for_selector("#detail .picture img")


def test_a_link_s_filters_that_no_field_takes_are_further_conditions(page: Page) -> None:
    page.goto("/?text=a+field&mode=dense&after=2024-01-20T10:31:00Z&until=2024-01-25&gsd=0.5")
    page.wait_for_selector(".hit")
    assert sorted(members(page)) == [BULK[21], BULK[23]]
    assert page.input_value("#where") == "datetime >= '2024-01-20T10:31:00Z'"
    assert (page.input_value("#after"), page.input_value("#until")) == ("", "2024-01-25")
    assert page.input_value("#gsd") == "0.5"
    page.goto("/?text=a+field&until=someday&gsd=fine&where=gsd+<+1")
    expect(page.locator("#failure")).to_contain_text("422")
    expected = "((gsd < 1) and datetime <= 'someday') and gsd <= fine"
    assert page.input_value("#where") == expected


def test_a_released_version_is_reported_and_the_live_one_offered(page: Page) -> None:
    page.goto("/?text=river&version=1000000")
    failure = page.get_by_role("alert").first
    expect(failure).to_contain_text("410 Gone")
    expect(failure).to_contain_text("version 1000000 is no longer held")
    with page.expect_response("**/v1/search"):
        page.get_by_role("button", name="Search the live version").click()
    assert members(page)
    expect(page.locator(".problem")).to_have_count(0)
