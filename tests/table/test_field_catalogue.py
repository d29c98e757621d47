"""The catalogue of fields is correct and limited in size. An outdated catalogue is recognised."""

from __future__ import annotations

import datetime as dt
import json
from collections import Counter
from pathlib import Path
from typing import Any

import lance
import pytest

from skytext.filters.columns import COLUMNS, Need
from skytext.filters.conditions import Compare, Condition, IsNull, Not
from skytext.table.field_catalogue import Coverage, FieldCatalogue, read_catalogue, store_catalogue
from skytext.table.images_dataset import ImagesTable
from skytext.table.indexes import build_catalogue
from skytext.table.indexes.build_catalogue import make_catalogue, refresh_catalogue
from skytext.table.indexes.build_indexes import build_indexes
from skytext.table.indexes.refresh_indexes import refresh_indexes
from skytext.table.queries.known_fields import KnownFields
from tests.filters.test_conditions import KEYS, PATHS, make_rows
from tests.table.rows import ALWAYS, committer, failed_row, good_row, location, make_table, stage

DAY = dt.datetime(2024, 5, 1, tzinfo=dt.UTC)


def row(number: int, metadata: Any = None, **more: Any) -> dict[str, Any]:
    texts_of_rows = None if metadata is None else json.dumps(metadata)
    return good_row(f"{number:03d}.jpg", metadata=texts_of_rows, **more)


def add(table: ImagesTable, *rows: dict[str, Any]) -> ImagesTable:
    committer(table.location).commit([stage(table.location, list(rows))])
    return ImagesTable.open(table.location)


def catalogued(table: ImagesTable) -> ImagesTable:
    refresh_catalogue(table)
    return ImagesTable.open(table.location)


def catalogue_of(table: ImagesTable) -> FieldCatalogue:
    found = read_catalogue(table.dataset)
    assert found is not None
    return found


def asked() -> list[Need]:
    """Return the fields of filters on every column, and on metadata of each type."""
    values: dict[str, Any] = {"number": 1.0, "text": "x", "time": "2024-01-01"}
    conditions: list[Condition] = [
        Compare(op="=", field=name, value=values[str(column.kind)])
        for name, column in COLUMNS.items()
    ]
    names = [*PATHS, 'metadata."sensor"', 'metadata."p"."q"', "metadata.p", "metadata.no where"]
    for name in names:
        conditions += [Compare(op="=", field=name, value=value) for value in (1.0, "x", True)]
        conditions.append(Not(condition=IsNull(field=name)))
    conditions.append(Not(condition=IsNull(field="bbox")))
    return [need for condition in conditions for need in condition.needs()]


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> ImagesTable:
    """Make the table of the filter tests, without a catalogue."""
    return make_table(location(tmp_path_factory.mktemp("mixed") / "table"), make_rows())


def test_the_catalogue_equals_a_scan(mixed: ImagesTable) -> None:
    scanned = KnownFields(mixed)
    catalogue = make_catalogue(mixed)
    needs = asked()
    assert len({scanned.has(need) for need in needs}) == 2
    for need in needs:
        assert catalogue.has(need) in (scanned.has(need), None), need
    assert [need.name for need in needs if catalogue.has(need) is None] == []


def test_the_counts_are_those_of_the_rows(mixed: ImagesTable) -> None:
    catalogue = make_catalogue(mixed)
    rows = [row for row in make_rows() if row["status"] == "ok"]
    assert catalogue.num_images == len(rows)
    for key in KEYS:
        name = f"metadata.{key}" if not set(key) & set('."') else None
        if name is None:
            continue
        values = [json.loads(row["metadata"] or "{}").get(key) for row in rows]
        (texts,) = (f for f in catalogue.of_name(name) if f.kind == "text")
        (numbers,) = (f for f in catalogue.of_name(name) if f.kind == "number")
        (flags,) = (f for f in catalogue.of_name(name) if f.kind == "boolean")
        texts_of_rows = Counter(value for value in values if isinstance(value, str))
        assert texts.num_images == texts_of_rows.total()
        assert texts.num_values == len(texts_of_rows)
        assert {v.value: v.num_images for v in texts.top_values}.items() <= texts_of_rows.items()
        assert texts.top_values[0].num_images == max(texts_of_rows.values())
        real = [v for v in values if isinstance(v, (int, float)) and not isinstance(v, bool)]
        assert (numbers.minimum, numbers.maximum) == (min(real), max(real))
        assert numbers.num_images == len(real)
        assert {v.value: v.num_images for v in flags.top_values} == Counter(
            value for value in values if isinstance(value, bool)
        )
    (gsd,) = catalogue.of_name("gsd")
    assert gsd.num_images == len([row for row in rows if row["gsd"] is not None])
    (west,) = catalogue.of_name("bbox.west")
    assert west.num_values is None
    assert west.minimum == min(row["bbox"]["west"] for row in rows if row["bbox"])
    (when,) = catalogue.of_name("datetime")
    times = [row["datetime"] for row in rows if row["datetime"]]
    assert (when.minimum, when.maximum) == (min(times).isoformat(), max(times).isoformat())


def test_an_index_makes_the_catalogue_and_no_filter_scans_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = make_table(location(tmp_path / "table"), [row(i, {"sensor": "S2"}) for i in range(3)])
    build_indexes(table, ALWAYS.model_copy(update={"vector": "never"}))
    indexed = ImagesTable.open(table.location)
    assert catalogue_of(indexed).coverage(indexed.dataset) is Coverage.ALL
    fields = KnownFields(indexed)
    needs = asked()
    expected = [KnownFields(table).has(need) for need in needs]

    def scanner(*_: Any, **__: Any) -> None:
        raise AssertionError("the table was scanned")

    monkeypatch.setattr(lance.LanceDataset, "scanner", scanner)
    assert [fields.has(need) for need in needs] == expected
    assert set(expected) == {True, False}
    assert fields.filter_columns() == []


def test_newer_rows_are_scanned(tmp_path: Path) -> None:
    table = catalogued(make_table(location(tmp_path / "table"), [row(0, {"sensor": "S2"})]))
    newer = add(table, row(1, {"cloud": 5}, gsd=1.0))
    assert catalogue_of(newer).coverage(newer.dataset) is Coverage.SOME
    fields = KnownFields(newer)
    wanted = {"metadata.sensor": "x", "metadata.cloud": 1, "gsd": 1, "metadata.x": 1}
    for name, there in zip(wanted, (True, True, True, False), strict=True):
        (need,) = Compare(op="=", field=name, value=wanted[name]).needs()
        assert fields.has(need) is there
        (old,) = Compare(op="=", field=name, value=wanted[name]).needs()
        assert KnownFields(table).has(old) is (name == "metadata.sensor")
    again = catalogued(newer)
    assert catalogue_of(again).coverage(again.dataset) is Coverage.ALL
    assert catalogue_of(again).num_images == 2


def test_deleted_rows_are_not_reported(tmp_path: Path) -> None:
    rows = [row(0, {"sensor": "S2"}), row(1, {"cloud": 5})]
    table = catalogued(make_table(location(tmp_path / "table"), rows))
    (need,) = Compare(op="=", field="metadata.sensor", value="x").needs()
    assert KnownFields(table).has(need)
    table.dataset.delete("member = '000.jpg'")
    fewer = ImagesTable.open(table.location)
    assert catalogue_of(fewer).coverage(fewer.dataset) is Coverage.NONE
    assert not KnownFields(fewer).has(need)


def test_an_index_refresh_updates_the_catalogue(tmp_path: Path) -> None:
    config = ALWAYS.model_copy(update={"vector": "never"})
    table = make_table(location(tmp_path / "table"), [row(0, {"sensor": "S2"})])
    build_indexes(table, config)
    newer = add(ImagesTable.open(table.location), row(1, {"cloud": 5}))
    refresh_indexes(newer, config)
    refreshed = ImagesTable.open(table.location)
    assert [f.name for f in catalogue_of(refreshed).fields][-2:] == [
        "metadata.cloud",
        "metadata.sensor",
    ]
    version = refreshed.version
    refresh_catalogue(refreshed)
    assert ImagesTable.open(table.location).version == version


def test_a_truncated_catalogue_does_not_deny_omitted_fields(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build_catalogue, "MAX_METADATA_FIELDS", 2)
    rows = [row(i, {"a": 1, "b": "x", f"c{i}": i}) for i in range(3)]
    table = catalogued(make_table(location(tmp_path / "table"), rows))
    catalogue = catalogue_of(table)
    assert catalogue.is_cut
    assert [f.name for f in catalogue.fields if f.name.startswith("metadata.")] == [
        "metadata.a",
        "metadata.b",
    ]
    for name, there in {"metadata.a": True, "metadata.c1": True, "metadata.d": False}.items():
        (need,) = Compare(op="=", field=name, value=1).needs()
        assert catalogue.has(need) is (True if name == "metadata.a" else None)
        assert KnownFields(table).has(need) is there
    (need,) = Compare(op="=", field="gsd", value=1).needs()
    assert catalogue.has(need) is False


def test_values_are_counted_up_to_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_catalogue, "MAX_VALUES", 3)
    texts_of_rows = ["a", "b", "a", "c", "d", "d", "d", "a", "x" * 81]
    rows = [row(i, {"v": text}, collection=text) for i, text in enumerate(texts_of_rows)]
    table = make_table(location(tmp_path / "table"), rows)
    for name in ("collection", "metadata.v"):
        (field,) = make_catalogue(table).of_name(name)
        assert field.num_images == 9
        assert (field.num_values, field.is_cut) == (3, True)
        counts = {one.value: one.num_images for one in field.top_values}
        assert counts.pop("a") == 3
        assert all(texts_of_rows.count(str(value)) == number for value, number in counts.items())


def test_numbers_used_as_flags_are_found(tmp_path: Path) -> None:
    many = [row(i, {"flag": i, "big": i + 2, "one": 1, "text": "x"}) for i in range(12)]
    catalogue = make_catalogue(make_table(location(tmp_path / "table"), many))
    known = {
        name: [catalogue.has(need) for need in Compare(op="=", field=name, value=True).needs()]
        for name in ("metadata.flag", "metadata.big", "metadata.one", "metadata.text")
    }
    assert known["metadata.big"] == known["metadata.text"] == [False]
    assert known["metadata.one"] == [True]
    assert known["metadata.flag"] in ([True], [None])


def test_unusual_numbers_and_failed_images_are_handled(tmp_path: Path) -> None:
    rows = [
        row(0, {"n": 10**300, "deep": {"er": {"x": [1]}}}, gsd=float("nan"), datetime=DAY),
        failed_row("001.jpg", metadata='{"secret": 1}', collection="naip"),
    ]
    table = make_table(location(tmp_path / "table"), rows)
    catalogue = make_catalogue(table)
    store_catalogue(table.dataset, catalogue)
    assert read_catalogue(ImagesTable.open(table.location).dataset) == catalogue
    names = {field.name: field for field in catalogue.fields}
    assert not {"metadata.secret", "collection"} & set(names)
    assert names["gsd"].num_images == 1
    assert names["gsd"].minimum is None
    assert names["metadata.n"].maximum == 1e300
    assert names["metadata.deep.er.x"].kind == "other"
    assert names["datetime"].minimum == "2024-05-01T00:00:00+00:00"
    assert catalogue.has(Need("metadata.deep.er", None, "")) is True


def test_a_catalogue_of_another_release_is_ignored(tmp_path: Path) -> None:
    table = make_table(location(tmp_path / "table"), [row(0, {"sensor": "S2"})])
    table.dataset.update_config({"skytext.field_catalogue": "????"})
    opened = ImagesTable.open(table.location)
    assert read_catalogue(opened.dataset) is None
    (need,) = Compare(op="=", field="metadata.sensor", value="x").needs()
    assert KnownFields(opened).has(need)
    assert catalogue_of(catalogued(opened)).num_images == 1
