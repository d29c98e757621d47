from __future__ import annotations

import pytest

from skytext.service.http.responses import prefers_geojson


@pytest.mark.parametrize(
    ("accepted", "is_geojson"),
    [
        ([], False),
        (["*/*"], False),
        (["application/json"], False),
        (["application/geo+json"], True),
        (["APPLICATION/Geo+JSON"], True),
        (["application/geo+json;charset=utf-8;q=0.2"], True),
        (["text/html, application/geo+json ; q=0.9, */*;q=0.1"], True),
        (["application/json, application/geo+json"], True),
        (["application/json", "application/geo+json"], True),
        (["application/json, application/geo+json;Q=0.5"], False),
        (["application/json;q=0.4, application/geo+json;q=0.5"], True),
        (["application/geo+json;q=0"], False),
        (["application/geo+json;q=nonsense"], True),
        (["application/geo+json-seq"], False),
        (["text/plain;format=application/geo+json"], False),
        ([",;,"], False),
    ],
)
def test_geojson_is_preferred_where_it_is_named_with_no_lower_quality(
    accepted: list[str], is_geojson: bool
) -> None:
    assert prefers_geojson(accepted) is is_geojson
