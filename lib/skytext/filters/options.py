"""Combine filter options to one condition. The command line, Python and HTTP have these options."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from skytext.errors import ConfigError
from skytext.filters.conditions import (
    And,
    Compare,
    Condition,
    OneOf,
    check_size,
)
from skytext.filters.cql2_json import in_geometry
from skytext.filters.literals import parse_time
from skytext.filters.read import read_filter
from skytext.filters.spatial import Intersects
from skytext.geo.shapes import PlaceError


def make_filter(
    *,
    where: str | Mapping[str, Any] | Condition | None = None,
    bbox: Sequence[float] | None = None,
    intersects: Mapping[str, Any] | None = None,
    after: str | None = None,
    before: str | None = None,
    collections: Sequence[str] = (),
    gsd_min: float | None = None,
    gsd_max: float | None = None,
) -> Condition | None:
    """Return a condition that combines all given options with AND, or None if there are no options.

    Args:
        where: a filter as CQL2 text, as parsed CQL2 JSON, or as a condition.
        bbox: west, south, east and north of a box, in degrees. The image must intersect this box.
        intersects: a GeoJSON geometry. The image must intersect this geometry.
        after: a moment or a day. The image must be acquired at this time or later.
        before: a moment or a day. The image must be acquired earlier than this time.
        collections: names of collections. The image must be in one of these collections.
        gsd_min: minimum ground sample distance in metres. The minimum is included.
        gsd_max: maximum ground sample distance in metres. The maximum is included.

    Raises:
        ConfigError: an option is malformed, or two options contradict each other.
    """
    found: list[Condition] = []
    if where is not None:
        found.append(read_filter(where))
    if bbox is not None:
        if len(bbox) != 4:
            raise ConfigError(
                f"a bbox must have four numbers: west, south, east, north (given: {len(bbox)})"
            )
        found.append(Intersects(bbox=(bbox[0], bbox[1], bbox[2], bbox[3])))
    if intersects is not None:
        try:
            found.append(in_geometry("s_intersects", intersects))
        except PlaceError as error:
            raise error.whole() from error
    found += _times(after, before)
    if collections:
        found.append(OneOf(field="collection", values=tuple(collections)))
    found += _resolutions(gsd_min, gsd_max)
    if not found:
        return None
    condition = found[0] if len(found) == 1 else And(conditions=tuple(found))
    check_size(condition)
    return condition


def _times(after: str | None, before: str | None) -> Iterator[Condition]:
    if after is not None:
        yield Compare(op=">=", field="datetime", value=after)
    if before is not None:
        yield Compare(op="<", field="datetime", value=before)
    if after is not None and before is not None and parse_time(after)[0] >= parse_time(before)[0]:
        raise ConfigError(
            f"the value of after must be earlier than the value of before (given: after {after}, "
            f"before {before})"
        )


def _resolutions(gsd_min: float | None, gsd_max: float | None) -> Iterator[Condition]:
    if gsd_min is not None:
        yield Compare(op=">=", field="gsd", value=gsd_min)
    if gsd_max is not None:
        yield Compare(op="<=", field="gsd", value=gsd_max)
    if gsd_min is not None and gsd_max is not None and gsd_min > gsd_max:
        raise ConfigError(
            f"the minimum gsd must not be above the maximum (given: {gsd_min:g} and {gsd_max:g})"
        )
