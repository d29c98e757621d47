"""Write a report as one HTML file.

The file contains its images. It has no scripts and needs no other files.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from html import escape

from skytext.run.reindex.report.page import Card, Grid, Page, Section

_CSS = """
:root { color-scheme: light dark; --ground: #f6f7f9; --panel: #fff; --line: #d5dae1;
  --ink: #17202c; --quiet: #55606f; --accent: #1f5fbf; --good: #1d6b3a; --warm: #8a4208;
  --bad: #a3231c; }
@media (prefers-color-scheme: dark) { :root { --ground: #12161c; --panel: #1a2029; --line: #333d4a;
  --ink: #e6eaf0; --quiet: #a3aebd; --accent: #7fb2ff; --good: #7fd6a0; --warm: #ffb066;
  --bad: #ff9a92; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink); overflow-wrap: anywhere;
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans",
  sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 24px 16px 48px; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 8px; }
h2 { font-size: 1.1rem; margin: 32px 0 8px; }
p { margin: 8px 0; }
a { color: var(--accent); }
.outcome { display: inline-block; border: 1px solid; border-radius: 999px; padding: 1px 12px;
  font-weight: 600; }
.done { color: var(--good); } .partial { color: var(--warm); } .failed { color: var(--bad); }
.problem { border-left: 4px solid var(--bad); background: var(--panel); padding: 8px 12px; }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); gap: 8px;
  margin: 16px 0 0; }
dl div { background: var(--panel); border: 1px solid var(--line); border-radius: 6px;
  padding: 8px 12px; }
dt { color: var(--quiet); font-size: .85rem; }
dd { margin: 0; font-size: 1.15rem; font-weight: 600; font-variant-numeric: tabular-nums; }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: 6px;
  background: var(--panel); }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: 6px 12px; text-align: left; vertical-align: top; border-top: 1px solid
  var(--line); overflow-wrap: normal; }
td:first-child { min-width: 9rem; overflow-wrap: anywhere; }
thead th { border-top: 0; color: var(--quiet); font-weight: 600; font-size: .85rem; }
.number { text-align: right; white-space: nowrap; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(250px, 1fr)); gap: 12px;
  margin: 12px 0 0; padding: 0; list-style: none; }
.cards li { background: var(--panel); border: 1px solid var(--line); border-radius: 6px;
  overflow: hidden; }
.cards img, .none { display: block; width: 100%; aspect-ratio: 3 / 2; object-fit: cover;
  background: var(--line); }
.none { padding: 12px; color: var(--quiet); font-size: .85rem; background: var(--ground); }
.cards .said { padding: 8px 12px 12px; }
.cards h3 { margin: 0; font-size: .85rem; color: var(--quiet); font-weight: 400; }
.cards p { margin: 4px 0 0; }
.cards b { color: var(--quiet); font-weight: 600; font-size: .85rem; }
@media (max-width: 600px) { main { padding: 16px 12px 32px; }
  dl { grid-template-columns: 1fr 1fr; } th, td { padding: 6px 8px; } }
"""


def to_html(page: Page) -> str:
    """Return a report as one HTML file."""
    return "\n".join(_document(page)) + "\n"


def _document(page: Page) -> Iterator[str]:
    title = escape(page.title)
    yield '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>{title}</title>\n<style>{_CSS}</style>\n</head>\n<body>\n<main>"
    yield f"<h1>{title}</h1>"
    yield f'<div class="outcome {page.outcome}">{page.outcome}</div>'
    if page.problem:
        yield f'<p class="problem">{escape(page.problem)}</p>'
    facts = (f"<div><dt>{escape(a)}</dt><dd>{escape(b)}</dd></div>" for a, b in page.facts)
    yield f"<dl>{''.join(facts)}</dl>"
    for section in page.shown:
        yield f"<section>\n<h2>{escape(section.title)}</h2>"
        yield from _section(section)
        yield "</section>"
    yield "</main>\n</body>\n</html>"


def _section(section: Section) -> Iterator[str]:
    for text in section.texts:
        yield f"<p>{escape(text)}</p>"
    if section.grid is not None and section.grid.rows:
        yield from _grid(section.grid)
    if section.link:
        name = escape(section.link)
        yield f'<p><a href="{name}">{name}</a></p>'
    if section.cards:
        yield '<ul class="cards">'
        yield from map(_card, section.cards)
        yield "</ul>"


def _grid(grid: Grid) -> Iterator[str]:
    classes = ["" if i < grid.num_texts else ' class="number"' for i in range(len(grid.head))]
    yield '<div class="scroll"><table>\n<thead><tr>'
    head = zip(classes, grid.head, strict=True)
    yield "".join(f'<th scope="col"{kind}>{escape(name)}</th>' for kind, name in head)
    yield "</tr></thead>\n<tbody>"
    for row in grid.rows:
        cells = zip(classes, row, strict=True)
        yield f"<tr>{''.join(f'<td{kind}>{escape(cell)}</td>' for kind, cell in cells)}</tr>"
    yield "</tbody></table></div>"


def _card(card: Card) -> str:
    shown = f'<div class="none">{escape(card.note or "no image")}</div>'
    if card.picture is not None:
        data = base64.b64encode(card.picture).decode()
        shown = f'<img alt="" src="data:image/webp;base64,{data}">'
    said = "".join(
        f"<p>{f'<b>{escape(label)}</b><br>' if label else ''}{escape(text)}</p>"
        for label, text in card.lines
    )
    return f'<li>{shown}<div class="said"><h3>{escape(card.name)}</h3>{said}</div></li>'
