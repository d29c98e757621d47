from __future__ import annotations

from typing import Any

import pytest

from skytext.errors import ConfigError
from skytext.filters.cql2_text import parse_filter
from skytext.search.request import MAX_QUERIES, Example, SearchRequest


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "give a text, an image or a positive example"),
        ({"negative": [{"text": "clouds"}]}, "negative examples alone"),
        ({"text": " \n"}, "the query is empty"),
        ({"texts": ["a", ""]}, "the query is empty"),
        ({"like": [""]}, "the image_id is empty"),
        ({"text": "a" * 10_001}, "10,001 characters"),
        ({"text": "\ud800"}, "not valid Unicode"),
        ({"text": "a", "min_score": 1.5}, r"min_score must be -1 to 1 \(given: 1.5\)"),
        ({"text": "a", "min_score": float("nan")}, "min_score must be -1 to 1"),
        ({"text": "a", "k": 0}, r"k must be 1 to 1000 \(given: 0\)"),
        ({"text": "a", "k": 1001}, r"k must be 1 to 1000 \(given: 1001\)"),
        ({"texts": ["a"] * (MAX_QUERIES + 1)}, "at most 16 queries"),
        ({"like": ["f" * 32], "mode": "text"}, "mode text compares words"),
        ({"text": "a", "like": ["f" * 32], "mode": "hybrid"}, "mode hybrid compares words"),
        ({"text": "a", "positive": [{"text": "b"}], "mode": "text"}, "cannot use examples"),
        ({"text": "a", "positive": [{}]}, "either a text or an image_id"),
        ({"text": "a", "positive": [{"text": "b", "image_id": "c"}]}, "either a text or"),
        ({"text": "a", "positive": [{"image_id": ""}]}, "the image_id of an example is empty"),
        ({"text": "a", "mode": "sparse"}, "the request is invalid at mode"),
        ({"text": "a", "colour": "red"}, "the request is invalid at colour: Extra inputs"),
        (
            {"text": "a", "where": {"op": "<", "args": [{"property": "gsd"}, "x"]}},
            "gsd is a number",
        ),
        ("a", "the request is invalid at search"),
    ],
)
def test_invalid_requests_are_refused(fields: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SearchRequest.from_json(fields)


def test_a_request_is_read_back_from_its_json() -> None:
    request = SearchRequest(
        text="ships",
        texts=("boats",),
        combine="mean",
        positive=(Example(image_id="a" * 32),),
        negative=(Example(text="clouds"),),
        mode="hybrid",
        k=7,
        where=parse_filter("gsd < 1 and collection = 'naip'"),
        group_duplicates=True,
    )
    assert SearchRequest.from_json(request.model_dump(mode="json")) == request
    assert request.all_texts == ("ships", "boats")


def test_the_fingerprint_is_of_the_question_and_not_of_the_page() -> None:
    request = SearchRequest(text="ships", k=3)
    same = request.model_copy(update={"k": 9, "cursor": "x"})
    assert same.fingerprint() == request.fingerprint()
    for other in (
        {"text": "ship"},
        {"exact": True},
        {"mode": "text"},
        {"where": parse_filter("gsd < 1")},
    ):
        assert request.model_copy(update=other).fingerprint() != request.fingerprint()
