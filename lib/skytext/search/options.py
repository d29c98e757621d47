"""Make a search request from flat options: command-line options or URL query parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from skytext.errors import ConfigError
from skytext.filters.options import make_filter
from skytext_client.search_fields import SearchFields

_FILTERS = ("where", "intersects", "after", "before", "gsd_min", "gsd_max")


def request_fields(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a `SearchRequest`.

    Args:
        options: the value of each option by name. None means that the option is not set. ``text``
            and ``also`` contain the queries. ``positive``, ``negative``, ``positive_image`` and
            ``negative_image`` contain the examples. The filter options have the names of the
            arguments of `make_filter`, with two differences: ``bbox`` is a string, and the list of
            collections is named ``collection``.

    Raises:
        ConfigError: a filter option is malformed, or two filter options contradict each other.
    """
    given = {name: value for name, value in options.items() if value is not None}
    text = given.get("text", ())
    texts = [*([text] if isinstance(text, str) else text), *given.get("also", ())]
    bbox = given.get("bbox")
    return {
        **{name: given[name] for name in SearchFields.model_fields if name in given},
        "text": texts[0] if texts else None,
        "texts": texts[1:],
        "like": given.get("like", ()),
        "positive": _examples(given.get("positive", ()), given.get("positive_image", ())),
        "negative": _examples(given.get("negative", ()), given.get("negative_image", ())),
        "where": make_filter(
            bbox=None if bbox is None else parse_box(bbox),
            collections=given.get("collection", ()),
            **{name: given[name] for name in _FILTERS if name in given},
        ),
    }


def _examples(texts: Sequence[str], images: Sequence[str]) -> list[dict[str, str]]:
    return [{"text": text} for text in texts] + [{"image_id": image} for image in images]


def parse_box(text: str) -> list[float]:
    """Parse ``west,south,east,north``.

    Raises:
        ConfigError: the text is not four numbers.
    """
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != 4:
        raise ConfigError(
            f"bbox {text!r} must be west,south,east,north: four numbers separated by commas, "
            "e.g. -10.5,35,4,44"
        )
    return numbers
