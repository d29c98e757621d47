"""Invalid filters in CQL2 JSON are refused. The message contains the place of the error."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from skytext.errors import ConfigError
from skytext.filters.cql2_json import filter_from_json

GSD = {"property": "gsd"}
TEXT = {"property": "collection"}
PLACE = {"property": "geometry"}
WRONG_JSON: list[tuple[Any, str]] = [
    (5, "the filter is wrong: expected a condition"),
    ({"op": "like", "args": [GSD, 1]}, "CASEI|LIKE takes a pattern"),
    ({"op": "<", "args": [GSD]}, r"at args: < takes 2 arguments \(given: 1\)"),
    ({"op": "<"}, "at args: args must be a list"),
    ({"op": "<", "args": [GSD, 1], "sql": "1=1"}, "< has an unknown key 'sql'"),
    ({"op": "<", "args": [{**GSD, "sql": "1=1"}, 1]}, r"at args\.0: expected a column or a value"),
    ({"op": "<", "args": [GSD, {"date": "2024-01-01", "sql": "1"}]}, r"at args\.1: expected"),
    ({"op": "<", "args": [GSD, None]}, r"at args\.1: expected a column or a value"),
    ({"op": "<", "args": [GSD, math.nan]}, "finite"),
    ({"op": "<", "args": [GSD, 10**400]}, "finite"),
    ({"op": "!=", "args": [GSD, 1]}, "at op: != is not supported. The supported operators are AND"),
    ({"op": ["and"], "args": []}, "at op: .* is not supported"),
    ({"op": "<", "field": "gsd", "value": 1}, "< has an unknown key 'field'"),
    ({"op": "=", "args": [{"property": "1=1; drop"}, 1]}, "no column '1=1; drop'"),
    ({"op": "=", "args": [{"property": "metadatum.a' or 1=1"}, 1]}, "no column"),
    ({"op": "=", "args": [TEXT, "\ud800"]}, "not valid Unicode"),
    ({"op": "=", "args": [{"property": "metadata.\ud800"}, 1]}, "not valid Unicode"),
    ({"op": "s_intersects", "args": [PLACE, {"bbox": [math.nan, 0, 1, 2]}]}, "finite"),
    ({"op": "s_intersects", "args": [PLACE, {"bbox": [0, 1, 2]}]}, r"at args\.1: .*four numbers"),
    ({"op": "s_intersects", "args": [PLACE, {"bbox": ["0", 0, 1, {}]}]}, r"at args\.1: "),
    (
        {"op": "s_within", "args": [PLACE, {"type": "Polygon", "coordinates": [[[1, "2"]]]}]},
        r"at args\.1\.coordinates\.0\.0: a position must be",
    ),
    ({"op": "s_within", "args": [PLACE, {"type": "Point", "coordinates": [0, 91]}]}, "latitudes"),
    ({"op": "s_within", "args": [PLACE, {"type": "Point", "coordinates": [600, 1]}]}, "longitudes"),
    (
        {"op": "s_within", "args": [PLACE, {"type": "Point"}]},
        r"args\.1\.coordinates: expected a list",
    ),
    (
        {"op": "s_within", "args": [PLACE, {"type": "Point", "x": 1}]},
        "the field 'x' is not allowed in a geometry",
    ),
    ({"op": "and", "args": []}, "at least 1"),
    ({"op": "in", "args": [GSD, []]}, "at least 1"),
    ({"op": "in", "args": [GSD, 1]}, r"at args\.1: IN takes a list"),
    ({"op": "in", "args": [TEXT, ["a", {"op": "casei", "args": ["b"]}]]}, "both sides"),
    (
        {"op": "and", "args": [{"op": "<", "args": [GSD, 1]}, {"op": "<", "args": [GSD, "x"]}]},
        r"at args\.1: gsd is a number",
    ),
    (
        {"op": "t_during", "args": [{"property": "datetime"}, {"interval": ["now", ".."]}]},
        "'now' is not a time",
    ),
    (json.loads('{"op": "not", "args": [' * 100 + "1" + "]}" * 100), "too deep: at most 64"),
]


@pytest.mark.parametrize(("value", "message"), WRONG_JSON)
def test_wrong_json_is_refused(value: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        filter_from_json(value)
