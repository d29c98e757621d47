"""Test a report as Markdown and as HTML.

Both pages have the same content, and no text of the report acts as markup.
"""

from __future__ import annotations

import re
from html.parser import HTMLParser

from skytext.run.reindex.report.page import Card, Grid, Page, Section
from skytext.run.reindex.report.page_html import to_html
from skytext.run.reindex.report.page_markdown import to_markdown

HOSTILE = "<script>alert('x')</script> | **bold** [link](http://x) & \"quoted\"\n# heading"


def page() -> Page:
    card = Card(HOSTILE, [("before", HOSTILE), ("", "a river")], b"RIFFwebp")
    return Page(
        title=HOSTILE,
        outcome="failed",
        facts=[("live version", "3"), (HOSTILE, HOSTILE)],
        problem=HOSTILE,
        sections=[
            Section("Empty"),
            Section("Table", [HOSTILE], Grid(["what", "number"], [[HOSTILE, "1,234"]])),
            Section("Images", cards=[card, Card("b.jpg", [], note="gone")], link="m.geojson"),
        ],
    )


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_html_is_well_formed_and_takes_nothing_from_elsewhere() -> None:
    reader = _Reader()
    reader.feed(to_html(page()))
    assert reader.open == []
    names = {tag for tag, _ in reader.tags}
    assert names.isdisjoint({"script", "link", "iframe"})
    addresses = [a[k] for _, a in reader.tags for k in ("src", "href") if k in a]
    assert [str(address)[:16] for address in addresses] == ["m.geojson", "data:image/webp;"]
    assert "".join(reader.texts).count(HOSTILE) == 9
    assert "Empty" not in reader.texts
    assert "url(" not in to_html(page())


def test_markdown_has_the_same_texts_and_none_of_them_acts() -> None:
    text = to_markdown(page())
    assert "Empty" not in text
    headings = [line for line in text.splitlines() if line.startswith("#")]
    assert [re.match("#+", line)[0] for line in headings] == ["#", "##", "##"]  # type: ignore[index]
    assert "<script" not in text.replace("\\<script", "")
    assert text.count("\\*\\*bold\\*\\*") == 8
    row = next(line for line in text.splitlines() if "1,234" in line)
    assert len(re.findall(r"(?<!\\)\|", row)) == 3
    assert "[m.geojson](m.geojson)" in text
