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
        description="Require an API key (`skytext keys`). If false, only requests from this "
        "machine are answered.",
    )
    key_rate: Rate | None = Field(
        "6000/minute",
        description="Requests allowed for one key, or for one address if there are no keys; "
        "null: no limit.",
    )
    failure_rate: Rate = Field(
        "20/minute",
        description="Wrong keys allowed from one address. Further requests are refused without "
        "checking the key.",
    )
    rate_storage: str = Field(
        "memory://",
        description="Storage of the request counts, as a URI of the package `limits`. memory: "
        "each ingress replica counts alone; redis://HOST:PORT: all replicas count "
        "together.",
    )
    refresh_s: PositiveFloat = Field(
        5.0, description="An added or revoked key takes effect after at most this time."
    )
    trusted_proxies: tuple[str, ...] = Field(
        (), description="Networks, e.g. 10.0.0.0/8, whose X-Forwarded-For header is used."
    )
    allowed_hosts: tuple[str, ...] = Field(
        (),
        description="Accepted values of the Host header besides localhost. Empty: any with "
        "keys, none without, because a page of another site must not reach a "
        "service without keys.",
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
        description="A longer address with headers is refused (431). Addresses may contain "
        "filters.",
    )
    max_body_bytes: PositiveInt = Field(
        65_536, description="A larger JSON body is refused (413). A long filter takes 10 kB."
    )
    max_upload_bytes: PositiveInt = Field(
        20 * 2**20, description="A larger uploaded image is refused (413)."
    )
    max_k: int = Field(
        1000, ge=1, le=1000, description="Greatest number of hits that one request may ask for."
    )
    max_batch: PositiveInt = Field(
        32, description="Greatest number of searches in one batch; more are refused (413)."
    )
    max_texts: PositiveInt = Field(
        64,
        description="Different texts that one request may have embedded; more are refused "
        "(413). max_running such requests fill the queue of the embedding "
        "deployment.",
    )
    body_timeout_s: PositiveFloat = Field(
        10.0, description="A request whose body is not complete after this time is refused (408)."
    )
    request_timeout_s: PositiveFloat = Field(
        10.0, description="A request without an answer after this time gets status 503."
    )
    caption_timeout_s: PositiveFloat = Field(
        60.0, description="The same for searches by an uploaded image, which is described first."
    )
    max_running: PositiveInt | None = Field(
        None,
        description="Requests that an ingress replica processes at once; null: one more than "
        "the cores of its machine. A higher value only increases latency.",
    )
    max_waiting: int = Field(
        64, ge=0, description="Greatest number of waiting requests; more are refused (503)."
    )
    max_wait_s: PositiveFloat = Field(
        0.15,
        description="A request that has waited this long is refused (503). This limits the "
        "response time under any load.",
    )
    retry_after_s: PositiveInt = Field(
        1, description="Value of Retry-After for refused clients, in whole seconds."
    )
    max_images_running: PositiveInt = Field(
        4, description="Images read and scaled at once, in addition to searches."
    )
    max_uploads_running: PositiveInt = Field(
        4, description="Uploaded images received and described at once. Each is held in memory."
    )
    max_image_bytes: PositiveInt = Field(
        64 * 2**20,
        description="A larger image is not delivered, because an image is held in memory while "
        "it is sent.",
    )

    @property
    def num_running(self) -> int:
        """`max_running`, or the default for this machine's cores."""
        return self.max_running or 1 + (os.cpu_count() or 1)


class CanaryConfig(Section):
    """When a canary is stopped because it is worse than the live version."""

    min_requests: PositiveInt = Field(
        50,
        description="A canary is not compared before it and the live version have answered so "
        "many searches each. Fewer say little: of 50 searches, 3 that fail are enough to stop "
        "it, if the live version fails none.",
    )
    max_error_increase: float = Field(
        0.01,
        ge=0,
        le=1,
        description="A canary is stopped if its share of failed searches is higher than that of "
        "the live version by more than this. Chance is allowed for (three standard deviations).",
    )
    max_slowdown: float = Field(
        2.0,
        ge=1,
        description="A canary is stopped if the time within which 95 % of its searches end is "
        "more than so many times that of the live version. Chance is allowed for. The factor is "
        "above 1 because few searches go to a canary: its rows are less often in caches.",
    )


class ServiceConfig(Section):
    """The service for one or more tables."""

    version: PositiveInt | None = Field(
        None,
        description="Serve this version, independent of promotions; null: follow promotions. It "
        "needs a single table.",
    )
    poll_interval_s: PositiveFloat = Field(
        2.0, description="Interval at which a replica checks which version is live."
    )
    freshness_interval_s: PositiveFloat = Field(
        300.0,
        description="How often a replica measures how far searches are behind the table, and how "
        "large it is.",
    )
    held_versions: PositiveInt = Field(
        3,
        description="Number of versions whose cursors remain valid: the live one and the ones "
        "before it. Older cursors get status 410.",
    )
    archive_roots: tuple[str, ...] = Field(
        (),
        description="Folders and prefixes whose images may be read and shown. Other images are "
        "not.",
    )
    image_max_age_s: int = Field(
        60,
        ge=0,
        description="Time for which browsers show an image without asking again. After that its "
        "shard is checked; an unchanged image is not sent again.",
    )
    thumbnail_cache_bytes: int = Field(
        64 * 2**20, ge=0, description="Memory for thumbnails in an ingress replica."
    )
    index_cache_bytes: PositiveInt | None = Field(
        None, description="Lance's index cache in a search replica; null: Lance's default of 6 GiB."
    )
    row_copy_dir: Path | None = Field(
        None,
        description="A folder on the local disk of each machine that searches. It gets a copy "
        "of the vectors and of the fields of hits: about 11 kB for each image, and "
        "2 kB more if images have vectors of their own. Searches by the indexes "
        "then read none of these from the table. null: rows are read from the "
        "table.",
    )
    search_threads: PositiveInt = Field(2, description="Simultaneous searches in a search replica.")
    embed_batch_wait_s: float = Field(
        0.003,
        ge=0,
        description="Time that a query waits for other queries, to be embedded in one batch.",
    )
    embed_max_batch: PositiveInt = Field(32, description="Maximum queries per forward pass.")
    captioner: bool = Field(
        False,
        description="Run a captioner for searches by image (`caption.model`). If false, these "
        "searches get status 501.",
    )
    map_tiles_url: str | None = Field(
        None,
        description="Map tiles of the page, e.g. https://tiles.example.org/{z}/{x}/{y}.png; "
        "null: the page draws a graticule and contacts no other host.",
    )
    map_tiles_attribution: str = Field(
        "", description="Attribution that the licence of the tiles requires."
    )
    log_queries: bool = Field(
        False,
        description="Write the queries to the log, and keep the last ones in the table's folder "
        "(`state/queries`), where `reindex` compares two versions with them. Everyone who may read "
        "the table can read them. They may be personal data.",
    )
    drain_s: float = Field(
        8.0,
        gt=0,
        le=10,
        description="Time for running requests to finish after SIGINT or SIGTERM. The process "
        "ends within 15 s.",
    )
    access: AccessConfig = AccessConfig()
    limits: LimitsConfig = LimitsConfig()
    canary: CanaryConfig = CanaryConfig()

    @model_validator(mode="after")
    def _tiles(self) -> Self:
        url = self.map_tiles_url
        if url is not None:
            if urlsplit(url).scheme not in ("http", "https"):
                raise ValueError("map_tiles_url must begin with https:// or http://")
            if not all(part in url for part in ("{z}", "{x}", "{y}")):
                raise ValueError("map_tiles_url must contain {z}, {x} and {y}")
        return self
