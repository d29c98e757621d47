"""Test the report of a run on a small table. The pictures come from real files."""

from __future__ import annotations

import datetime as dt
import json
import re
from pathlib import Path
from typing import Any

from skytext.config.settings import load_config
from skytext.demo.scenes.generate import make_scene, render
from skytext.run.reindex.compare_versions import Change, Comparison
from skytext.run.reindex.report import sections
from skytext.run.reindex.report.facts import RunFacts
from skytext.run.reindex.report.write_report import report_store, write_report
from skytext.table.images_dataset import ImagesTable
from skytext.table.standing.reported_matches import MatchReport
from tests.table.rows import committer, failed_row, good_row, location, make_table, stage

NOW = dt.datetime(2026, 5, 4, 2, 0, 0, 123000, dt.UTC)
SENTENCES = {
    "0001.jpg": "A narrow river crosses green farmland with a small village on its eastern bank.",
    "0002.jpg": "Rows of solar panels cover a dry field beside a paved road.",
    "0003.jpg": "Three large storage tanks stand near a harbour with two docked ships.",
    "0004.jpg": "Dense forest with a clearing in the lower left corner.",
}


def put_picture(folder: Path, name: str, seed: int) -> dict[str, Any]:
    """Write a picture, and return the columns with the position of the picture."""
    from PIL import Image

    path = folder / name
    Image.fromarray(render(make_scene(seed), 256)).save(path)
    said = {"shard": name, "uri": f"file://{path}#{name}", "byte_offset": 0}
    return said | {"byte_length": path.stat().st_size}


def row(folder: Path, name: str, sentence: str, **more: Any) -> dict[str, Any]:
    made = good_row(name, **more)
    made |= put_picture(folder, name, int(name[:4])) if "status" not in more else {}
    for caption in made["captions"]:
        caption["one_sentence"] = sentence
    return made


def run_json(**more: Any) -> dict[str, Any]:
    numbers = dict.fromkeys(
        ("num_newly_failed", "num_adopted", "num_prompt_tokens", "num_output_tokens"), 0
    )
    times = {"duration_s": 41.5, "engine_span_s": 36.0, "engine_idle_s": 1.8}
    rest = {"run_id": "later", "num_captioned": 4, "failures": {}, "unread": {}}
    return numbers | times | rest | {"output_tokens_per_s": 1_234.0} | more


def facts_of(folder: Path) -> RunFacts:
    """Return the facts of a run on a table.

    The run has new images, a changed image, an image that was described again, a withdrawn image
    and a failed image.
    """
    where = location(folder / "table")
    again = SENTENCES["0004.jpg"]
    before = make_table(
        where,
        [
            row(folder, "0003.jpg", "An industrial area.", content_sha256="a" * 64),
            row(folder, "0004.jpg", "Trees.", content_sha256="b" * 64),
            row(folder, "0009.jpg", "A bare field.", content_sha256="e" * 64),
        ],
    )
    later: dict[str, Any] = {"run_id": "later"}
    rows = [
        row(folder, "0001.jpg", SENTENCES["0001.jpg"], content_sha256="c" * 64, **later),
        row(folder, "0002.jpg", SENTENCES["0002.jpg"], content_sha256="d" * 64, **later),
        row(folder, "0003.jpg", SENTENCES["0003.jpg"], content_sha256="f" * 64, **later),
        row(folder, "0004.jpg", again, content_sha256="b" * 64, **later),
        failed_row("bad.jpg", **later),
        row(folder, "0009.jpg", "A bare field.", status="withdrawn", created_at=NOW),
    ]
    Path(folder, "0001.jpg").unlink()
    writer = committer(where, before.text_column)
    units = before.units_of([one["image_id"] for one in rows])
    writer.commit([stage(where, rows, replaces=units)])
    after = ImagesTable.open(where)
    match = {"query_id": "12ab34cd", "query": "new solar farm", "score": 0.512345}
    match |= {"image_id": rows[1]["image_id"], "member": "0002.jpg"}
    match |= {"captions": [{"one_sentence": SENTENCES["0002.jpg"]}]}
    geojson = json.dumps({"features": [{"properties": match}]}).encode()
    count = {"query_id": "12ab34cd", "text": "new solar farm", "num_matches": 1}
    report = MatchReport(7, after.version, NOW, (count,), "", f"{where.uri}/reports/m7.geojson")
    summary = {
        "runs": {"new": run_json(failures={"decode/empty": 1}, num_output_tokens=44_424)},
        "vectors": [],
        "num_withdrawn": 1,
        "gate": [
            {"name": "share of failed rows", "found": 0.2, "wanted": "at most 0.5"}
            | {"passed": True},
            {"name": "recall@10 of the vector index", "found": 0.91, "wanted": "0.95 at least"}
            | {"passed": False},
        ],
        "comparison": Comparison(
            1, 2, 40, 0.9, 0.875, 0.93, (Change("a harbour", 0.4, ("old.jpg",), ("new.jpg",)),)
        ).to_json(),
        "shadow": Comparison(
            1, 2, 7, None, None, 0.81, (Change("<b>a port", 0.3, ("x.jpg",), ()),), num_refused=3
        ).to_json(),
        "live_version": before.version,
        "was_promoted": False,
        "duration_s": 75.0,
    }
    prices = load_config(None, {"job.cost_per_engine_hour": 2.5})
    problem = "the new version was not promoted (live version: 1)"
    return RunFacts(
        where, prices, NOW, "failed", problem, summary, before.version, ((report, geojson),)
    )


def test_a_report_has_what_is_known_of_the_run(tmp_path: Path) -> None:
    facts = facts_of(tmp_path)
    address = write_report(facts)
    assert address == f"{tmp_path}/table/reports/2026-05-04T02-00-00.123Z.html"
    html, text = Path(address).read_text(), Path(address).with_suffix(".md").read_text()
    for said in (
        "| new | the table had no row for these images | 2 |",
        "| changed | the bytes of these images have changed | 1 |",
        "| described again | the model, the prompt or the sampling has changed | 1 |",
        "| withdrawn | the archive no longer has these images | 1 |",
        "before: An industrial area.",
        f"now: {SENTENCES['0003.jpg']}",
        "| decode/empty | file:///x/a.tar\\#bad.jpg: nothing in it | 1 | 1 |",
        "| FAILED | recall@10 of the vector index | 0.95 at least | 0.91 |",
        "93.0% of the first ten hits are the same in both versions",
        "an expected image for 90.0% of the queries",
        "finds one for 87.5% of the queries",
        "| a harbour | 40% | old.jpg | new.jpg |",
        "## Last queries of services, live and new version",
        "7 queries were run on the live version 1 and on the new version 2",
        "81.0% of the first ten hits are the same in both versions",
        "Both versions rejected 3 other queries",
        "| \\<b\\>a port | 30% | x.jpg |  |",
        "| describe new and changed | 4 | 41.5 s | 0 | 44,424 | 1,234 | 5.0% | 0.03 |",
        "new solar farm (0.51): Rows of solar panels",
        "[m7.geojson](m7.geojson)",
    ):
        assert said in text, said
    assert "&lt;b&gt;a port" in html
    # The page has three pictures of changes and one picture of a match. One file is missing.
    assert html.count("data:image/webp;base64,") == 4
    assert "the image cannot be shown: " in html
    assert len(html) < 200_000


def test_a_report_says_why_queries_were_not_compared() -> None:
    summary = {"not_compared": "version 1 cannot be asked", "no_shadow": "version 2 cannot"}
    facts = RunFacts(location(Path("/t")), load_config(None, {}), NOW, "done", "", summary, None)
    said = [section.texts for section in sections.comparisons(facts)]
    assert said == [["version 1 cannot be asked"], ["version 2 cannot"]]


def test_old_reports_are_removed_and_nothing_else(tmp_path: Path) -> None:
    where = location(tmp_path / "table")
    make_table(where, [good_row("a.jpg")])
    config = load_config(None, {"reindex.keep_reports": 2})
    folder = report_store(where, config)
    folder.put("matches-000001.geojson", b"{}")
    folder.put("mine.html", b"mine")
    for hour in range(4):
        at = NOW + dt.timedelta(hours=hour)
        write_report(RunFacts(where, config, at, "failed", "no space", {}, None))
    kept = [f"2026-05-04T0{hour}-00-00.123Z" for hour in (4, 5)]
    pages = [f"{name}.{kind}" for name in kept for kind in ("html", "md")]
    assert sorted(folder.list("")) == sorted([*pages, "matches-000001.geojson", "mine.html"])


def test_two_tables_that_share_a_folder_for_reports_keep_theirs_apart(tmp_path: Path) -> None:
    shared = {"reindex.report": str(tmp_path / "told"), "reindex.keep_reports": 1}
    config, addresses = load_config(None, shared), list[str]()
    for parent in ("one", "other"):
        where = location(tmp_path / parent / "table")
        report_store(where, config).put("matches-000001.geojson", parent.encode())
        facts = RunFacts(where, config, NOW, "failed", "no space", {}, None)
        addresses.append(write_report(facts))
    folders = [Path(address).parent for address in addresses]
    assert [(folder / "matches-000001.geojson").read_text() for folder in folders] == [
        "one",
        "other",
    ]
    assert all(Path(address).exists() for address in addresses)
    assert {folder.parent for folder in folders} == {tmp_path / "told"}
    assert all(re.fullmatch("table-[0-9a-f]{8}", folder.name) for folder in folders)
