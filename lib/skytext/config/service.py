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
    """Who may ask, and how often."""

    require_keys: bool = Field(
        True,
        description="Ask for an API key (`skytext keys`); without, only this machine is answered.",
    )
    key_rate: Rate | None = Field(
        "6000/minute",
        description="Requests of one key, or of one address where there are no keys; null: no "
        "limit.",
    )
    failure_rate: Rate = Field(
        "20/minute", description="Wrong keys from one address; further ones are not even looked at."
    )
    rate_storage: str = Field(
        "memory://",
        description="Where requests are counted, as a URI of the package `limits`: in memory each "
        "ingress replica counts its own, in redis://HOST:PORT all of them together.",
    )
    refresh_s: PositiveFloat = Field(
        5.0, description="A key that was added or revoked counts after this long."
    )
    trusted_proxies: tuple[str, ...] = Field(
        (), description="Networks, e.g. 10.0.0.0/8, whose X-Forwarded-For is believed."
    )
    allowed_hosts: tuple[str, ...] = Field(
        (),
        description="Names this service answers to (the Host header) besides localhost; empty: any "
        "with keys, none without: a foreign page must not reach a service without keys.",
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
                raise ValueError(f"{origin!r} is no origin such as https://maps.example.org")
        return value


class LimitsConfig(Section):
    """What one request may ask for, and how many are in work at once."""

    max_head_bytes: PositiveInt = Field(
        65_536,
        description="Longer addresses with headers are refused: 431. They may hold filters.",
    )
    max_body_bytes: PositiveInt = Field(
        65_536, description="A larger JSON body is refused: 413. A long filter takes 10 kB."
    )
    max_upload_bytes: PositiveInt = Field(20 * 2**20, description="A larger image is refused: 413.")
    max_k: int = Field(1000, ge=1, le=1000, description="Hits that one request may ask for.")
    max_batch: PositiveInt = Field(32, description="Searches in one batch; more: 413.")
    max_texts: PositiveInt = Field(
        64,
        description="Different texts that one request may have embedded; more: 413. max_running "
        "such requests fill the embedding deployment's queue.",
    )
    body_timeout_s: PositiveFloat = Field(
        10.0, description="A body that is not there by then is given up: 408."
    )
    request_timeout_s: PositiveFloat = Field(
        10.0, description="An answer that is not there by then is given up: 503."
    )
    caption_timeout_s: PositiveFloat = Field(
        60.0, description="The same for searches by an uploaded image, which is described first."
    )
    max_running: PositiveInt | None = Field(
        None,
        description="Requests that an ingress replica works on at once; null: one more than its "
        "machine has cores. More than keep the cores behind it at work only make each slower.",
    )
    max_waiting: int = Field(64, ge=0, description="Requests that wait for their turn; more: 503.")
    max_wait_s: PositiveFloat = Field(
        0.15,
        description="A request that waited so long is refused: 503. It bounds the answer time "
        "under any load.",
    )
    retry_after_s: PositiveInt = Field(
        1, description="What refused clients are told to wait, in whole seconds."
    )
    max_images_running: PositiveInt = Field(
        4, description="Images read and scaled at once, beside the searches."
    )
    max_uploads_running: PositiveInt = Field(
        4, description="Uploaded images taken in and described at once: each stands in memory."
    )
    max_image_bytes: PositiveInt = Field(
        64 * 2**20, description="A larger image is not handed out: it stands in memory meanwhile."
    )

    @property
    def num_running(self) -> int:
        """`max_running`, or what this machine's cores make of it."""
        return self.max_running or 1 + (os.cpu_count() or 1)


class ServiceConfig(Section):
    """How a table is served."""

    version: PositiveInt | None = Field(
        None, description="Serve this version whatever is promoted; null: follow promotions."
    )
    poll_interval_s: PositiveFloat = Field(
        2.0, description="How often a replica asks which version is live."
    )
    freshness_interval_s: PositiveFloat = Field(
        300.0,
        description="How often a replica measures how far searches are behind the table, and how "
        "large it is.",
    )
    held_versions: PositiveInt = Field(
        3,
        description="Versions whose cursors still count: the live one and those before it. Older "
        "cursors get 410.",
    )
    archive_roots: tuple[str, ...] = Field(
        (),
        description="Folders and prefixes below which images may be read and shown; nothing "
        "else is.",
    )
    image_max_age_s: int = Field(
        60,
        ge=0,
        description="How long browsers show an image without asking whether it is still the "
        "archive's; then its shard is looked at, and nothing is sent again.",
    )
    thumbnail_cache_bytes: int = Field(
        64 * 2**20, ge=0, description="Thumbnails kept in memory by an ingress replica."
    )
    index_cache_bytes: PositiveInt | None = Field(
        None, description="Lance's index cache of a search replica; null: Lance's own 6 GiB."
    )
    row_copy_dir: Path | None = Field(
        None,
        description="A folder on the local disk of each machine that searches, for a copy of the "
        "vectors and of what hits tell, about 11 kB an image, and 2 kB more where images have "
        "vectors of their own: a search by the indexes then fetches none of these from the table; "
        "null: rows are read from the table.",
    )
    search_threads: PositiveInt = Field(2, description="Searches at once in a search replica.")
    embed_batch_wait_s: float = Field(
        0.003, ge=0, description="How long a query waits for others to be embedded with."
    )
    embed_max_batch: PositiveInt = Field(32, description="Queries embedded in one forward pass.")
    captioner: bool = Field(
        False, description="Run a captioner for searches by image (`caption.model`); else 501."
    )
    map_tiles_url: str | None = Field(
        None,
        description="Map tiles of the page, e.g. https://tiles.example.org/{z}/{x}/{y}.png; null: "
        "a drawn graticule, and no other host is contacted.",
    )
    map_tiles_attribution: str = Field("", description="What the tiles' licence wants shown.")
    log_queries: bool = Field(
        False, description="Write what was searched for into the log: it may be personal."
    )
    drain_s: float = Field(
        8.0,
        gt=0,
        le=10,
        description="After SIGINT or SIGTERM, how long running requests may take: the process is "
        "gone within 15 s.",
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
                raise ValueError("map_tiles_url must hold {z}, {x} and {y}")
        return self
