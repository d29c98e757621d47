"""Answers that are written as they are."""

from __future__ import annotations

from typing import Any

from fastapi import Response
from pydantic_core import to_json

from skytext.geo import geojson


class ApiJson(Response):
    """JSON of plain values and moments, at once and without another check."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Return the encoded body."""
        return to_json(content, inf_nan_mode="null")


class GeoJson(ApiJson):
    """The same as GeoJSON."""

    media_type = geojson.MEDIA_TYPE
