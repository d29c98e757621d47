"""Filters against an oracle in Python: on a table with nulls, mixed metadata and boxes anywhere."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from skytext.config.index import IndexConfig
from skytext.config.search import SearchConfig
from skytext.errors import CallError, ConfigError
from skytext.filters.conditions import (
    COLUMNS,
    MAX_CONDITIONS,
    MAX_DEPTH,
    And,
    Compare,
    Condition,
    Intersects,
    IsNull,
    Not,
    OneOf,
    Or,
    condition_from_json,
    find_column,
)
from skytext.filters.language import parse_filter
from skytext.filters.options import make_filter
from skytext.search import Searcher
from skytext.search.retrievers import matching as searched_matching
from skytext.search.retrievers import vectors
from skytext.table.images_dataset import ImagesTable
from skytext.table.index_facts import read_facts
from skytext.table.indexes.build_indexes import build_indexes
from skytext.table.queries.caption_queries import Found
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
    """Rows that are not written out in full where a test fails."""

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
        said = {
            "bbox": some([box, box, box, None]),
            "gsd": some([0.3, 0.5, 1.0, 10.0, float(rng.uniform(0.1, 20)), None]),
            "collection": some([*NASTY, None]),
            "datetime": some([when, when, None]),
            "metadata": some([json.dumps(metadata)] * 4 + [None]),
            "width_px": some([100, 256, None]),
        }
        if i % 10 == 3:
            rows.append(failed_row(f"{i:03d}.jpg", **said))
        else:
            vectors = unit_vectors(rng, (1 + i % 3, DIM))
            rows.append(good_row(f"{i:03d}.jpg", vectors=vectors, **said))
    return Rows(rows)


@pytest.fixture(scope="module")
def rows() -> Rows:
    return make_rows()


@pytest.fixture(scope="module", params=["plain", "indexed"])
def table(
    request: pytest.FixtureRequest,
    rows: Rows,
    tmp_path_factory: pytest.TempPathFactory,
) -> ImagesTable:
    """Without any index, and with all of them and rows that they do not cover."""
    where = location(tmp_path_factory.mktemp("filters") / "table")
    if request.param == "plain":
        return make_table(where, rows)
    build_indexes(make_table(where, rows[:250]), CONFIG)
    return make_table(where, rows[250:])


# The oracle: SQL's logic of true, false and None.


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
    **{f"metadata.{key}": [key] for key in ("sensor", "eo:cloud", "é", "nowhere")},
    'metadata."two words"': ["two words"],
    'metadata."it\'s"': ["it's"],
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
        left = bool(left)  # how many writers say true and false
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
    """Intervals of -180 to 180; what touches one end touches the other."""
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
    if len(text) == 10:  # a date is its whole day
        return compare(op, left.date().isoformat(), text)
    return compare(op, left, dt.datetime.fromisoformat(text))


def holds(condition: Condition, row: dict[str, Any]) -> bool | None:
    match condition:
        case Compare(op=op, field=field, value=value):
            left = value_of(row, field)
            if field == "datetime":
                return compare_time(op, left, str(value))
            if field.startswith("metadata.") and isinstance(value, str):
                if not isinstance(left, str):
                    return None
                # Equal is equal; in between, a text is ordered by how JSON writes it.
                return compare(op, as_json_text(left), as_json_text(value))
            return compare(op, left, value)
        case OneOf(field=field, values=values):
            found = [compare("=", value_of(row, field), value) for value in values]
            return None if None in found else any(found)
        case IsNull(field=field):
            return (row["bbox"] if field == "bbox" else value_of(row, field)) is None
        case Intersects(bbox=box):
            return meets(row, box)
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
    found = table.dataset.to_table(columns=["member"], filter=condition.sql())
    return set(found.column("member").to_pylist())


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
    st.builds(
        IsNull,
        field=METADATA | st.sampled_from(["gsd", "datetime", "collection", "bbox", "width_px"]),
    ),
    BOXES,
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
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@PROPERTY
@given(condition=CONDITIONS)
@example(Intersects(bbox=(170.0, -90.0, 180.0, 90.0)))
@example(Not(condition=Intersects(bbox=(-180.0, -90.0, -170.0, 90.0))))
@example(Not(condition=Compare(op="=", field="gsd", value=0.5)))
@example(Not(condition=OneOf(field="collection", values=("a", "it's"))))
@example(parse_filter("gsd not in (0.5) or gsd not in (0.3)"))  # true for Lance, of nulls too
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
@pytest.mark.parametrize("text", ["gsd > 0", "collection in ('a', '%')", "metadata.sensor = 'S2'"])
def test_where_the_index_answers_the_hits_are_as_many_as_match(
    table: ImagesTable,
    rows: Rows,
    few: int,
    text: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With one partition looked at, the index alone is short of a selective filter."""
    monkeypatch.setattr(searched_matching, "_SCORED_WITHOUT_INDEX", few)
    condition = parse_filter(text)
    num_matches = len([row for row in rows if row["vectors"] and holds(condition, row)])
    for number in range(8):
        for k in (1, 5, 20, 1000):
            question = dense_question(GivenEmbedder.queries[number], where=condition)
            ranking = rank(table, question, k, nprobes=1, refine_factor=2)
            assert len(ranking.ids) == min(k, num_matches)
            assert set(column(table, ranking)) <= matching(condition, rows)


def test_a_short_answer_of_the_index_is_thrown_away(
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


# What people write.


def quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def written(condition: Condition) -> str:
    """Write a condition in the language."""
    match condition:
        case Compare(op=op, field=field, value=value):
            return f"{field} {op} {written_value(value)}"
        case OneOf(field=field, values=values):
            return f"{field} IN ({', '.join(map(written_value, values))})"
        case IsNull(field=field):
            return f"{field} is null"
        case Intersects(bbox=box):
            return f"bbox intersects ({', '.join(map(repr, box))})"
        case And(conditions=parts):
            return "(" + " and ".join(map(written, parts)) + ")"
        case Or(conditions=parts):
            return "(" + " or ".join(map(written, parts)) + ")"
        case Not(condition=part):
            return f"not ({written(part)})"
    raise TypeError(condition)


def written_value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return quoted(value) if isinstance(value, str) else repr(value)


@settings(PROPERTY, max_examples=300)
@given(condition=CONDITIONS)
def test_the_language_says_every_condition(condition: Condition) -> None:
    assert parse_filter(written(condition)).sql() == condition.sql()


@settings(PROPERTY, max_examples=300)
@given(condition=CONDITIONS)
def test_json_says_every_condition(condition: Condition) -> None:
    told = json.loads(json.dumps(condition.model_dump(mode="json")))
    assert condition_from_json(told).sql() == condition.sql()


@settings(PROPERTY, max_examples=500)
@given(text=st.text(st.sampled_from(" gsd<1'=()\"andornotmetadata.in,;-\\\né")) | st.text())
def test_any_other_text_is_refused_or_means_something(text: str) -> None:
    with contextlib.suppress(ConfigError):
        assert parse_filter(text).sql()


@pytest.mark.parametrize("text", [*NASTY, "x' OR '1'='1' --", "1=1;drop", "\\' or 1=1 --", "\x00"])
@pytest.mark.parametrize("field", ["collection", "metadata.sensor"])
def test_no_text_is_more_than_a_text(table: ImagesTable, rows: Rows, text: str, field: str) -> None:
    before = table.dataset.count_rows()
    condition = parse_filter(f"{field} = {quoted(text)}")
    expected = {row["member"] for row in rows if value_of(row, field) == text}
    assert found_by(table, condition) == expected
    name = 'metadata."' + text.replace('"', '""') + '"'
    assert found_by(table, parse_filter(f"{name} = 7")) == set()
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
        assert found_by(table, parse_filter(f"{name} = 1")) == expected, repr(character)


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
    assert len(found_by(table, condition_from_json(many.model_dump()))) > 0
    deep = "(" * 40 + "gsd < 1" + ")" * 40
    assert parse_filter(deep) == Compare(op="<", field="gsd", value=1.0)
    nested = Compare(op="<", field="gsd", value=1)
    inner: Condition = nested
    for level in range(MAX_DEPTH - 1):
        group = And if level % 2 else Or
        inner = group(conditions=(inner, Intersects(bbox=(-180, -1, 180, 1))))
    found_by(table, condition_from_json(inner.model_dump()))
    find_column("metadata" + ".a" * 16)
    with pytest.raises(ConfigError, match="goes 17 levels into metadata: at most 16"):
        find_column("metadata" + ".a" * 17)
    with pytest.raises(ConfigError, match="too deep: at most 16 levels"):
        condition_from_json(Not(condition=inner).model_dump())
    with pytest.raises(ConfigError, match="too deep"):
        parse_filter("not " * 1000 + "gsd < 1")
    with pytest.raises(ConfigError, match="too many conditions: at most 100"):
        parse_filter(" or ".join(["gsd < 1"] * 101))
    with pytest.raises(ConfigError, match="too long"):
        parse_filter("gsd < 1" + " " * 10_000)
    values = tuple(f"c{i}" for i in range(1000))
    assert found_by(table, OneOf(field="collection", values=values)) == set()
    assert found_by(table, OneOf(field="metadata.sensor", values=tuple(range(1000)))) != set()


WRONG = {
    "": "the filter is empty",
    "gsd <": "column 6: expected a value .*, found the end",
    "gsd < 1 and": "column 12: expected a column, found the end",
    "gsd 1": "column 5: expected a comparison .*, found 1",
    "gsd == 1": "column 6: expected a value .*, found =",
    "gsd < 1 gsd": "column 9: expected 'and', 'or' or the end, found gsd",
    "gsd < 1)": r"column 8: expected 'and', 'or' or the end, found \)",
    "(gsd < 1": r"column 9: expected '\)' or 'and', 'or', found the end",
    "gsd < nan": "column 7: expected a value .*, found nan",
    "gsd < 1e999": "column 7: a filter compares with finite numbers",
    "1=1;drop": "column 1: expected a column, found 1",
    "gsd < 1; drop table images": "column 8: .*, found ;",
    "gsd < 1 -- or": "column 9: .*, found --",
    "collection = naip": "column 14: expected a value .*, found naip",
    'collection = "naip"': "column 14: .* text stands in single quotes",
    "collection = 'naip": "column 14: .* no closing quote",
    "gsd < 1 and sensor = 'S2'": r"column 13: there is no column 'sensor' .*metadata\.NAME",
    "vectors = 1": "column 1: there is no column 'vectors'",
    "gsd = 'a'": "column 7: gsd is a number column: compare it with a number",
    "collection = 5": "column 14: collection is a text column: compare it with 'text'",
    "datetime > 2024": "column 12: datetime is a time",
    "datetime > 'today'": "column 12: 'today' is no time: write 2024-05-31",
    "datetime > '2024-13-01'": "column 12: '2024-13-01' is no time: month",
    "datetime > '9999-12-32'": "column 12: '9999-12-32' is no time",
    "datetime in ('2024-01-01')": "column 14: datetime is compared with",
    "metadata.x in (1, 'a')": "column 16: the values for metadata.x must be of one kind",
    "metadata.x > true": "column 14: > does not order true and false",
    "metadata = 1": r"column 1: metadata is filtered by field: metadata\.NAME",
    "bbox = 1": "column 1: bbox is filtered with: bbox intersects",
    "gsd intersects (1, 2, 3, 4)": "column 1: only bbox intersects",
    "bbox intersects (0, 10, 5, -3)": "column 18: south must not be above north .*10, north -3",
    "bbox intersects (0, -91, 5, 3)": "column 18: latitudes must be -90 to 90",
    "bbox intersects (0, 1, 181, 3)": "column 18: longitudes must be -180 to 180 .*170, -20, -170",
}


@pytest.mark.parametrize("text", WRONG, ids=list(WRONG))
def test_a_mistake_is_told_with_its_column(text: str) -> None:
    with pytest.raises(ConfigError, match=WRONG[text]) as raised:
        parse_filter(text)
    assert "\n" not in str(raised.value)


WRONG_JSON: list[tuple[Any, str]] = [
    (5, "the filter is wrong"),
    ({"op": "like", "field": "gsd", "value": 1}, "'like' found using 'op'"),
    ({"op": "<", "field": "gsd"}, "value: Field required"),
    ({"op": "<", "field": "gsd", "value": 1, "sql": "1=1"}, "Extra inputs"),
    ({"op": "<", "field": "gsd", "value": math.nan}, "finite"),
    ({"op": "<", "field": "gsd", "value": 10**400}, "finite"),
    ({"op": "=", "field": "1=1; drop", "value": 1}, "no column '1=1; drop'"),
    ({"op": "=", "field": "metadata.a' or 1=1", "value": 1}, "no column"),
    ({"op": "=", "field": "collection", "value": "\ud800"}, "no valid Unicode"),
    ({"op": "intersects", "bbox": [math.nan, 0, 1, 2]}, "finite"),
    ({"op": "and", "conditions": []}, "at least 1"),
    ({"op": "in", "field": "gsd", "values": []}, "at least 1"),
]


@pytest.mark.parametrize(("value", "message"), WRONG_JSON)
def test_wrong_json_is_refused(value: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        condition_from_json(value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"after": "2024-02-01", "before": "2024-01-01"}, "after must be earlier than before"),
        ({"after": "2024-02-01", "before": "2024-02-01"}, "after must be earlier than before"),
        ({"after": "soon"}, "'soon' is no time"),
        ({"gsd_min": 2, "gsd_max": 1}, "smallest gsd must not be above the largest"),
        ({"gsd_min": math.nan}, "finite numbers"),
        ({"bbox": [1, 2, 3]}, "west, south, east, north"),
        ({"bbox": [0, math.nan, 1, 2]}, "finite numbers"),
        ({"bbox": [0, 5, 1, 2]}, "south must not be above north"),
    ],
)
def test_contradictions_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_filter(**options)


@pytest.mark.parametrize("year", ["0001", "1600", "1677", "2263", "9998"])
def test_every_year_can_be_named(table: ImagesTable, rows: Rows, year: str) -> None:
    later = {row["member"] for row in rows if row["datetime"] is not None and year < "2024"}
    for moment in (f"{year}-01-01", f"{year}-06-05T04:03:02.000001+01:00"):
        assert found_by(table, parse_filter(f"datetime >= '{moment}'")) == later


@pytest.mark.parametrize("day", ["0001-01-01", "2024-01-02", "9999-12-31"])
def test_a_date_is_its_whole_day(tmp_path: Path, day: str) -> None:
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
        "metadata.snesor = 1": r"snesor as a number \(the first images' metadata: a\.b, eo:cloud",
        "gsd < 1 or metadata.nowhere = 'x'": r"has metadata\.nowhere as text",
        "metadata.p.q.deep = 1": r"has metadata\.p\.q\.deep as a number",
        "height_px > 1": r"has height_px$",
        "height_px is not null": r"has height_px$",
        "metadata.nowhere is not null": r"has metadata\.nowhere \(",
        "not (not metadata.nowhere is not null)": r"has metadata\.nowhere \(",
        "height_px is null and height_px > 1": r"has height_px$",
        "height_px is null or metadata.nowhere = 'x'": r"has metadata\.nowhere as text",
        "not (height_px is null or height_px > 1)": r"has height_px$",
    }.items():
        with pytest.raises(CallError, match=message):
            searcher.search("0", where=parse_filter(text))


@pytest.mark.parametrize(
    "text",
    [
        "height_px is null",
        "metadata.nowhere is null",
        "not height_px is not null",
        "height_px < 1 or height_px is null",
        "not (height_px >= 1 and height_px is not null)",
        "height_px is null and not (metadata.nowhere = 1 and not metadata.nowhere is null)",
    ],
)
def test_where_nothing_is_asked_for_no_image_needs_to_have_it(
    table: ImagesTable, rows: Rows, text: str
) -> None:
    searcher = Searcher(table, GivenEmbedder(), search=SearchConfig(mode="dense"))
    result = searcher.search("0", 1000, where=parse_filter(text))
    assert len(result.hits) == len([row for row in rows if row["status"] == "ok"])


def test_an_image_without_a_bbox_is_found_where_none_has_one(tmp_path: Path) -> None:
    table = make_table(location(tmp_path / "table"), [good_row("a.jpg")])
    searcher = Searcher(table, GivenEmbedder(), search=SearchConfig(mode="dense"))
    for text in ("bbox is null", "gsd is null", "bbox is null or bbox intersects (0, 0, 1, 1)"):
        assert len(searcher.search("0", where=parse_filter(text)).hits) == 1
    with pytest.raises(CallError, match="has bbox"):
        searcher.search("0", where=parse_filter("bbox is not null"))
