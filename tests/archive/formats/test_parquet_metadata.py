"""The metadata of a Parquet row are read from columns of every type that writers use."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import shapely

from skytext.archive import Metadata, unusable_values
from skytext.archive.formats.parquet_columns import find_columns
from skytext.archive.formats.parquet_metadata import metadata_rows, row_metadata

NOON = dt.datetime(2020, 6, 1, 12, tzinfo=dt.UTC)


def read(geo: Any = None, **columns: pa.Array) -> tuple[Metadata, dict[str, Any]]:
    """Return the metadata of the first row, and the values that have no typed field."""
    batch = pa.RecordBatch.from_pydict({"image": pa.array([b"x"]), **columns})
    batch = batch.replace_schema_metadata(None if geo is None else {"geo": json.dumps(geo)})
    (metadata,) = metadata_rows(batch, find_columns(batch.schema, None))
    found = row_metadata(metadata, 1 << 20)
    return found, json.loads(found.metadata or "{}")


@pytest.mark.parametrize(
    ("column", "number"),
    [
        (pa.array([Decimal("0.30")], pa.decimal128(10, 2)), 0.3),
        (pa.array([Decimal(10)], pa.decimal128(5, 0)), 10),
        (pa.array([Decimal("0.3")], pa.decimal256(40, 4)), 0.3),
        (pa.array([Decimal("0.3")]).dictionary_encode(), 0.3),
        (pa.array([0.3]).dictionary_encode(), 0.3),
        (pa.array([np.float16(0.3)], pa.float16()), 0.3),
        (pa.array([0.3], pa.float32()), 0.3),
        (pa.array([0.3], pa.float32()).dictionary_encode(), 0.3),
        (pa.array([3], pa.uint8()), 3),
        (pa.array([3], pa.uint64()), 3),
        (pa.array([3], pa.int8()), 3),
        (pa.array(["10"]), 10),
        (pa.array([" 1.5e1 "], pa.large_string()), 15),
        (pa.array(["0.3"]).dictionary_encode(), 0.3),
    ],
    ids=lambda value: str(getattr(value, "type", value)),
)
def test_a_number_of_any_type_is_that_number(column: pa.Array, number: float) -> None:
    metadata, rest = read(gsd=column)
    assert (metadata.gsd, rest) == (number, {})
    rest = read(cloud=column)[1]
    if not isinstance(column[0].as_py(), str):
        assert rest == {"cloud": number}


@pytest.mark.parametrize("value", ["10m", "10 m", "1_000", "0,5", "ten", "", "nan", "1e999", "0"])
def test_a_gsd_that_is_not_a_number_is_reported_as_invalid(value: str) -> None:
    metadata, rest = read(gsd=pa.array([value]))
    assert metadata.gsd is None
    assert rest == {"gsd": value, "_invalid": ["gsd"]}
    assert list(unusable_values(metadata.metadata)) == [("gsd", json.dumps(value))]


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (Decimal("12345678901234567890"), 12345678901234567890),
        (Decimal("-0.5"), -0.5),
        (Decimal("1.00"), 1),
    ],
)
def test_a_decimal_in_metadata_is_a_number_of_json(value: Decimal, number: float) -> None:
    assert read(cost=pa.array([value]))[1] == {"cost": number}
    nested = pa.array([{"costs": [value]}])
    assert read(job=nested)[1] == {"job": {"costs": [number]}}


def test_short_floats_inside_others_keep_the_digits_that_were_written() -> None:
    kind = pa.struct([("a", pa.float32()), ("b", pa.list_(pa.struct([("c", pa.float16())])))])
    column = pa.array([{"a": 0.1, "b": [{"c": np.float16(0.2)}]}], kind)
    assert read(view=column)[1] == {"view": {"a": 0.1, "b": [{"c": 0.2}]}}
    for box in (pa.list_(pa.float32()), pa.list_(pa.float32(), 4)):
        assert read(bbox=pa.array([[-122.4, 37.1, -122.3, 37.2]], box))[0].bbox == (
            *(-122.4, 37.1),
            *(-122.3, 37.2),
        )


def test_a_box_of_decimals_is_a_box() -> None:
    sides = {"xmin": Decimal("1.5"), "ymin": Decimal(2), "xmax": Decimal(3), "ymax": Decimal(4)}
    assert read(bbox=pa.array([sides]))[0].bbox == (1.5, 2, 3, 4)


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Berlin", "+02:00", "Nowhere/Unknown"])
def test_a_time_of_any_unit_and_zone_is_that_moment(unit: str, zone: str | None) -> None:
    ticks = int(NOON.timestamp()) * {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    column = pa.array([ticks], pa.timestamp(unit, zone))
    for times in (column, column.dictionary_encode()):
        metadata, rest = read(datetime=times, seen=times)
        assert (metadata.datetime, list(rest)) == (NOON, ["seen"])
        seen = dt.datetime.fromisoformat(rest["seen"])
        assert seen == (NOON if zone else NOON.replace(tzinfo=None))


@pytest.mark.parametrize("kind", [pa.date32(), pa.date64()])
def test_a_day_is_its_beginning(kind: pa.DataType) -> None:
    assert read(datetime=pa.array([dt.date(2020, 6, 1)], kind))[0].datetime == NOON.replace(hour=0)


@pytest.mark.parametrize("unit", ["s", "ms", "us"])
def test_a_time_out_of_range_is_null_and_reported_as_invalid(unit: str) -> None:
    metadata, rest = read(datetime=pa.array([2**62], pa.timestamp(unit, "UTC")))
    assert metadata.datetime is None
    assert rest["_invalid"] == ["datetime"]


def test_a_number_is_not_a_valid_time() -> None:
    metadata, rest = read(datetime=pa.array([1590000000]))
    assert (metadata.datetime, rest["_invalid"]) == (None, ["datetime"])


def test_flags_stay_what_they_are() -> None:
    columns = {"a": pa.array([True]), "b": pa.array([1], pa.uint8()), "c": pa.array([0.0])}
    assert read(**columns)[1] == {"a": True, "b": 1, "c": 0}
    assert read(gsd=pa.array([True]))[0].gsd is None


def test_a_dictionary_of_bytes_is_not_read() -> None:
    assert read(mask=pa.array([b"wkb"]).dictionary_encode())[1] == {}


def wkb(wkt: str, srid: int = 0, **more: Any) -> pa.Array:
    geometry = shapely.set_srid(shapely.from_wkt(wkt), srid)
    return pa.array([shapely.to_wkb(geometry, include_srid=srid > 0, **more)])


SQUARE = "POLYGON ((1 2, 3 2, 3 4, 1 4, 1 2))"
DEGREES = {"type": "GeographicCRS", "name": "WGS 84 (CRS84)"}
UTM = {"type": "ProjectedCRS", "name": "WGS 84 / UTM zone 33N"}


@pytest.mark.parametrize(
    ("geometry", "box"),
    [
        (wkb(SQUARE), (1, 2, 3, 4)),
        (wkb(SQUARE, byte_order=0), (1, 2, 3, 4)),
        (wkb(SQUARE, 4326), (1, 2, 3, 4)),
        (wkb(SQUARE).cast(pa.large_binary()), (1, 2, 3, 4)),
        (wkb(SQUARE).cast(pa.binary_view()), (1, 2, 3, 4)),
        (wkb("POINT Z (5 6 700)", output_dimension=3), (5, 6, 5, 6)),
        (wkb("POLYGON ((179 1, -179 1, -179 2, 179 2, 179 1))"), (179, 1, -179, 2)),
        (
            wkb(
                "MULTIPOLYGON (((179 1, 180 1, 180 2, 179 1)), ((-180 1, -179 1, -180 2, -180 1)))"
            ),
            (179, 1, -179, 2),
        ),
        (wkb("POLYGON EMPTY"), None),
        (pa.array([None], pa.binary()), None),
    ],
)
def test_a_geometry_of_geoparquet_gives_the_box(
    geometry: pa.Array, box: tuple[float, ...] | None
) -> None:
    for crs in ({}, {"crs": None}, {"crs": DEGREES}, {"crs": 'GEOGCRS["WGS 84"]'}):
        geo = {"primary_column": "place", "columns": {"place": {"encoding": "WKB", **crs}}}
        assert read(geo, place=geometry)[0] == Metadata(bbox=box)
    assert read(geometry=geometry)[0] == Metadata(bbox=box), "known by its name"
    assert read(place=geometry, gsd=pa.array([1]))[0].bbox is None, "any bytes"


def test_a_bbox_has_priority_over_a_geometry() -> None:
    assert read(geometry=wkb(SQUARE), bbox=pa.array([[5, 6, 7, 8]]))[0].bbox == (5, 6, 7, 8)
    assert read(geometry=wkb(SQUARE), wkb=wkb(SQUARE))[0].bbox is None, "one of two"


@pytest.mark.parametrize(
    ("geometry", "crs", "metadata"),
    [
        (wkb(SQUARE), UTM, "the geometry is in WGS 84 / UTM zone 33N, not in longitude"),
        (wkb(SQUARE), 'PROJCRS["ETRS89 / LAEA",BASE]', 'the geometry is in PROJCRS["ETRS89 / LAE'),
        (wkb(SQUARE, 32633), None, "the geometry has the SRID 32633, not 4326"),
        (wkb("POINT (500000 4100000)"), None, "the geometry cannot be used: "),
        (pa.array([b"no geometry"]), None, "the geometry cannot be used: "),
        (wkb(SQUARE), {"type": "EngineeringCRS"}, "the geometry is in "),
    ],
)
def test_an_unusable_geometry_is_reported(geometry: pa.Array, crs: Any, metadata: str) -> None:
    geo = {"primary_column": "place", "columns": {"place": {"crs": crs}}}
    found, rest = read(geo, place=geometry)
    assert (found.bbox, rest["_invalid"]) == (None, ["bbox"])
    ((field, text),) = unusable_values(found.metadata)
    assert (field, json.loads(text)[: len(metadata)]) == ("bbox", metadata)
