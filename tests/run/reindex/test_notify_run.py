"""Test that each run writes a report, both if the run succeeds and if the run fails."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any

import pytest

from skytext.errors import BrokenListingError, TableHeldError
from skytext.run.plans.caption_plan import plan_caption
from skytext.run.reindex.reindex_run import GateError, ReindexSummary, run_reindex
from skytext.table.commits.claim import hold
from skytext.table.standing.standing_queries import StandingQueries
from tests.archives import bad_images, images, jpeg, write_archive
from tests.run.jobs import config, open_table, ray, rows, with_ray

pytestmark = [ray, with_ray]


def night(root: Path, table: Path, **settings: Any) -> ReindexSummary:
    settings = {"index__vector": "never", "job__cost_per_engine_hour": 2.5} | settings
    plan = plan_caption([str(root)], str(table), config(**settings), stale="all")
    return run_reindex(plan)


def reports(table: Path) -> list[str]:
    return [path.read_text() for path in sorted(Path(table, "reports").glob("*.md"))]


def section(report: str, title: str) -> str:
    found = re.search(rf"^## {title}.*?\n(.*?)(?=^## |\Z)", report, re.MULTILINE | re.DOTALL)
    assert found, report
    return found[1]


def test_a_report_says_what_changed_and_shows_it(tmp_path: Path) -> None:
    root, table = tmp_path / "aerial", tmp_path / "table"
    write_archive(root, {"a.tar": images(0, 4), "b.tar": images(10, 2)})
    first = night(root, table)
    assert first.report.startswith(f"{table}/reports/")
    report = Path(first.report).with_suffix(".md").read_text()
    assert "**done**" in report
    assert "| new | the table had no row for these images | 6 |" in report
    assert section(report, "New images").count("- **") == 6
    query = StandingQueries(open_table(table).location).add("a river", -1.0)

    # One image is new, one image has other bytes, one image is damaged, and one shard is deleted.
    sentence = {row["member"]: row["captions"][0]["one_sentence"] for row in described(table)}
    write_archive(root, {"a.tar": [("0000.jpg", jpeg(77)), *images(1, 3), ("n.jpg", jpeg(99))]})
    write_archive(root, {"c.tar": [("cut.jpg", bad_images()["cut.jpg"][0])]})
    Path(root, "b.tar").unlink()
    easy: dict[str, Any] = {
        "reindex__max_withdrawn": 1.0,
        "reindex__max_failure_rate": 1.0,
        "job__max_attempts": 2,
    }
    second = night(root, table, **easy)
    report = Path(second.report).with_suffix(".md").read_text()
    changes = section(report, "What changed")
    for line in ("| new | .* | 1 |", "| changed | .* | 1 |", "| withdrawn | .* | 2 |"):
        assert re.search(line.replace("|", r"\|"), changes), changes
    assert re.search(r"\| failed \| see the section Failures \| 1 \|", changes)
    changed = section(report, "Changed images")
    now = {row["member"]: row["captions"][0]["one_sentence"] for row in described(table)}
    assert f"before: {plain(sentence['0000.jpg'])}\n  - now: {plain(now['0000.jpg'])}" in changed
    assert "0010.jpg" in section(report, "Withdrawn images")
    assert re.search(r"decode/\S+ \|.*cut.jpg.*\| 1 \| 1 \|", section(report, "Failures"))
    assert "share of failed rows" in section(report, "Gate")
    assert "| describe new and changed | 2 |" in section(report, "Time and cost by step")
    matches = section(report, "New images for standing queries")
    assert f"| {query.query_id} | a river | 2 |" in matches
    assert "[matches-000001.geojson](matches-000001.geojson)" in matches

    # The page contains the pictures of the images.
    html = Path(second.report).read_text()
    pictures = re.findall(r"data:image/webp;base64,([^\"]+)", html)
    assert len(pictures) == 4
    assert all(base64.b64decode(one)[:4] == b"RIFF" for one in pictures)

    # The next run retries the failed image. The third run has no work. The fourth run describes the
    # images again.
    assert len(night(root, table, **easy).matches) == 0
    third = night(root, table, **easy)
    assert "Nothing has changed." in Path(third.report).with_suffix(".md").read_text()
    fourth = night(root, table, caption__num_variants=2, **easy)
    again = section(Path(fourth.report).with_suffix(".md").read_text(), "Described again")
    assert again.count("before: ") == again.count("now: ") == 5


def described(table: Path) -> list[dict[str, Any]]:
    return [row for row in rows(table, "member", "captions", "status") if row["status"] == "ok"]


def plain(text: str) -> str:
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", text)


def test_a_run_that_fails_leaves_a_report_that_says_why(described: tuple[Path, Path]) -> None:
    root, table = described
    with hold(open_table(table).location, "other", "reindex"), pytest.raises(TableHeldError):
        night(root, table)
    assert "**failed**" in reports(table)[-1]
    assert "held by" in reports(table)[-1]

    write_archive(root, {"c.tar": [("x.jpg", bad_images()["cut.jpg"][0])]})
    with pytest.raises(GateError) as caught:
        night(root, table)
    report = Path(caught.value.summary.report).with_suffix(".md").read_text()
    assert "the new version was not promoted" in report
    assert re.search(r"\| FAILED \| share of failed rows \|", section(report, "Gate"))

    write_archive(root, {"a.tar": images(0, 1)})
    summary = night(root, table, reindex__max_failure_rate=1.0, reindex__max_withdrawn=0.1)
    assert summary.broken_listing
    assert "**failed**" in reports(table)[-1]
    Path(root, "a.tar").unlink()
    with pytest.raises(BrokenListingError):
        night(root, table, reindex__max_withdrawn=0.1)
    assert "are missing from its source" in reports(table)[-1]


def test_reports_are_written_to_the_configured_folder_and_old_ones_are_removed(
    tmp_path: Path,
) -> None:
    root, table, folder = (tmp_path / name for name in ("aerial", "table", "told"))
    write_archive(root, {"a.tar": images(0, 1)})
    there: dict[str, Any] = {"reindex__report": str(folder), "reindex__keep_reports": 2}
    made = [night(root, table, **there).report for _ in range(3)]
    assert not Path(table, "reports").exists()
    names = sorted(str(path) for path in folder.glob("table-*/*.html"))
    assert names == made[1:]
    assert len(list(folder.glob("table-*/*.md"))) == 2
