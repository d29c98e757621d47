"""Conditions on the location of an image."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from functools import lru_cache
from typing import Literal

from pydantic import model_validator

from skytext.errors import ConfigError
from skytext.filters.base import BaseCondition
from skytext.filters.columns import Need
from skytext.filters.literals import literal
from skytext.geo.bounds import bounding_box
from skytext.geo.shapes import Shape

HAS_BBOX = "bbox.west IS NOT NULL"
_NEED = Need("bbox", None, HAS_BBOX)


class Intersects(BaseCondition):
    """A test whether the ``bbox`` of the image and a given box have at least one common point.

    If only the edges of two boxes touch, the boxes also have a common point. A box is given as
    west, south, east and north in degrees. If west > east, the box crosses the antimeridian. The
    longitudes 180 and -180 are equal.
    """

    op: Literal["intersects"] = "intersects"
    bbox: tuple[float, float, float, float]

    @model_validator(mode="after")
    def _check(self) -> Intersects:
        west, south, east, north = self.bbox
        shown = ", ".join(f"{number:g}" for number in self.bbox)
        if not all(map(math.isfinite, self.bbox)):
            raise ConfigError(f"the numbers of a bbox must be finite numbers (given: {shown})")
        if not (-90 <= south <= 90 and -90 <= north <= 90):
            raise ConfigError(
                f"latitudes must be between -90 and 90 (given: south {south:g}, north {north:g}). "
                "The order in a bbox is west, south, east, north"
            )
        if south > north:
            raise ConfigError(
                f"south must not be above north (given: south {south:g}, north {north:g}). The "
                "order in a bbox is west, south, east, north"
            )
        if not (-180 <= west <= 180 and -180 <= east <= 180):
            raise ConfigError(
                f"longitudes must be between -180 and 180 (given: west {west:g}, east {east:g}). "
                "If a box crosses the antimeridian, west is greater than east, for example 170, "
                "-20, -170, 20"
            )
        return self

    def _sql(self, *, negated: bool) -> str:
        west, south, east, north = map(literal, self.bbox)
        crosses, plain = "bbox.west > bbox.east", "bbox.west <= bbox.east"
        if negated:
            left, right = f"bbox.west > {east}", f"bbox.east < {west}"
            if self.bbox[0] > self.bbox[2]:
                apart = f"({plain} AND {left} AND {right})"
            else:
                apart = f"(({plain} AND ({left} OR {right})) OR ({crosses} AND {left} AND {right}))"
                if self.bbox[2] == 180:
                    apart = f"({apart} AND bbox.west != -180.0)"
                if self.bbox[0] == -180:
                    apart = f"({apart} AND bbox.east != 180.0)"
            return f"(bbox.south > {north} OR bbox.north < {south} OR {apart})"
        left, right = f"bbox.west <= {east}", f"bbox.east >= {west}"
        if self.bbox[0] > self.bbox[2]:
            meets = f"{crosses} OR {left} OR {right}"
        else:
            meets = f"({left} AND {right}) OR ({crosses} AND ({left} OR {right}))"
            if self.bbox[2] == 180:
                meets += " OR bbox.west = -180.0"
            if self.bbox[0] == -180:
                meets += " OR bbox.east = 180.0"
        return f"(bbox.south <= {north} AND bbox.north >= {south} AND ({meets}))"

    def _needs(self, *, negated: bool) -> Iterator[Need]:
        yield _NEED


class Spatial(BaseCondition):
    """A test whether the footprint of the image intersects a geometry or is within the geometry.

    A Lance filter cannot contain such a test. `skytext.table.queries.shape_rows` finds the matching
    rows, and replaces the `Spatial` by a `Rows`.

    Attributes:
        op: ``s_intersects`` if the footprint must intersect the geometry, ``s_within`` if the
            footprint must be within the geometry.
        geometry: GeoJSON string. The longitudes and latitudes are in degrees.
    """

    op: Literal["s_intersects", "s_within"]
    geometry: str

    @model_validator(mode="after")
    def _check(self) -> Spatial:
        self.shape()
        return self

    def shape(self) -> Shape:
        """Return the geometry as a `Shape`."""
        return _shape(self.geometry)

    def box(self) -> Intersects:
        """Return a test for the smallest box around the geometry."""
        return Intersects(bbox=bounding_box(json.loads(self.geometry)))

    def _sql(self, *, negated: bool) -> str:
        raise TypeError("a spatial condition must first be bound to the rows of a table")

    def key(self) -> str:  # noqa: D102
        return self.model_dump_json()

    def _needs(self, *, negated: bool) -> Iterator[Need]:
        yield _NEED


@lru_cache(maxsize=64)
def _shape(geometry: str) -> Shape:
    return Shape.of_geojson(json.loads(geometry))


class Rows(BaseCondition):
    """A condition that replaces a `Spatial` in a filter for one version of a table.

    Attributes:
        matching: Lance filter that selects the rows that match the `Spatial`.
        others: Lance filter that selects the rows that do not match the `Spatial`. Neither of the
            two filters selects rows without a ``bbox``.
    """

    op: Literal["rows"] = "rows"
    matching: str
    others: str

    def _sql(self, *, negated: bool) -> str:
        return self.others if negated else self.matching

    def _needs(self, *, negated: bool) -> Iterator[Need]:
        yield _NEED
