from __future__ import annotations

import datetime as dt
import os
from pathlib import Path

import lancedb
import pytest

from skytext.config.index import IndexConfig
from skytext.errors import AddressError, TableError
from skytext.table.commits.claim import hold
from skytext.table.images_dataset import ImagesTable
from skytext.table.indexes.build_indexes import build_indexes
from skytext.table.location import TableLocation
from skytext.table.runs_dataset import RunRecord, record_run
from tests.table.rows import committer, good_rows, stage


def test_a_file_or_an_unknown_scheme_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(TableError, match="is a file"):
        TableLocation.parse(str(tmp_path / "file"))
    with pytest.raises(AddressError, match="ftp:// is not supported"):
        TableLocation.parse("ftp://x/y")


@pytest.mark.parametrize(
    ("address", "uri"),
    [
        ("t", "{cwd}/t"),
        ("t/", "{cwd}/t"),
        ("{cwd}/x/../t//", "{cwd}/t"),
        ("~/t", "/home/me/t"),
        ("file://{cwd}/t/", "{cwd}/t"),
        ("file:{cwd}/my%20table", "{cwd}/my table"),
        ("FILE://localhost{cwd}/t%231", "{cwd}/t#1"),
        ("w%20x", "{cwd}/w%20x"),
        ("s3://b", "s3://b"),
        ("s3://b/", "s3://b"),
        ("s3://b/t/", "s3://b/t"),
        ("S3://b/a/T", "s3://b/a/T"),
        ("GS://b/a b%", "gs://b/a b%"),
    ],
)
def test_one_table_has_one_uri(
    address: str, uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    found = TableLocation.parse(address.format(cwd=tmp_path))
    assert found.uri == uri.format(cwd=tmp_path)
    assert found.is_local == uri.startswith(("/", "{cwd}"))
    assert TableLocation.parse(found.uri) == found


@pytest.mark.parametrize("scheme", ["s3", "gs"])
@pytest.mark.parametrize(
    ("rest", "named"),
    [
        ("b/t#1", "'#'"),
        ("b/t?v=1", r"'\?'"),
        ("b/w%20x", "'%20'"),
        ("b/a%2Fb", "'%2F'"),
        ("b/100%%41", "'%41'"),
        ("b/a//b", "'//'"),
        ("b//t", "'//'"),
        ("b/t//", "'//'"),
        ("b//", "'//'"),
        ("b/./t", r"the part '\.'"),
        ("b/a/../t", r"the part '\.\.'"),
        ("b/..", r"the part '\.\.'"),
        ("b/a\tb", r"'\\t'"),
        ("b/a\nb", r"'\\n'"),
        ("b/a\x01b", r"'\\x01'"),
        ("b/a\x7fb", r"'\\x7f'"),
        ("b/t ", "' ' in"),
        ("b/t /", "' ' in"),
        ("b#x/t", "the bucket 'b#x'"),
        ("b?x/t", r"the bucket 'b\?x'"),
        ("me@b/t", "the bucket 'me@b'"),
        ("b:80/t", "the bucket 'b:80'"),
    ],
)
def test_an_address_that_lance_would_change_is_rejected(scheme: str, rest: str, named: str) -> None:
    with pytest.raises(
        TableError, match=f"Lance cannot address .*{named}.*: choose a name"
    ) as refused:
        TableLocation.parse(f"{scheme}://{rest}")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "named"), [("a\tb", r"'\\t'"), ("a\nb", r"'\\n'"), ("a\x7fb", r"'\\x7f'")]
)
def test_a_local_name_that_lance_rejects_is_rejected(name: str, named: str, tmp_path: Path) -> None:
    with pytest.raises(TableError, match=named) as refused:
        TableLocation.parse(str(tmp_path / name))
    assert "\n" not in str(refused.value)
    with pytest.raises(TableError, match="not UTF-8"):
        TableLocation.parse(os.fsdecode(bytes(tmp_path) + b"/sch\xf6n"))


@pytest.mark.parametrize("name", ["a#1", "a?v=1", "w%20x", " a ", "ü 🛰", "a:b", "[*]\\|"])
def test_every_file_of_a_local_table_is_in_its_folder(name: str, tmp_path: Path) -> None:
    where = TableLocation.parse(str(tmp_path / name))
    with hold(where, "one", "caption"):
        committer(where).commit([stage(where, good_rows(0, 10))])
        committer(where).commit([stage(where, good_rows(10, 2))])
    build_indexes(ImagesTable.open(where), IndexConfig())
    record_run(where, RunRecord("run", "caption", "done", dt.datetime(2026, 1, 1, tzinfo=dt.UTC)))
    assert ImagesTable.open_served(where).num_rows() == 12
    assert lancedb.connect(where.uri).open_table("images").count_rows() == 12
    # When Lance 14 sets a tag, it may leave empty folders with a percent-encoded name beside the
    # table. So compare only files.
    files = [path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.parts[0] for path in files} == {name}
    found = {path.name for path in (tmp_path / name).iterdir()}
    assert found == {"images.lance", "runs.lance", "state"}
