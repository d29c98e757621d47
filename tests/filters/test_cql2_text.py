"""Test CQL2 text. Some filters have the same meaning. Invalid and hostile texts are refused."""

from __future__ import annotations

import time

import pytest

from skytext.errors import ConfigError
from skytext.filters.cql2_text import MAX_PARENTHESES, parse_filter

WRONG = {
    "": "the filter is empty",
    "gsd <": r"column 6: expected a column, a value or '\(', found the end",
    "gsd < 1 and": "column 12: expected a column, .*, found the end",
    "gsd 1": "column 5: expected a comparison .*, found 1",
    "gsd == 1": "column 6: expected a column, a value .*, found =",
    "gsd < 1 gsd": "column 9: expected a comparison .*, AND, OR or the end, found gsd",
    "gsd < 1)": r"column 8: this '\)' has no matching '\('",
    "(gsd < 1": r"column 1: this '\(' is not closed",
    "gsd < nan": "wrong at '.*gsd.*nan.*': nan without single quotes is the name",
    "gsd < 1e999": "column 7: the numbers in a filter must be finite numbers",
    "1=1;drop": "column 4: expected .*, found ;",
    "gsd < 1; drop table images": "column 8: .*, found ;",
    "gsd < 1 -- or": r"column 9: arithmetic \(-\) is not supported",
    "collection = naip": "naip without single quotes is the name .* Write text in single quotes",
    'collection = "naip"': "naip without single quotes is the name .* Write text in single quotes",
    "collection = 'naip": "column 14: .* no closing quote",
    '"gsd < 1': "column 1: the name that begins here has no closing quote",
    "gsd < 1 and sensor = 'S2'": r"wrong at \"sensor = 'S2'\": there is no column 'sensor'.*NAME",
    "vectors = 1": "there is no column 'vectors'",
    "gsd = 'a'": "wrong at \"gsd = 'a'\": gsd is a number column: compare it with a number",
    "collection = 5": "collection is a text column: compare it with 'text'",
    "datetime > 2024": "datetime is a time",
    "datetime > 'today'": "'today' is not a time: write 2024-05-31",
    "datetime > '2024-13-01'": "'2024-13-01' is not a time: month",
    "datetime > '9999-12-32'": "'9999-12-32' is not a time",
    "datetime in ('2024-01-01')": "datetime cannot be compared with a list",
    "metadata.x in (1, 'a')": "the values for metadata.x must be of one kind",
    "metadata.x > true": "> cannot compare true and false",
    "metadata = 1": r"metadata cannot be compared as a whole: write metadata\.NAME",
    "bbox = 1": r"bbox is a location and cannot be compared: write S_INTERSECTS\(geometry",
    "S_INTERSECTS(gsd, BBOX(1, 2, 3, 4))": r"S_INTERSECTS needs a location .*S_INTERSECTS\(geo",
    "S_INTERSECTS(geometry, BBOX(0, 10, 5, -3))": "south must not be above north .*10, north -3",
    "S_INTERSECTS(geometry, BBOX(0, -91, 5, 3))": "latitudes must be between -90 and 90",
    "S_INTERSECTS(geometry, BBOX(0, 1, 181, 3))": "longitudes must be between .*170, -20, -170",
    "S_INTERSECTS(geometry, 5)": "a GeoJSON geometry must be an object",
    "S_TOUCHES(geometry, POINT(1 2))": "S_TOUCHES is not supported. The supported .*S_INTER",
    "S_WITHIN(geometry, POLYGON((0 0, 2 2, 2 0, 0 2, 0 0)))": "the polygon is not valid: Self-",
    "S_INTERSECTS(geometry, POLYGON((0 0, 1 1, 1 0)))": "its last position must equal its first",
    "S_INTERSECTS(geometry, GEOMETRYCOLLECTION(POINT(1 1)))": "must be one of Point, .*'Geom",
    "gsd + 1 < 2": r"column 5: arithmetic \(\+\) is not supported",
    "metadata.a-b = 1": r"column 11: arithmetic \(-\) .*double quotes: \"metadata\.a-b\"",
    "gsd = width_px": "width_px without single .* and two columns cannot be compared",
    "1 = 1": "two values cannot be compared",
    "foo(gsd) = 1": "FOO is not supported",
    "A_CONTAINS(metadata.x, (1, 2))": "A_CONTAINS is not supported",
    "T_MEETS(datetime, INTERVAL('2024-01-01', '..'))": "T_MEETS is not supported",
    "T_AFTER(gsd, DATE('2024-01-01'))": "T_AFTER needs a field that contains times",
    "T_DURING(datetime, DATE('2024-01-01'))": r"T_DURING needs an interval .* INTERVAL\('",
    "T_AFTER(datetime, TIMESTAMP('2024-01-01'))": r"timestamp must be written as in TIMESTAMP\('",
    "datetime > DATE('2024-01-01T00:00:00Z')": r"date must be written as in DATE\('2024-05-31'\)",
    "gsd > DATE('2024-01-01')": "gsd is not a time",
    "metadata.flag": "expected a condition, .*to test a flag, write metadata.flag = true",
    "true": "expected a condition, such as gsd < 1",
    "''": "expected a condition, such as gsd < 1",
    "'gsd < 1'": "at .*'gsd < 1'.*: expected a condition, such as gsd < 1",
    "gsd LIKE '1%'": "LIKE and CASEI can compare only text, but gsd",
    "collection LIKE 5": "LIKE takes a pattern in single quotes",
    r"collection LIKE 'a\b'": r"in a pattern, \\ must be followed by %, _ or \\",
    f"collection LIKE '{'a' * 201}'": "a pattern has at most 200 characters",
    "casei(collection) = 'a'": r"CASEI is needed on both sides",
    "accenti(collection) = 'a'": "ACCENTI is not supported",
    "1 between gsd and 3": "expected a column first, and the value after it",
    "collection in ('a', gsd)": "expected a value: write text in single quotes",
}


@pytest.mark.parametrize(
    ("text", "same"),
    {
        "1 < gsd": "gsd > 1",
        "'naip' = collection": "collection = 'naip'",
        "gsd BETWEEN 1 AND 2": "gsd >= 1 AND gsd <= 2",
        "gsd NOT BETWEEN 1 AND 2": "NOT (gsd >= 1 AND gsd <= 2)",
        "gsd != 1": "gsd <> 1",
        "T_AFTER(datetime, DATE('2024-01-01'))": "datetime > '2024-01-01'",
        "T_BEFORE(datetime, TIMESTAMP('2024-01-01T00:00:00Z'))": "datetime < "
        "'2024-01-01T00:00:00Z'",
        "T_DURING(datetime, INTERVAL('2024-01-01', '2024-01-31'))": "datetime >= '2024-01-01' AND "
        "datetime <= '2024-01-31'",
        "T_DURING(datetime, INTERVAL('2024-01-01T12:00:00Z', '..'))": "(datetime > "
        "'2024-01-01T12:00:00Z')",
        "T_DURING(created_at, INTERVAL('..', '..'))": "created_at IS NOT NULL",
        "S_INTERSECTS(geometry, POINT(4 51))": "S_INTERSECTS(bbox, BBOX(4, 51, 4, 51))",
        "S_INTERSECTS(geometry, POLYGON((4 51, 5 51, 5 52, 4 52, 4 51)))": "S_INTERSECTS(geometry, "
        "BBOX(4, 51, 5, 52))",
        "S_INTERSECTS(geometry, POLYGON((170 1, 190 1, 190 2, 170 2, 170 1)))": "S_INTERSECTS("
        "geometry, BBOX(170, 1, -170, 2))",
        "S_INTERSECTS(geometry, POLYGON((170 1, -170 1, -170 2, 170 2, 170 1)))": "S_INTERSECTS("
        "geometry, BBOX(170, 1, -170, 2))",
        "geometry IS NULL": "bbox IS NULL",
        '"metadata.cloud cover (%)" < 5': '"metadata.""cloud cover (%)""" < 5',
        "CASEI(collection) LIKE CASEI('NA%')": "casei(collection) like casei('NA%')",
    }.items(),
)
def test_two_names_of_a_parameter_mean_the_same(text: str, same: str) -> None:
    assert parse_filter(text).sql() == parse_filter(same).sql()


@pytest.mark.parametrize(
    "text",
    [
        "(" * 5_000 + "gsd < 1",
        "(" * 5_000 + ")" * 5_000,
        "not (" * 1_500,
        "gsd = " * 1_600 + "1",
        "gsd = " + "-" * 9_000 + "1",
        "gsd^" * 2_400 + "1 = 1",
        "gsd in " + "(" * 4_000,
        "f(" * 4_000,
        "gsd" + "<" * 9_000,
        "'" * 9_999,
        '"' * 9_999,
        "(" * 6 + "gsd = 1 and " * 800 + "gsd =" + ")" * 6,
        "(" * MAX_PARENTHESES + "gsd =" + ")" * MAX_PARENTHESES,
        "POLYGON(" + "(" * 14 + "gsd =" + ")" * 15,
        "S_INTERSECTS(geometry, " + "GEOMETRYCOLLECTION(" * 400 + "POINT(1 1)" + ")" * 401,
        "gsd BETWEEN (" * 12 + "gsd = " + ")" * 12,
        "gsd < 1 " * 1_200,
        "[" * 9_999,
    ],
    ids=lambda text: text[:20],
)
def test_a_hostile_text_is_refused_in_time(text: str) -> None:
    start = time.perf_counter()
    with pytest.raises(ConfigError) as raised:
        parse_filter(text)
    assert time.perf_counter() - start < 2
    assert len(str(raised.value)) < 500


@pytest.mark.parametrize("text", WRONG, ids=list(WRONG))
def test_a_mistake_is_reported_with_its_column(text: str) -> None:
    with pytest.raises(ConfigError, match=WRONG[text]) as raised:
        parse_filter(text)
    assert "\n" not in str(raised.value)
