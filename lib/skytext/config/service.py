"""Settings of the HTTP service."""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from skytext.config.section import PositiveFloat, PositiveInt, Section

Rate = Annotated[str, Field(pattern=r"^[1-9]\d*/(second|minute|hour|day)$")]


class AccessConfig(Section):
    """Access control and rate limits."""

    require_keys: bool = Field(
        True,
        description="Require an API key (`skytext keys`). Without, only this machine has access.",
    )
    key_rate: Rate | None = Field(
        "6000/minute",
        description="Requests per key, or per address without keys; null: no limit.",
    )
    failure_rate: Rate = Field(
        "20/minute", description="Wrong keys per address; further ones are rejected unchecked."
    )
    rate_storage: str = Field(
        "memory://",
        description="Storage of the request counts, as a URI of the package `limits`. In memory, "
        "each ingress replica counts alone; in redis://HOST:PORT, all count together.",
    )
    refresh_s: PositiveFloat = Field(
        5.0, description="Delay until an added or revoked key takes effect."
    )
    trusted_proxies: tuple[str, ...] = Field(
        (), description="Networks, e.g. 10.0.0.0/8, whose X-Forwarded-For is trusted."
    )
    allowed_hosts: tuple[str, ...] = Field(
        (),
        description="Accepted Host headers besides localhost. Empty: any with keys, none without, "
        "because a foreign page must not reach a service without keys.",
    )
    cors_origins: tuple[str, ...] = Field(
        (), description="Origins, e.g. https://maps.example.org, whose pages may call the API."
    )

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for network in value:
            ipaddress.ip_network(network)
        return value

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            parts = urlsplit(origin)
            if (
                parts.scheme not in ("http", "https")
                or origin != f"{parts.scheme}://{parts.netloc}"
            ):
                raise ValueError(f"{origin!r} is not an origin such as https://maps.example.org")
        return value


class LimitsConfig(Section):
    """Limits per request, and the number of concurrent requests."""

    max_head_bytes: PositiveInt = Field(
        65_536,
        description="Longer URLs with headers are rejected (431). URLs may contain filters.",
    )
    max_body_bytes: PositiveInt = Field(
        65_536, description="A larger JSON body is rejected (413). A long filter has 10 kB."
    )
    max_upload_bytes: PositiveInt = Field(20 * 2**20, description="Larger images: 413.")
    max_k: int = Field(1000, ge=1, le=1000, description="Maximum hits per request.")
    max_batch: PositiveInt = Field(32, description="Maximum searches per batch; more: 413.")
    max_texts: PositiveInt = Field(
        64,
        description="Maximum distinct texts per request; more: 413. max_running such requests fill "
        "the queue of the embedding deployment.",
    )
    body_timeout_s: PositiveFloat = Field(
        10.0, description="Maximum time to receive a body; later: 408."
    )
    request_timeout_s: PositiveFloat = Field(
        10.0, description="Maximum time for a response; later: 503."
    )
    caption_timeout_s: PositiveFloat = Field(
        60.0, description="The same for searches by an uploaded image, which is described first."
    )
    max_running: PositiveInt | None = Field(
        None,
        description="Concurrent requests of an ingress replica; null: one more than the cores of "
        "its machine. A higher value only increases latency.",
    )
    max_waiting: int = Field(64, ge=0, description="Maximum queued requests; more: 503.")
    max_wait_s: PositiveFloat = Field(
        0.15,
        description="Maximum time in the queue; later: 503. It limits the response time under any "
        "load.",
    )
    retry_after_s: PositiveInt = Field(
        1, description="Retry-After value of rejected requests, in whole seconds."
    )
    max_images_running: PositiveInt = Field(
        4, description="Images read and scaled at once, beside the searches."
    )
    max_uploads_running: PositiveInt = Field(
        4, description="Uploaded images in work at once. Each is in memory."
    )
    max_image_bytes: PositiveInt = Field(
        64 * 2**20, description="Larger images are not delivered, because each is in memory."
    )

    @property
    def num_running(self) -> int:
        """`max_running`, or the default for this machine's cores."""
        return self.max_running or 1 + (os.cpu_count() or 1)


class ServiceConfig(Section):
    """The service for a table."""

    version: PositiveInt | None = Field(
        None, description="Serve only this version; null: follow promotions."
    )
    poll_interval_s: PositiveFloat = Field(
        2.0, description="How often a replica checks which version is live."
    )
    held_versions: PositiveInt = Field(
        3,
        description="Number of versions with valid cursors: the live one and those before it. "
        "Older cursors get 410.",
    )
    archive_roots: tuple[str, ...] = Field(
        (),
        description="Folders and prefixes below which images may be read and shown; nothing "
        "else is.",
    )
    image_max_age_s: int = Field(
        60,
        ge=0,
        description="Browsers show a cached image for this long without a request. After that they "
        "validate it against its shard, and an unchanged image is not sent again.",
    )
    thumbnail_cache_bytes: int = Field(
        64 * 2**20, ge=0, description="Thumbnails kept in memory by an ingress replica."
    )
    index_cache_bytes: PositiveInt | None = Field(
        None, description="Lance's index cache of a search replica; null: Lance's own 6 GiB."
    )
    row_copy_dir: Path | None = Field(
        None,
        description="A local folder on each search machine for a copy of the vectors and hit "
        "fields, about 11 kB per image, and 2 kB more with image vectors. Indexed searches then "
        "read no rows from the table. null: rows are read from the table.",
    )
    search_threads: PositiveInt = Field(2, description="Concurrent searches per search replica.")
    embed_batch_wait_s: float = Field(
        0.003, ge=0, description="How long a query waits for others in the same forward pass."
    )
    embed_max_batch: PositiveInt = Field(32, description="Maximum queries per forward pass.")
    captioner: bool = Field(
        False, description="Run a captioner for searches by image (`caption.model`); else 501."
    )
    map_tiles_url: str | None = Field(
        None,
        description="Map tiles of the page, e.g. https://tiles.example.org/{z}/{x}/{y}.png; null: "
        "a drawn graticule, without requests to another host.",
    )
    map_tiles_attribution: str = Field("", description="Attribution that the tiles require.")
    log_queries: bool = Field(False, description="Log the query texts, which may be personal data.")
    drain_s: float = Field(
        8.0,
        gt=0,
        le=10,
        description="Maximum time to finish running requests after SIGINT or SIGTERM. The process "
        "ends within 15 s.",
    )
    access: AccessConfig = AccessConfig()
    limits: LimitsConfig = LimitsConfig()

    @model_validator(mode="after")
    def _tiles(self) -> Self:
        url = self.map_tiles_url
        if url is not None:
            if urlsplit(url).scheme not in ("http", "https"):
                raise ValueError("map_tiles_url must begin with https:// or http://")
            if not all(part in url for part in ("{z}", "{x}", "{y}")):
                raise ValueError("map_tiles_url must contain {z}, {x} and {y}")
        return self
