"""Test a store that cannot hold a table. `doctor` reports the store, and no run makes a table."""

from __future__ import annotations

import json
import uuid
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.archive.formats.tars import write_shard
from tests.broken_stores import ignores_conditions
from tests.cli.conftest import Skytext
from tests.faulty_proxy import Answer, Request, Send, faulty_proxy

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from skytext.run import open_run

REFUSED = "cannot hold a table. Rule: a conditional put does not overwrite an object that exists"


class Unfit:
    """A store that ignores the condition of a put. It records the requested paths."""

    def __init__(self) -> None:
        self.paths: list[str] = []

    def __call__(self, request: Request, send: Send) -> Answer:
        """Answer a request."""
        self.paths.append(request.path)
        return ignores_conditions(request, send)


@pytest.fixture
def unfit(s3: Any, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Unfit]:
    s3.create_bucket(Bucket="unfit")
    store = Unfit()
    with faulty_proxy(s3_endpoint, breach=store) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        yield store


@pytest.fixture
def table(unfit: Unfit) -> str:
    return f"s3://unfit/{uuid.uuid4().hex}"


@pytest.fixture
def descriptions(tmp_path: Path) -> Path:
    variant = {"one_sentence": "a river", "feature": "a river", "caption": "a river"}
    path = tmp_path / "described.jsonl"
    path.write_text(json.dumps({"image": "a.jpg", "variants": [variant], "model": "m"}) + "\n")
    return path


def keys(s3: Any, table: str) -> list[str]:
    prefix = table.removeprefix("s3://unfit/")
    found = s3.list_objects_v2(Bucket="unfit", Prefix=prefix).get("Contents", [])
    return [entry["Key"] for entry in found]


def test_doctor_reports_an_unfit_store(skytext: Skytext, s3: Any, table: str) -> None:
    called = skytext("doctor", "--table", table)
    assert called.status == 1
    lines = called.out.splitlines()
    failed = lines.index("FAIL  table's store: not usable")
    assert lines[failed + 1].startswith(f"      → {table} {REFUSED}")
    assert keys(s3, table) == []


def test_doctor_accepts_a_fit_store(skytext: Skytext, s3: Any, tmp_path: Path) -> None:
    s3.create_bucket(Bucket="fit")
    assert (
        "table's store: can hold a table; the clock of the store differs by 0 s from the"
        in skytext("doctor", "--table", "s3://fit/t").out
    )
    local = skytext("doctor", "--table", tmp_path / "new").out
    assert "ok    table's store: can hold a table\n" in local
    assert list(tmp_path.iterdir()) == []


def test_captioning_is_rejected_in_an_unfit_store(
    skytext: Skytext, s3: Any, table: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def started(*_: object, **__: object) -> None:
        pytest.fail("the work was started")

    monkeypatch.setattr(open_run, "ray_cluster", started)
    monkeypatch.setattr(open_run, "hold", started)
    write_shard(tmp_path / "a.tar", [("a.jpg", b"x")])
    called = skytext(
        "caption", tmp_path / "a.tar", "--table", table, "--model", "fake",
        "--embedding-model", "fake",
    )  # fmt: skip
    assert (called.status, called.out) == (2, "")
    plan, refusal = called.err.splitlines()
    assert plan.startswith("1 shard")
    assert refusal.startswith(f"skytext: {table} {REFUSED}")
    assert keys(s3, table) == []


def test_an_import_is_rejected_in_an_unfit_store(
    skytext: Skytext, s3: Any, table: str, descriptions: Path
) -> None:
    called = skytext("import", descriptions, "--table", table, "--embedding-model", "fake")
    assert called.status == 2
    assert REFUSED in called.err
    assert keys(s3, table) == []


def test_an_existing_table_is_not_checked_again(
    skytext: Skytext,
    s3_endpoint: str,
    unfit: Unfit,
    table: str,
    descriptions: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = ("import", descriptions, "--table", table, "--embedding-model", "fake")
    with monkeypatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", s3_endpoint)
        assert skytext(*words).status == 0
    called = skytext(*words)
    assert called.status == 0, called.err
    assert unfit.paths
    assert not [path for path in unfit.paths if "preflight" in path]
