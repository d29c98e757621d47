"""Responses that are already in their final form."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

from fastapi import Response
from pydantic_core import to_json

from skytext_client import geojson


class ApiJson(Response):
    """JSON of plain values and times, without validation."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Return the encoded body."""
        return to_json(content, inf_nan_mode="null")


class GeoJson(ApiJson):
    """The same for GeoJSON."""

    media_type = geojson.MEDIA_TYPE


def prefers_geojson(accepted: Sequence[str]) -> bool:
    """Return whether ``Accept`` contains GeoJSON, and JSON with no higher quality.

    Args:
        accepted: the values of all ``Accept`` lines.
    """
    qualities: dict[str, float] = {}
    for item in ",".join(accepted).split(","):
        name, *parameters = (part.strip().lower() for part in item.split(";"))
        qualities[name] = _quality(parameters)
    wanted = qualities.get(geojson.MEDIA_TYPE, 0.0)
    return wanted > 0 and wanted >= qualities.get(ApiJson.media_type, 0.0)


def _quality(parameters: Sequence[str]) -> float:
    """Return the ``q`` of a media type, 0 to 1; 1 if it is missing or invalid."""
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            with contextlib.suppress(ValueError):
                return float(value)
    return 1.0
