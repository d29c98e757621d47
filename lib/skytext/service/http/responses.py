"""Responses in JSON and GeoJSON. Their content is not validated by a pydantic model."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

from fastapi import Response
from pydantic_core import to_json

from skytext_client import geojson


class ApiJson(Response):
    """A JSON response. The content is not validated, and may contain plain values and times."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Return the encoded body. NaN and infinity become null."""
        return to_json(content, inf_nan_mode="null")


class GeoJson(ApiJson):
    """A GeoJSON response. The content is not validated."""

    media_type = geojson.MEDIA_TYPE


def prefers_geojson(accepted: Sequence[str]) -> bool:
    """Return true if the client prefers GeoJSON to JSON, or accepts both equally.

    If the header ``Accept`` does not contain GeoJSON, return false.

    Args:
        accepted: the values of all ``Accept`` headers.
    """
    qualities: dict[str, float] = {}
    for item in ",".join(accepted).split(","):
        name, *parameters = (part.strip().lower() for part in item.split(";"))
        qualities[name] = _quality(parameters)
    wanted = qualities.get(geojson.MEDIA_TYPE, 0.0)
    return wanted > 0 and wanted >= qualities.get(ApiJson.media_type, 0.0)


def _quality(parameters: Sequence[str]) -> float:
    """Return the quality (parameter ``q``) of a media type, 0 to 1.

    If the parameter is missing or invalid, return 1.
    """
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            with contextlib.suppress(ValueError):
                return float(value)
    return 1.0
