"""Compare filters with an oracle in Python, on a table with nulls and mixed metadata."""

from __future__ import annotations

import contextlib
import datetime as dt
import itertools
import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from skytext.config.index import IndexConfig
from skytext.config.search import SearchConfig
from skytext.errors import CallError, ConfigError
from skytext.filters.columns import COLUMNS, find_column
from skytext.filters.conditions import (
    MAX_CONDITIONS,
    MAX_DEPTH,
    MAX_GEOMETRIES,
    And,
    Compare,
    Condition,
    IsNull,
    Like,
    Not,
    OneOf,
    Or,
)
from skytext.filters.cql2_json import filter_from_json
from skytext.filters.cql2_out import to_json
from skytext.filters.cql2_text import MAX_PARENTHESES, parse_filter
from skytext.filters.options import make_filter
from skytext.filters.spatial import Intersects, Spatial
from skytext.search import Searcher
from skytext.search.retrievers import matching as searched_matching
from skytext.search.retrievers import vectors
from skytext.table.images_dataset import ImagesTable
from skytext.table.index_facts import read_facts
from skytext.table.indexes.build_indexes import build_indexes
from skytext.table.queries.caption_queries import Found
from skytext.table.queries.shape_rows import bind, shape_rows
from tests.search.rankings import column, dense_question, rank
from tests.search.test_searcher import GivenEmbedder, brute_force
from tests.table.rows import (
    ALWAYS,
    DIM,
    failed_row,
    good_row,
    location,
    make_table,
    unit_vectors,
)

NUM_IMAGES = 300
CONFIG = ALWAYS
NASTY = [
    "S2",
    "it's",
    "' OR '1'='1",
    "a' ; drop table images; --",
    "back\\slash\\",
    'double "quotes"',
    "é😀\u2028",
    "",
    "a b",
    "a!",
    "a",
    "%",
    "null",
    "true",
    "5",
    "\n\t\x01\x7f",
]
NUMERALS = [5, 5.5, -3, 0, 1, 0.0, 1.0, 1e300, 2**60]
VALUES = [*NASTY, *NUMERALS, True, False, None, [1, "a"], {"deep": "S2"}]
KEYS = ["sensor", "eo:cloud", "two words", "it's", 'say "hi"', "a.b", "é"]
EDGES = [-180.0, -179.0, -10.0, 0.0, 10.0, 179.0, 180.0]
LATITUDES = [-90.0, -10.0, 0.0, 10.0, 90.0]


class Rows(list[dict[str, Any]]):
    """Rows with a short representation in test failures."""

    def __repr__(self) -> str:
        return f"{len(self)} rows"


def make_rows() -> Rows:
    rng = np.random.default_rng(5)

    def some(values: list[Any]) -> Any:
        return values[rng.integers(len(values))]

    def longitude() -> float:
        return float(some([*EDGES, *rng.uniform(-180, 180, 4)]))

    rows = []
    for i in range(NUM_IMAGES):
        south, north = sorted(float(x) for x in (some(LATITUDES), rng.uniform(-90, 90)))
        box = {"west": longitude(), "south": south, "east": longitude(), "north": north}
        metadata = {key: some(VALUES) for key in KEYS if rng.random() < 0.7}
        metadata["p"] = some([5, {"q": some(VALUES)}, [1], None])
        when = dt.datetime(2024, 1, 1, tzinfo=dt.UTC) + dt.timedelta(hours=int(rng.integers(96)))
        fields = {
            "bbox": some([box, box, box, None]),
            "gsd": some([0.3, 0.5, 1.0, 10.0, float(rng.uniform(0.1, 20)), None]),
            "collection": some([*NASTY, None]),
            "datetime": some([when, when, None]),
            "metadata": some([json.dumps(metadata)] * 4 + [None]),
            "width_px": some([100, 256, None]),
        }
        if i % 10 == 3:
            rows.append(failed_row(f"{i:03d}.jpg", **fields))
        else:
            vectors = unit_vectors(rng, (1 + i % 3, DIM))
            rows.append(good_row(f"{i:03d}.jpg", vectors=vectors, **fields))
    return Rows(rows)


@pytest.fixture(scope="module")
def rows() -> Rows:
    return make_rows()


@pytest.fixture(scope="module")
def plain_table(rows: Rows, tmp_path_factory: pytest.TempPathFactory) -> ImagesTable:
    return make_table(location(tmp_path_factory.mktemp("filters") / "table"), rows)


@pytest.fixture(scope="module", params=["plain", "indexed"])
def table(
    request: pytest.FixtureRequest,
    rows: Rows,
    tmp_path_factory: pytest.TempPathFactory,
) -> ImagesTable:
    """Make a table without indexes, or a table with all indexes and some rows outside them."""
    where = location(tmp_path_factory.mktemp("filters") / "table")
    if request.param == "plain":
        return make_table(where, rows)
    build_indexes(make_table(where, rows[:250]), CONFIG)
    return make_table(where, rows[250:])


# The following functions are the oracle. They use the logic of SQL with true, false and None.


def value_of(row: dict[str, Any], field: str) -> Any:
    if field.startswith("bbox."):
        return None if row["bbox"] is None else row["bbox"][field[5:]]
    if not field.startswith("metadata."):
        return row.get(field)
    value = json.loads(row["metadata"] or "null")
    for key in PATHS[field]:
        value = value.get(key) if isinstance(value, dict) else None
    return value


PATHS = {
    **{
        f"metadata.{key}": [key]
        for key in ("sensor", "eo:cloud", "é", "missing", "two words", "it's")
    },
    'metadata."say ""hi"""': ['say "hi"'],
    'metadata."a.b"': ["a.b"],
    "metadata.a.b": ["a", "b"],
    "metadata.p.q": ["p", "q"],
    "metadata.p.q.deep": ["p", "q", "deep"],
}


def kind(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    return "number" if isinstance(value, (int, float)) else type(value).__name__


def as_json_text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)[1:-1]


def compare(op: str, left: Any, right: Any) -> bool | None:
    if isinstance(right, bool) and left in (0, 1):
        left = bool(left)  # many writers use 1 and 0 for true and false
    if left is None or kind(left) != kind(right):
        return None
    if op == "=":
        return bool(left == right)
    if op == "!=":
        return bool(left != right)
    if op in ("<", "<="):
        return bool(left < right or (op == "<=" and left == right))
    return bool(left > right or (op == ">=" and left == right))


def arcs(west: float, east: float) -> list[tuple[float, float]]:
    """Return the longitudes as intervals from -180 to 180. Both ends are the same meridian."""
    found = [(west, east)] if west <= east else [(west, 180.0), (-180.0, east)]
    if any(east == 180 for _, east in found):
        found.append((-180.0, -180.0))
    if any(west == -180 for west, _ in found):
        found.append((180.0, 180.0))
    return found


def meets(row: dict[str, Any], box: tuple[float, float, float, float]) -> bool | None:
    mine = row["bbox"]
    if mine is None:
        return None
    west, south, east, north = box
    across = any(
        a[0] <= b[1] and b[0] <= a[1]
        for a in arcs(mine["west"], mine["east"])
        for b in arcs(west, east)
    )
    return across and mine["south"] <= north and mine["north"] >= south


def compare_time(op: str, left: dt.datetime | None, text: str) -> bool | None:
    if left is None:
        return None
    if len(text) == 10:  # a date means the whole day
        return compare(op, left.date().isoformat(), text)
    return compare(op, left, dt.datetime.fromisoformat(text))


def lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


def unchanged(value: Any) -> Any:
    return value


def is_like(text: str, pattern: str) -> bool:
    words = re.findall(r"\\?.", pattern, re.DOTALL)
    parts = [{"%": ".*", "_": "."}.get(word, re.escape(word[-1])) for word in words]
    return re.fullmatch("".join(parts), text, re.DOTALL) is not None


def meets_shape(row: dict[str, Any], condition: Spatial) -> bool | None:
    """Compare a box with a geometry on a plane that shows the globe five times."""
    box = row["bbox"]
    if box is None:
        return None
    width = box["east"] - box["west"] + (360 if box["west"] > box["east"] else 0)
    whole = shapely.geometry.shape(json.loads(condition.geometry))
    turns = range(-720, 721, 360)
    globes = shapely.union_all([translate(whole, turn) for turn in turns])
    image = flat_box(box["west"], box["south"], box["west"] + width, box["north"])
    return image.intersects(globes) if condition.op == "s_intersects" else image.within(globes)


def flat_box(west: float, south: float, east: float, north: float) -> Any:
    if west == east and south == north:
        return shapely.Point(west, south)
    if west == east or south == north:
        return shapely.LineString([(west, south), (east, north)])
    return shapely.box(west, south, east, north)


def holds(condition: Condition, row: dict[str, Any]) -> bool | None:
    match condition:
        case Compare(op=op, field=field, value=value, ignore_case=ignore_case):
            left = value_of(row, field)
            if ignore_case and isinstance(left, str) and field.startswith("metadata."):
                return compare(op, as_json_text(left.lower()), as_json_text(str(value).lower()))
            if ignore_case:
                return compare(op, lower(left), lower(value))
            if field == "datetime":
                return compare_time(op, left, str(value))
            if field.startswith("metadata.") and isinstance(value, str):
                if not isinstance(left, str):
                    return None
                # Texts are compared in the form that they have in JSON.
                return compare(op, as_json_text(left), as_json_text(value))
            return compare(op, left, value)
        case OneOf(field=field, values=values, ignore_case=ignore_case):
            case = lower if ignore_case else unchanged
            found = [compare("=", case(value_of(row, field)), case(value)) for value in values]
            return None if None in found else any(found)
        case Like(field=field, pattern=pattern, ignore_case=ignore_case):
            case = lower if ignore_case else unchanged
            text = case(value_of(row, field))
            return is_like(text, case(pattern)) if isinstance(text, str) else None
        case IsNull(field=field):
            return (row["bbox"] if field == "bbox" else value_of(row, field)) is None
        case Intersects(bbox=box):
            return meets(row, box)
        case Spatial():
            return meets_shape(row, condition)
        case And(conditions=parts):
            found = [holds(part, row) for part in parts]
            return False if False in found else None if None in found else True
        case Or(conditions=parts):
            found = [holds(part, row) for part in parts]
            return True if True in found else None if None in found else False
        case Not(condition=part):
            inner = holds(part, row)
            return None if inner is None else not inner
    raise TypeError(condition)


def matching(condition: Condition, rows: Rows) -> set[str]:
    return {row["member"] for row in rows if holds(condition, row) is True}


def found_by(table: ImagesTable, condition: Condition) -> set[str]:
    bound = bind(condition, partial(shape_rows, table))
    found = table.dataset.to_table(columns=["member"], filter=bound.sql())
    return set(found.column("member").to_pylist())


def translate(geometry: Any, by: float) -> Any:
    return shapely.transform(geometry, lambda positions: positions + np.array([by, 0.0]))


def is_narrow(line: list[list[int]]) -> bool:
    """Return whether no edge is longer than half a turn of the globe."""
    return max(x for x, _ in line) - min(x for x, _ in line) <= 180


def is_accepted(geometry: dict[str, Any]) -> bool:
    """Return whether the polygons do not overlap, also if they are shifted by 360 degrees."""
    globes = [
        shapely.union_all([translate(shapely.Polygon(polygon[0]), by) for by in (-360, 0, 360)])
        for polygon in geometry["coordinates"]
    ]
    return all(not a.intersects(b) for a, b in itertools.combinations(globes, 2))


OPS = st.sampled_from(["=", "!=", "<", "<=", ">", ">="])
NUMBERS = st.sampled_from([0, 0.3, 0.5, 1, 5, 5.5, 10, -3, 2**60, 1e300, 1e-9]) | st.floats(
    -1e9, 1e9
)
TEXTS = st.sampled_from(NASTY) | st.text(st.characters(codec="utf-8"), max_size=6)
TIMES = st.sampled_from(
    ["2024-01-01", "2024-01-02", "2024-01-03T12:00:00", "2024-01-02T01:00:00+02:00", "2025-01-01"]
).map(lambda text: f"{text}+00:00" if len(text) == 19 else text)
METADATA = st.sampled_from(sorted(PATHS))
LONGITUDES = st.sampled_from(EDGES) | st.floats(-180, 180)
BOXES = st.builds(
    lambda west, east, latitudes: Intersects(bbox=(west, min(latitudes), east, max(latitudes))),
    LONGITUDES,
    LONGITUDES,
    st.tuples(st.sampled_from(LATITUDES) | st.floats(-90, 90), st.sampled_from(LATITUDES)),
)
TEXT_FIELDS = METADATA | st.just("collection")
# For these letters, Python and Lance agree on the lower case.
LIMITED_TEXTS = st.sampled_from(NASTY) | st.text("aAbBéÉ %_'\\\"\n", max_size=4)
PATTERNS = st.lists(
    st.sampled_from(["%", "_", "\\%", "\\_", "\\\\", *"aS2'\"\n é😀", "it", "b"]), max_size=5
).map("".join)
POINTS = st.tuples(st.integers(-200, 200), st.integers(-90, 90))
TRIANGLES = (
    st.lists(POINTS, min_size=3, max_size=3, unique=True)
    .map(lambda corners: [[list(corner) for corner in [*corners, corners[0]]]])
    .filter(lambda rings: shapely.Polygon(rings[0]).area > 1 and is_narrow(rings[0]))
)
GEOMETRIES = st.one_of(
    st.builds(lambda rings: {"type": "Polygon", "coordinates": rings}, TRIANGLES),
    st.builds(
        lambda several: {"type": "MultiPolygon", "coordinates": several},
        st.lists(TRIANGLES, min_size=1, max_size=3),
    ).filter(is_accepted),
    st.builds(
        lambda a, b: {"type": "LineString", "coordinates": [list(a), list(b)]}, POINTS, POINTS
    ).filter(
        lambda line: (
            is_narrow(line["coordinates"]) and line["coordinates"][0] != line["coordinates"][1]
        )
    ),
)
SPATIALS = st.builds(
    Spatial, op=st.sampled_from(["s_intersects", "s_within"]), geometry=GEOMETRIES.map(json.dumps)
)
SIMPLE = st.one_of(
    st.builds(
        Compare,
        op=OPS,
        field=st.sampled_from(["gsd", "bbox.west", "bbox.north", "width_px"]),
        value=NUMBERS,
    ),
    st.builds(Compare, op=OPS, field=st.just("collection"), value=TEXTS),
    st.builds(Compare, op=OPS, field=st.just("datetime"), value=TIMES),
    st.builds(Compare, op=OPS, field=METADATA, value=NUMBERS | TEXTS),
    st.builds(Compare, op=st.sampled_from(["=", "!="]), field=METADATA, value=st.booleans()),
    st.builds(OneOf, field=st.just("collection"), values=st.lists(TEXTS, min_size=1, max_size=3)),
    st.builds(OneOf, field=st.just("gsd"), values=st.lists(NUMBERS, min_size=1, max_size=3)),
    st.builds(
        OneOf,
        field=METADATA,
        values=st.one_of(
            *(st.lists(s, min_size=1, max_size=3) for s in (NUMBERS, TEXTS, st.booleans()))
        ),
    ),
    st.builds(Compare, op=OPS, field=TEXT_FIELDS, value=LIMITED_TEXTS, ignore_case=st.just(True)),
    st.builds(
        OneOf,
        field=TEXT_FIELDS,
        values=st.lists(LIMITED_TEXTS, min_size=1, max_size=3),
        ignore_case=st.just(True),
    ),
    st.builds(Like, field=TEXT_FIELDS, pattern=PATTERNS, ignore_case=st.booleans()),
    st.builds(
        IsNull,
        field=METADATA | st.sampled_from(["gsd", "datetime", "collection", "bbox", "width_px"]),
    ),
    BOXES,
    SPATIALS,
)
CONDITIONS = st.recursive(
    SIMPLE,
    lambda inner: st.one_of(
        st.builds(Not, condition=inner),
        st.builds(And, conditions=st.lists(inner, min_size=1, max_size=3)),
        st.builds(Or, conditions=st.lists(inner, min_size=1, max_size=3)),
    ),
    max_leaves=5,
)
PROPERTY = settings(
    max_examples=50,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@PROPERTY
@given(condition=CONDITIONS)
@example(Intersects(bbox=(170.0, -90.0, 180.0, 90.0)))
@example(Not(condition=Intersects(bbox=(-180.0, -90.0, -170.0, 90.0))))
@example(Not(condition=Compare(op="=", field="gsd", value=0.5)))
@example(Not(condition=OneOf(field="collection", values=("a", "it's"))))
@example(
    # The line touches a box from 180 to 179 degrees at the east end of the box.
    Spatial(
        op="s_intersects",
        geometry='{"type": "LineString", "coordinates": [[-1, 0], [-181, 10]]}',
    )
)
@example(Like(field="metadata.sensor", pattern="%\n%"))
@example(Not(condition=Like(field="metadata.sensor", pattern="%\\\\")))
# Lance alone evaluates this filter to true, also for nulls.
@example(parse_filter("gsd not in (0.5) or gsd not in (0.3)"))
def test_a_filter_keeps_what_the_oracle_keeps(
    table: ImagesTable, rows: Rows, condition: Condition
) -> None:
    assert found_by(table, condition) == matching(condition, rows)


@PROPERTY
@given(
    condition=CONDITIONS,
    number=st.integers(0, 7),
    k=st.sampled_from([1, 5, 1000]),
    exact=st.booleans(),
)
def test_the_best_of_what_matches_are_found_and_never_fewer(
    table: ImagesTable, rows: Rows, condition: Condition, number: int, k: int, exact: bool
) -> None:
    vector = GivenEmbedder.queries[number]
    kept = [row for row in rows if holds(condition, row) is True]
    expected = [best[0] for best in brute_force(kept, vector, k)]
    ranking = rank(table, dense_question(vector, where=condition, exact=exact), k)
    assert column(table, ranking, "image_id") == expected
    assert ranking.exact


@pytest.mark.parametrize("few", [1, 10])
@pytest.mark.parametrize(
    "text",
    [
        "gsd > 0",
        "collection in ('a', '%')",
        "metadata.sensor = 'S2'",
        "S_INTERSECTS(geometry, POLYGON((-80 -80, 80 -80, 0 80, -80 -80)))",
        "NOT S_INTERSECTS(geometry, POLYGON((170 -80, 240 -80, 210 80, 170 -80)))",
        "S_WITHIN(geometry, BBOX(-180, -90, 180, 90))",
    ],
)
def test_an_index_search_returns_as_many_hits_as_match(
    table: ImagesTable,
    rows: Rows,
    few: int,
    text: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If only one partition is searched, the index finds too few hits for a selective filter."""
    monkeypatch.setattr(searched_matching, "_SCORED_WITHOUT_INDEX", few)
    condition = parse_filter(text)
    num_matches = len([row for row in rows if row["vectors"] and holds(condition, row)])
    matching_ids = matching(condition, rows)
    for number in range(8):
        for k in (1, 5, 20, 1000):
            question = dense_question(GivenEmbedder.queries[number], where=condition)
            ranking = rank(table, question, k, nprobes=1, refine_factor=2)
            assert len(ranking.ids) == min(k, num_matches)
            assert set(column(table, ranking)) <= matching_ids


def test_an_answer_with_too_few_hits_is_discarded(
    table: ImagesTable, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    real = vectors.nearest

    def short(*arguments: Any, **more: Any) -> Found:
        found = real(*arguments, **more)
        asked.append(len(found.ids))
        return Found(found.ids[:8], found.scores[:8])

    monkeypatch.setattr(searched_matching, "_SCORED_WITHOUT_INDEX", 1)
    monkeypatch.setattr(vectors, "nearest", short)
    condition = parse_filter("gsd > 0")
    vector = GivenEmbedder.queries[0]
    ranking = rank(table, dense_question(vector, where=condition), 9)
    assert len(asked) == (1 if read_facts(table.dataset) else 0)
    assert ranking.exact
    kept = [row for row in rows if holds(condition, row)]
    assert column(table, ranking, "image_id") == [best[0] for best in brute_force(kept, vector, 9)]


# The following tests use filters in the forms that users write.


def quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def named(field: str) -> str:
    """Write the name of a column. If the name is not a plain word, use double quotes."""
    if re.fullmatch(r"[^\W\d_][\w:.]*", field):
        return field
    return '"' + field.replace('"', '""') + '"'


def written(condition: Condition) -> str:
    """Write a condition as CQL2 text."""
    match condition:
        case Compare(op=op, field=field, value=value, ignore_case=ignore_case):
            return f"{cased(named(field), ignore_case)} {op} {written_value(value, ignore_case)}"
        case OneOf(field=field, values=values, ignore_case=ignore_case):
            listed = ", ".join(written_value(value, ignore_case) for value in values)
            return f"{cased(named(field), ignore_case)} IN ({listed})"
        case Like(field=field, pattern=pattern, ignore_case=ignore_case):
            left = cased(named(field), ignore_case)
            return f"{left} LIKE {written_value(pattern, ignore_case)}"
        case IsNull(field=field):
            return f"{named(field)} is null"
        case Intersects(bbox=box):
            return f"S_INTERSECTS(geometry, BBOX({', '.join(map(decimal, box))}))"
        case Spatial(op=op, geometry=geometry):
            shape = shapely.geometry.shape(json.loads(geometry))
            return f"{op}(bbox, {shapely.to_wkt(shape, rounding_precision=-1)})"
        case And(conditions=parts):
            return "(" + " and ".join(map(written, parts)) + ")"
        case Or(conditions=parts):
            return "(" + " or ".join(map(written, parts)) + ")"
        case Not(condition=part):
            return f"not ({written(part)})"
    raise TypeError(condition)


def cased(fields: str, ignore_case: bool) -> str:
    return f"casei({fields})" if ignore_case else fields


def decimal(number: float) -> str:
    return f"{number:.400f}".rstrip("0") + "0"


def written_value(value: Any, ignore_case: bool = False) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return cased(quoted(value), ignore_case) if isinstance(value, str) else repr(value)


def is_readable(condition: Condition) -> bool:
    """Return whether the text of a condition has no more nested parentheses than allowed."""
    depths = [0]
    for sign in re.sub(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|[^()]""", "", written(condition)):
        depths.append(depths[-1] + (1 if sign == "(" else -1))
    return max(depths) <= MAX_PARENTHESES


@settings(PROPERTY, max_examples=100)
@given(condition=CONDITIONS.filter(is_readable))
def test_cql2_text_says_every_condition(
    plain_table: ImagesTable, rows: Rows, condition: Condition
) -> None:
    assert found_by(plain_table, parse_filter(written(condition))) == matching(condition, rows)


@settings(PROPERTY, max_examples=100)
@given(condition=CONDITIONS)
def test_cql2_json_says_every_condition(
    plain_table: ImagesTable, rows: Rows, condition: Condition
) -> None:
    fields = json.loads(json.dumps(to_json(condition)))
    assert found_by(plain_table, filter_from_json(fields)) == matching(condition, rows)


@settings(PROPERTY, max_examples=200)
@given(text=st.text(st.sampled_from(" gsd<1'=()\"andornotmetadata.in,;-\\\né")) | st.text())
def test_any_other_text_is_refused_or_means_something(text: str) -> None:
    with contextlib.suppress(ConfigError):
        assert parse_filter(text).key()


@pytest.mark.parametrize("text", [*NASTY, "x' OR '1'='1' --", "1=1;drop", "\\' or 1=1 --", "\x00"])
@pytest.mark.parametrize("field", ["collection", "metadata.sensor"])
def test_no_text_is_more_than_a_text(table: ImagesTable, rows: Rows, text: str, field: str) -> None:
    before = table.dataset.count_rows()
    condition = parse_filter(f"{field} = {quoted(text)}")
    expected = {row["member"] for row in rows if value_of(row, field) == text}
    assert found_by(table, condition) == expected
    name = 'metadata."' + text.replace('"', '""') + '"'
    assert found_by(table, parse_filter(f"{named(name)} = 7")) == set()
    assert ImagesTable.open(table.location).dataset.count_rows() == before


def test_every_character_is_found_again(tmp_path_factory: pytest.TempPathFactory) -> None:
    characters = [chr(code) for code in [*range(1, 256), 0x2028, 0x2029, 0xFFFD, 0xFFFF, 0x1F600]]
    where = location(tmp_path_factory.mktemp("characters") / "table")
    vectors = unit_vectors(np.random.default_rng(0), (1, DIM))
    table = make_table(
        where,
        [
            good_row(f"{i}", vectors=vectors, metadata=json.dumps({"v": c, "w": {c: 1}}))
            for i, c in enumerate(characters)
        ],
    )
    for i, character in enumerate(characters):
        for condition in (
            Compare(op="=", field="metadata.v", value=character),
            OneOf(field="metadata.v", values=(character, "other")),
        ):
            assert found_by(table, condition) == {str(i)}, repr(character)
    some = characters[::16]
    for character in [*some, '"', "'", "\\", "*", "$", "0"]:
        name = 'metadata.w."' + character.replace('"', '""') + '"'
        expected = {str(characters.index(character))}
        assert found_by(table, parse_filter(f"{named(name)} = 1")) == expected, repr(character)


@pytest.mark.parametrize("name", sorted(COLUMNS))
def test_every_column_can_be_filtered_on(table: ImagesTable, name: str) -> None:
    value: Any = {"number": 2**40, "text": "x", "time": "2024-01-01"}[str(COLUMNS[name].kind)]
    conditions: list[Condition] = [
        *(Compare(op=op, field=name, value=value) for op in ("=", "!=", "<", "<=", ">", ">=")),
        IsNull(field=name),
    ]
    for condition in conditions:
        found_by(table, condition)


def test_the_largest_filter_is_answered(table: ImagesTable) -> None:
    many = Or(
        conditions=tuple(
            Compare(op="=", field="metadata.sensor", value=i) for i in range(MAX_CONDITIONS - 1)
        )
    )
    assert len(found_by(table, filter_from_json(to_json(many)))) > 0
    deep = "(" * MAX_PARENTHESES + "gsd < 1" + ")" * MAX_PARENTHESES
    assert parse_filter(deep) == Compare(op="<", field="gsd", value=1.0)
    nested = Compare(op="<", field="gsd", value=1)
    inner: Condition = nested
    for level in range(MAX_DEPTH - 1):
        group = And if level % 2 else Or
        inner = group(conditions=(inner, Intersects(bbox=(-180, -1, 180, 1))))
    found_by(table, filter_from_json(to_json(inner)))
    find_column("metadata" + ".a" * 16)
    with pytest.raises(ConfigError, match="has 17 levels of metadata: at most 16"):
        find_column("metadata" + ".a" * 17)
    with pytest.raises(ConfigError, match="too deep: at most 16 levels"):
        filter_from_json(to_json(Not(condition=inner)))
    with pytest.raises(ConfigError, match="too deep: at most 16 levels"):
        parse_filter("not " * 20 + "gsd < 1")
    with pytest.raises(ConfigError, match="too many conditions: at most 100"):
        parse_filter("not " * 1000 + "gsd < 1")
    with pytest.raises(ConfigError, match="too many conditions: at most 100"):
        parse_filter(" or ".join(["gsd < 1"] * 101))
    triangle = "S_INTERSECTS(geometry, POLYGON((0 0, 1 1, 1 0, 0 0)))"
    assert parse_filter(" or ".join([triangle] * MAX_GEOMETRIES))
    with pytest.raises(ConfigError, match="too many geometries: at most 8"):
        parse_filter(" or ".join([triangle] * (MAX_GEOMETRIES + 1)))
    with pytest.raises(ConfigError, match="too long"):
        parse_filter("gsd < 1" + " " * 10_000)
    values = tuple(f"c{i}" for i in range(1000))
    assert found_by(table, OneOf(field="collection", values=values)) == set()
    assert found_by(table, OneOf(field="metadata.sensor", values=tuple(range(1000)))) != set()


@pytest.mark.parametrize("year", ["0001", "1600", "1677", "2263", "9998"])
def test_every_year_can_be_named(table: ImagesTable, rows: Rows, year: str) -> None:
    later = {row["member"] for row in rows if row["datetime"] is not None and year < "2024"}
    for moment in (f"{year}-01-01", f"{year}-06-05T04:03:02.000001+01:00"):
        assert found_by(table, parse_filter(f"datetime >= '{moment}'")) == later


@pytest.mark.parametrize("day", ["0001-01-01", "2024-01-02", "9999-12-31"])
def test_a_date_means_the_whole_day(tmp_path: Path, day: str) -> None:
    first = dt.datetime.fromisoformat(f"{day}T00:00:00+00:00")
    moments = {"first": first, "last": first.replace(hour=23, minute=59, second=59)}
    moments["very last"] = moments["last"].replace(microsecond=999_999)
    tick = dt.timedelta(microseconds=1)
    if day > "0001-01-01":
        moments["before"] = first - tick
    if day < "9999-12-31":
        moments["after"] = moments["very last"] + tick
    rows = [good_row(name, datetime=at) for name, at in moments.items()]
    table = make_table(location(tmp_path / "table"), rows)
    build_indexes(table, IndexConfig())
    indexed = ImagesTable.open(table.location)
    inside, outside = {"first", "last", "very last"}, set(moments) & {"before", "after"}
    for op, expected in {
        "=": inside,
        "!=": outside,
        "<": outside - {"after"},
        "<=": inside | outside - {"after"},
        ">": outside - {"before"},
        ">=": inside | outside - {"before"},
    }.items():
        for one in (table, indexed):
            assert found_by(one, parse_filter(f"datetime {op} '{day}'")) == expected, op


def test_all_options_hold_at_once(table: ImagesTable, rows: Rows) -> None:
    assert make_filter() is None
    assert make_filter(gsd_max=1) == Compare(op="<=", field="gsd", value=1)
    condition = make_filter(
        where="gsd < 10 or metadata.sensor is not null",
        bbox=[100, -90, 80, 90],
        after="2024-01-01",
        before="2024-01-04T12:00:00Z",
        collections=["it's", "a", "S2", "%", "a b"],
        gsd_min=0.3,
        gsd_max=15,
    )
    assert condition is not None
    last = dt.datetime(2024, 1, 4, 12, tzinfo=dt.UTC)
    expected = {
        row["member"]
        for row in rows
        if row["bbox"] is not None
        and meets(row, (100, -90, 80, 90))
        and row["datetime"] is not None
        and row["datetime"] < last
        and row["collection"] in ("it's", "a", "S2", "%", "a b")
        and row["gsd"] is not None
        and 0.3 <= row["gsd"] <= 15
        and (row["gsd"] < 10 or value_of(row, "metadata.sensor") is not None)
    }
    assert expected
    assert found_by(table, condition) == expected


def test_a_searcher_filters_and_refuses_what_no_image_has(table: ImagesTable, rows: Rows) -> None:
    searcher = Searcher(table, GivenEmbedder(), search=SearchConfig(mode="dense"))
    condition = parse_filter("metadata.sensor = 'S2' and gsd < 20")
    result = searcher.search("0", 1000, where=condition)
    kept = [row for row in rows if holds(condition, row)]
    expected = [best[0] for best in brute_force(kept, GivenEmbedder.queries[0], 1000)]
    assert [hit.image_id for hit in result.hits] == expected
    assert result.exact
    assert searcher.search("0", where=parse_filter("gsd > 1000")).hits == ()
    for text, message in {
        "metadata.snesor = 1": r"snesor as a number \(the metadata fields are: a\.b, eo:cloud",
        "gsd < 1 or metadata.nowhere = 'x'": r"has the field metadata\.nowhere as text",
        "metadata.p.q.deep = 1": r"has the field metadata\.p\.q\.deep as a number",
        "height_px > 1": r"has the field height_px$",
        "height_px is not null": r"has the field height_px$",
        "metadata.missing is not null": r"has the field metadata\.missing \(",
        "not (not metadata.missing is not null)": r"has the field metadata\.missing \(",
        "height_px is null and height_px > 1": r"has the field height_px$",
        "height_px is null or metadata.missing = 'x'": r"has the field metadata\.missing as text",
        "not (height_px is null or height_px > 1)": r"has the field height_px$",
    }.items():
        with pytest.raises(CallError, match=message):
            searcher.search("0", where=parse_filter(text))


@pytest.mark.parametrize(
    "text",
    [
        "height_px is null",
        "metadata.missing is null",
        "not height_px is not null",
        "height_px < 1 or height_px is null",
        "not (height_px >= 1 and height_px is not null)",
        "height_px is null and not (metadata.missing = 1 and not metadata.missing is null)",
    ],
)
def test_a_filter_for_missing_values_needs_no_image_with_the_field(
    table: ImagesTable, rows: Rows, text: str
) -> None:
    searcher = Searcher(table, GivenEmbedder(), search=SearchConfig(mode="dense"))
    result = searcher.search("0", 1000, where=parse_filter(text))
    assert len(result.hits) == len([row for row in rows if row["status"] == "ok"])


def test_an_image_without_a_bbox_is_found_where_none_has_one(tmp_path: Path) -> None:
    table = make_table(location(tmp_path / "table"), [good_row("a.jpg")])
    searcher = Searcher(table, GivenEmbedder(), search=SearchConfig(mode="dense"))
    for text in (
        "bbox is null",
        "gsd is null",
        "geometry is null or S_INTERSECTS(bbox, BBOX(0, 0, 1, 1))",
    ):
        assert len(searcher.search("0", where=parse_filter(text)).hits) == 1
    with pytest.raises(CallError, match="has the field bbox"):
        searcher.search("0", where=parse_filter("bbox is not null"))
