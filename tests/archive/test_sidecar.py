from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest

from skytext.archive import (
    Metadata,
    parse_bbox,
    parse_datetime,
    parse_sidecar,
    unusable_values,
)
from skytext.archive.sidecar import parse_item


def parse(item: Any, **more: Any) -> tuple[Metadata, dict[str, Any]]:
    parsed = parse_sidecar(item if isinstance(item, bytes) else json.dumps(item).encode(), **more)
    rest = json.loads(parsed.metadata, parse_constant=pytest.fail) if parsed.metadata else {}
    return parsed, rest


STAC = {
    "type": "Feature",
    "stac_version": "1.0.0",
    "id": "scene",
    "collection": "naip",
    "bbox": [10, 20, 11, 21],
    "geometry": None,
    "properties": {"datetime": "2020-06-01T14:00:00+02:00", "gsd": 0.6, "eo:cloud_cover": 3},
    "assets": {},
}


def test_a_stac_item_fills_the_typed_fields_and_keeps_the_rest() -> None:
    parsed, rest = parse(STAC)
    assert parsed.datetime == datetime(2020, 6, 1, 12, tzinfo=UTC)
    assert parsed.datetime.tzinfo is UTC
    assert parsed.bbox == (10.0, 20.0, 11.0, 21.0)
    assert (parsed.gsd, parsed.collection) == (0.6, "naip")
    assert rest == {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": "scene",
        "geometry": None,
        "properties": {"eo:cloud_cover": 3},
        "assets": {},
    }


def test_the_json_has_sorted_keys() -> None:
    assert parse_sidecar(b'{"b": 1, "a": {"d": 2, "c": 3}}').metadata == (
        '{"a": {"c": 3, "d": 2}, "b": 1}'
    )


def test_a_range_of_time_counts_from_its_start() -> None:
    properties = {"datetime": None, "start_datetime": "2020-01-01T00:00:00Z", "end_datetime": "x"}
    parsed, rest = parse({"type": "Feature", "properties": properties})
    assert parsed.datetime == datetime(2020, 1, 1, tzinfo=UTC)
    assert rest["properties"]["end_datetime"] == "x"


def test_top_level_keys_of_the_same_names_count_too() -> None:
    parsed, rest = parse({"datetime": "2021-01-02", "bbox": [170, -5, -170, 5], "gsd": 10, "x": 1})
    assert parsed.datetime == datetime(2021, 1, 2, tzinfo=UTC)
    assert parsed.bbox == (170, -5, -170, 5)
    assert (parsed.gsd, parsed.collection, rest) == (10.0, None, {"x": 1})


def test_an_empty_sidecar_gives_no_metadata() -> None:
    assert parse_sidecar() == Metadata()
    assert parse({"datetime": None, "bbox": None})[0].bbox is None
    assert parse_sidecar(b"{}") == Metadata()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("bbox", [0, 10, 1, 5]),
        ("bbox", [0, -91, 1, 5]),
        ("bbox", [0, 0, 1, 90.5]),
        ("bbox", [-541, 0, 1, 5]),
        ("bbox", [500000, 5, 500100, 6]),
        ("bbox", [0, 0, 1]),
        ("bbox", [0, 0, 1, "5 deg"]),
        ("bbox", [0, 0, 1, True]),
        ("bbox", "0,0,1,1"),
        ("bbox", {"west": 0}),
        ("bbox", [512, 300, 640, 480]),
        ("gsd", "10 m"),
        ("gsd", 0),
        ("gsd", -1),
        ("gsd", True),
        ("gsd", [10]),
        ("datetime", "yesterday"),
        ("datetime", "2020-13-01T00:00:00Z"),
        ("datetime", "0001-01-01T00:00:00+14:00"),
        ("datetime", 1590000000),
        ("datetime", ""),
        ("collection", 5),
        ("collection", ""),
    ],
)
def test_a_value_that_cannot_be_used_is_kept_and_named(name: str, value: object) -> None:
    parsed, rest = parse({name: value, "other": 1})
    assert getattr(parsed, name) is None
    assert rest == {name: value, "other": 1, "_invalid": [name]}
    inside = name in {"datetime", "gsd"}
    item = {"type": "Feature", "properties": {name: value} if inside else {}}
    parsed, rest = parse(item if inside else {**item, name: value})
    assert getattr(parsed, name) is None
    assert rest["_invalid"] == [name]


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_invalid_json_numbers_are_kept_as_text(number: str) -> None:
    parsed, rest = parse(
        f'{{"gsd": {number}, "bbox": [0, 0, {number}, 1], "x": {number}}}'.encode()
    )
    assert (parsed.gsd, parsed.bbox) == (None, None)
    assert rest["x"] == number
    assert rest["_invalid"] == ["bbox", "gsd"]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"not json",
        b"[1, 2]",
        b'"text"',
        b"null",
        b"\xff\xfe\x00",
        b"[" * 200_000,
        b'{"a":' * 50_000,
        b'{"n": ' + b"9" * 5000 + b"}",
    ],
    ids=["empty", "cut", "text", "list", "string", "null", "bytes", "deep", "deeper", "long"],
)
def test_an_invalid_sidecar_is_reported_and_its_image_is_read(data: bytes) -> None:
    parsed, rest = parse(data)
    assert (parsed.datetime, parsed.bbox, parsed.gsd, parsed.collection) == (None,) * 4
    assert list(rest) == ["_sidecar_error"]
    assert 0 < len(rest["_sidecar_error"]) <= 200


def test_other_encodings_of_json_are_read() -> None:
    for encoding in ("utf-8-sig", "utf-16", "utf-32"):
        assert parse('{"x": "ü"}'.encode(encoding))[1] == {"x": "ü"}


def test_text_is_kept_beside_everything_else_and_never_instead() -> None:
    assert parse({"x": 1}, txt_data=b"a ship")[1] == {"x": 1, "txt": "a ship"}
    assert parse({"txt": "own"}, txt_data=b"a ship")[1] == {"txt": "own", "_txt": "a ship"}
    parsed = parse_sidecar(txt_data=b"\xef\xbb\xbfna\xefve \x00")
    assert json.loads(parsed.metadata or "") == {"txt": "na\ufffdve \x00"}


def test_captions_in_a_sidecar_appear_in_its_json_alone() -> None:
    parsed, rest = parse({"caption": "a harbour", "captions": ["x"]}, txt_data=b"words")
    assert (parsed.datetime, parsed.bbox, parsed.gsd, parsed.collection) == (None,) * 4
    assert rest == {"caption": "a harbour", "captions": ["x"], "txt": "words"}


def test_every_text_fits_into_arrow() -> None:
    parsed = parse_sidecar(b'{"collection": "\\ud800", "k\\udfff": "\\ud83d\\ude00 \\ud800"}')
    assert json.loads(parsed.metadata or "") == {"k?": "😀 ?"}
    assert parsed.collection == "?"
    pa.array([parsed.metadata, parsed.collection], pa.string()).validate(full=True)


def test_a_box_with_heights_loses_them_but_keeps_them_in_the_json() -> None:
    parsed, rest = parse({"bbox": [1, 2, -50, 3, 4, 900]})
    assert parsed.bbox == (1, 2, 3, 4)
    assert rest == {"bbox": [1, 2, -50, 3, 4, 900]}


def test_the_whole_globe_is_a_box() -> None:
    assert parse_bbox((-180, -90, 180, 90)) == (-180.0, -90.0, 180.0, 90.0)
    with pytest.raises(ValueError, match="finite"):
        parse_bbox([0, 0, math.inf, 1])


def test_a_naive_time_is_utc_and_others_are_converted() -> None:
    assert parse_datetime("2020-01-01 10:00") == datetime(2020, 1, 1, 10, tzinfo=UTC)
    assert parse_datetime("2020-01-01T00:30:00.1234567-01:00") == datetime(
        2020, 1, 1, 1, 30, 0, 123456, tzinfo=UTC
    )


@pytest.mark.parametrize("letter", ["Z", "z"])
def test_a_time_may_be_written_in_small_letters(letter: str) -> None:
    assert parse_datetime(f"2020-01-01t10:00:00{letter}") == datetime(2020, 1, 1, 10, tzinfo=UTC)


def test_numbers_as_text_are_numbers() -> None:
    parsed, rest = parse({"gsd": "10", "bbox": ["1", "-2.5", " 3 ", "+4e0"]})
    assert (parsed.gsd, parsed.bbox, rest) == (10.0, (1.0, -2.5, 3.0, 4.0), {})


def test_a_box_beyond_180_is_brought_back() -> None:
    assert parse({"bbox": [-190, -20, -170, -10]})[0].bbox == (170, -20, -170, -10)
    assert parse({"bbox": [350, 1, -5, 370, 2, 9]})[0].bbox == (-10, 1, 10, 2)


def feature(geometry: Any, **more: Any) -> dict[str, Any]:
    return {"type": "Feature", "properties": {}, "geometry": geometry, **more}


ACROSS = {"type": "Polygon", "coordinates": [[[179, 1], [-179, 1], [-179, 2], [179, 2], [179, 1]]]}


def test_a_feature_without_a_box_has_that_of_its_geometry() -> None:
    for bbox in ({}, {"bbox": None}):
        parsed, rest = parse(feature(ACROSS, **bbox))
        assert parsed.bbox == (179, 1, -179, 2)
        assert rest["geometry"] == ACROSS
    assert parse(feature(ACROSS, bbox=[0, 1, 2, 3]))[0].bbox == (0, 1, 2, 3)
    assert parse(feature(None))[0].bbox is None
    assert parse({"geometry": ACROSS})[0].bbox is None, "no Feature"


@pytest.mark.parametrize("shape", ["POINT (1 2)", {"type": "Point"}, {"type": "x"}, [1, 2]])
def test_a_geometry_that_cannot_be_used_is_kept_and_named(shape: Any) -> None:
    parsed, rest = parse(feature(shape))
    assert parsed.bbox is None
    assert (rest["geometry"], rest["_invalid"]) == (shape, ["geometry"])


def unusable(parsed: Metadata) -> dict[str, str]:
    return dict(unusable_values(parsed.metadata))


def test_unusable_values_are_listed_from_the_metadata() -> None:
    assert unusable(parse(STAC)[0]) == {}
    assert unusable(parse_sidecar(b"{}")) == {}
    assert unusable(parse({"gsd": "10m", "bbox": [1], "collection": 5})[0]) == {
        "gsd": '"10m"',
        "bbox": "[1]",
        "collection": "5",
    }
    properties = {"datetime": None, "start_datetime": "soon", "gsd": -1}
    item = feature({"type": "Point"}, properties=properties)
    assert unusable(parse(item)[0]) == {
        "datetime": '"soon"',
        "gsd": "-1",
        "geometry": '{"type": "Point"}',
    }
    assert list(unusable(parse(b"{")[0])) == ["sidecar"]
    (text,) = unusable(parse({"datetime": "x" * 5000})[0]).values()
    assert len(text) == 201


def test_unusable_values_of_an_inner_item_are_listed_too() -> None:
    item = {"type": "Feature", "bbox": [1, 2, 3, 4], "properties": {"gsd": "10m"}}
    assert unusable(parse_item({"stac_item": item})) == {"gsd": '"10m"'}
    assert unusable(parse_item({"stac_item": item, "bbox": [5, 6, 7, 8]})) == {"gsd": '"10m"'}
    assert unusable(parse_item({"stac_item": item, "gsd": 3, "bbox": [5, 6, 7, 8]})) == {}


@pytest.mark.parametrize("own", [5, "gsd", ["speed", 5, None], {"gsd": 1}])
def test_a_source_may_use_the_same_key_for_other_data(own: Any) -> None:
    assert unusable(parse({"_invalid": own, "stac": {"_invalid": own}})[0]) == {}
