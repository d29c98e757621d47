"""Test ``skytext caption`` with text output and with JSON output. The runs use the Ray of the test
session (`local_ray`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from skytext.cli import run
from skytext.table.images_dataset import ImagesTable
from skytext.table.location import TableLocation
from tests.archive.formats.tars import link, make_tar
from tests.archives import bad_images, images, upload, write_archive
from tests.faulty_proxy import Answer, FaultyProxy, Request, Send
from tests.run.test_cluster import statuses

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("local_ray")]

DESIGNED = {
    "num_listed",
    "num_ok",
    "num_failed",
    "num_captioned",
    "table_version",
    "duration_s",
    "images_per_s",
}
SLOW_DOWN = Answer(503, {}, b"<?xml version='1.0'?><Error><Code>SlowDown</Code></Error>")
FAKES = ["--model", "fake", "--embedding-model", "fake"]


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    bad = [(name, data) for name, (data, _) in bad_images().items()]
    return write_archive(tmp_path / "aerial", {"a.tar": images(0, 5), "b.tar": bad})


def test_a_run_prints_json_and_text(
    archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["caption", str(archive), "--table", str(tmp_path / "table"), *FAKES]
    assert run([*call, "--json"]) == 0
    out, err = capsys.readouterr()
    summary = json.loads(out)
    assert summary.keys() >= DESIGNED
    assert (summary["num_listed"], summary["num_ok"], summary["num_failed"]) == (8, 5, 3)
    assert summary["num_captioned"] == 5
    assert summary["table_version"] == 1
    assert summary["duration_s"] > 0
    assert summary["images_per_s"] > 0
    assert "2 shards" in err
    assert "model fake" in err

    assert run(call) == 0
    out, err = capsys.readouterr()
    assert "listed 8 = 5 ok + 3 failed (table version 1)" in out
    assert "0 images described" in out
    assert "8 already had a row" in out
    assert "Traceback" not in err

    assert run([*call, "--archive", "other", "--set", "job.unit_images=2"]) == 0
    out, _ = capsys.readouterr()
    assert "listed 8 = 5 ok + 3 failed (table version 2)" in out
    assert "failed: 1 × decode/not_an_image" in out
    assert f"next: skytext index {tmp_path / 'table'}" in out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--num-engines", "50"], "the plan needs 50.85 CPUs"),
        (["--embedding-model", "./missing"], "model './missing' is no"),
        (["--set", "job.nothing=1"], "unknown setting"),
    ],
)
def test_a_wrong_call_is_one_line_and_status_2(
    archive: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    call = ["caption", str(archive), "--table", str(tmp_path / "table"), *FAKES, *options]
    assert run([*call, "--json"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    last = err.strip().splitlines()[-1]
    assert last.startswith("skytext: ")
    assert message in last
    assert ImagesTable.find(TableLocation.parse(str(tmp_path / "table"))) is None


def test_sources_without_an_image_end_with_status_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_archive(
        tmp_path / "aerial", {"a.tar": [], "b.tar": [("a.md", ""), (".b.jpg", "")]}
    )
    call = ["--table", str(tmp_path / "table"), *FAKES]
    assert run(["caption", str(root / "a.tar"), *call]) == 1
    out, err = capsys.readouterr()
    assert "listed 0 = 0 ok + 0 failed (no table)" in out
    assert "no image was found in 1 shard" in err
    assert "None" not in out + err
    assert run(["caption", str(root), *call, "--json"]) == 1
    out, err = capsys.readouterr()
    summary = json.loads(out)
    assert (summary["num_listed"], summary["num_ok"], summary["num_failed"]) == (0, 0, 0)
    assert summary["table_version"] is None
    assert summary["ignored"] == {"hidden": 1, ".md": 1}
    assert "no image was found in 2 shards (ignored: 1 hidden file" in err
    assert "None" not in err


def test_a_tar_of_links_gives_failed_rows_and_the_summary_counts_the_rest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tar = make_tar([link("a.jpg", "/elsewhere/a.jpg"), link("latest", "a.jpg"), ("b.md", "")])
    root = write_archive(tmp_path / "aerial", {"a.tar": tar})
    assert run(["caption", str(root), "--table", str(tmp_path / "table"), *FAKES]) == 0
    out, _ = capsys.readouterr()
    assert "listed 1 = 0 ok + 1 failed (table version 1)" in out
    assert "failed: 1 × read/link_without_target" in out
    assert "ignored: 1 link, 1 other file (md 1)" in out


def test_a_missing_source_is_a_wrong_call(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["caption", str(tmp_path / "no"), "--table", str(tmp_path / "t"), *FAKES]) == 2
    assert "does not exist" in capsys.readouterr().err


def test_an_undelivered_shard_is_reported_and_read_later(
    s3: Any,
    proxy: FaultyProxy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Test a store that does not return the bytes after the first megabyte of one shard."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
    with_sidecars = [
        entry
        for name, data in images(40, 20)
        for entry in ((name, data), (name.replace(".jpg", ".json"), {"gsd": 1}))
    ]
    padded = [*with_sidecars, ("pad.bin", bytes(3 << 20)), *images(60, 20)]
    root = write_archive(tmp_path / "aerial", {"0.tar": images(0, 40), "1.tar": padded})
    archive, table = upload(s3, root, "gaps", "aerial"), "s3://gaps/t"
    call = ["caption", archive, "--table", table, *FAKES, "--json"]
    call += ["--set", "sources.retry_s=1", "--set", "job.unit_images=8"]

    def refuses_the_rest(request: Request, send: Send) -> Answer:
        is_rest = not (request.header("Range") or "bytes=0-").startswith("bytes=0-")
        return SLOW_DOWN if "1.tar" in request.path and is_rest else send(request)

    monkeypatch.setattr(proxy, "breach", refuses_the_rest)
    assert run(call) == 1
    out, err = capsys.readouterr()
    summary = json.loads(out)
    assert (summary["num_unread"], list(summary["unread"])) == (1, ["1.tar"])
    assert (summary["num_ok"], summary["num_failed"]) == (40, 0)
    assert "1 shard was not read to the end" in err
    assert "returned SlowDown" in err
    # The last image before the fault has no row, because it may have another sidecar after the
    # fault.
    assert statuses(table) == {"ok": 59}
    monkeypatch.setattr(proxy, "breach", None)
    assert run(call) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["num_unread"], summary["num_ok"], summary["num_captioned"]) == (0, 80, 21)
    assert statuses(table) == {"ok": 80}
