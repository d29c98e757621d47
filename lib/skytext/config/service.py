"""Settings for the HTTP service."""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from skytext.config.section import PositiveFloat, PositiveInt, Section

Rate = Annotated[str, Field(pattern=r"^[1-9]\d*/(second|minute|hour|day)$")]


class AccessConfig(Section):
    """Settings for access control and rate limits."""

    require_keys: bool | Literal["auto"] = Field(
        True,
        description="Whether each request must have an API key (see `skytext keys`). If false, "
        "only requests from this machine are accepted. `auto`: requests must have a key as soon "
        "as the first table has a key. Until then, only requests from this machine are accepted.",
    )
    key_rate: Rate | None = Field(
        "6000/minute",
        description="Maximum rate of requests for each key. If no keys are required, this is "
        "the maximum rate for each address. null: no limit.",
    )
    failure_rate: Rate = Field(
        "20/minute",
        description="Maximum rate of requests with a wrong key from one address. If the rate is "
        "higher, all requests from this address are refused, and their keys are not "
        "checked.",
    )
    rate_storage: str = Field(
        "memory://",
        description="Where the request counts are stored, as a URI of the Python package "
        "`limits`. With memory://, each ingress replica has its own counts. With "
        "redis://HOST:PORT, all replicas share their counts.",
    )
    refresh_s: PositiveFloat = Field(
        5.0,
        description="Maximum time until an added key is accepted, and until a revoked key is "
        "refused.",
    )
    trusted_proxies: tuple[str, ...] = Field(
        (),
        description="Networks of trusted proxies, for example 10.0.0.0/8. The X-Forwarded-For "
        "header of a request is used only if the request comes from one of these "
        "networks.",
    )
    allowed_hosts: tuple[str, ...] = Field(
        (),
        description="Accepted values of the Host header, in addition to localhost. If the list "
        "is empty and keys are required, all values are accepted. If the list is "
        "empty and no keys are required, only localhost is accepted, because web "
        "pages of other sites must not reach a service without keys.",
    )
    cors_origins: tuple[str, ...] = Field(
        (),
        description="Origins whose web pages may call the API, for example "
        "https://maps.example.org.",
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
    """Limits for each request, and limits for the number of concurrent requests."""

    max_head_bytes: PositiveInt = Field(
        65_536,
        description="Maximum size of the URL and the headers of a request together. Larger "
        "requests are refused (status 431). A URL can be long because it can "
        "contain filters.",
    )
    max_body_bytes: PositiveInt = Field(
        65_536,
        description="Maximum size of a JSON body. A larger body is refused (status 413). A "
        "long filter has about 10 kB.",
    )
    max_upload_bytes: PositiveInt = Field(
        20 * 2**20,
        description="Maximum size of an uploaded image. A larger image is refused (status 413).",
    )
    max_k: int = Field(1000, ge=1, le=1000, description="Maximum number of hits in one request.")
    max_batch: PositiveInt = Field(
        32,
        description="Maximum number of searches in one batch. A larger batch is refused "
        "(status 413).",
    )
    max_texts: PositiveInt = Field(
        64,
        description="Maximum number of different texts that are embedded for one request. A "
        "request with more texts is refused (status 413). The queue of the "
        "embedding deployment has room for `max_running` requests of this size.",
    )
    body_timeout_s: PositiveFloat = Field(
        10.0,
        description="Maximum time in which the body of a request must arrive. After this time, "
        "the request is refused (status 408).",
    )
    request_timeout_s: PositiveFloat = Field(
        10.0,
        description="Maximum time for the response to a request. After this time, the client "
        "receives status 503.",
    )
    caption_timeout_s: PositiveFloat = Field(
        60.0,
        description="Maximum time for the response to a search by an uploaded image. This time is "
        "longer than `request_timeout_s`, because the image must first be described. "
        "After this time, the client receives status 503.",
    )
    max_running: PositiveInt | None = Field(
        None,
        description="Maximum number of requests that an ingress replica processes at the same "
        "time. null: one more than the number of cores of the machine. A higher "
        "number only increases the response time.",
    )
    max_waiting: int = Field(
        64,
        ge=0,
        description="Maximum number of waiting requests. If this number of requests is "
        "waiting, new requests are refused (status 503).",
    )
    max_wait_s: PositiveFloat = Field(
        0.15,
        description="Maximum time for which a request waits. After this time, the request is "
        "refused (status 503). The setting limits the response time under any load.",
    )
    retry_after_s: PositiveInt = Field(
        1,
        description="Value of the Retry-After header in the response to a refused request, in "
        "whole seconds.",
    )
    max_images_running: PositiveInt = Field(
        4,
        description="Maximum number of images that are read and scaled at the same time. Searches "
        "are not counted.",
    )
    max_uploads_running: PositiveInt = Field(
        4,
        description="Maximum number of uploaded images that are received and described at the "
        "same time. All these images are in memory.",
    )
    max_image_bytes: PositiveInt = Field(
        64 * 2**20,
        description="Maximum size of an image that is sent to a client. Larger images are not "
        "sent, because the service holds an image in memory while it sends the "
        "image.",
    )

    @property
    def num_running(self) -> int:
        """The value of `max_running`, or the default of this machine if `max_running` is None."""
        return self.max_running or 1 + (os.cpu_count() or 1)


class CanaryConfig(Section):
    """Conditions that stop a canary because it is worse than the live version."""

    min_requests: PositiveInt = Field(
        50,
        description="Minimum number of searches in each of the two versions, the canary and the "
        "live version. With fewer searches, the two versions are not compared, "
        "because the result would not be reliable. With 50 searches in each version, "
        "the canary is stopped if 3 of its searches fail and no search in the live "
        "version fails.",
    )
    max_error_increase: float = Field(
        0.01,
        ge=0,
        le=1,
        description="Maximum difference between the share of failed searches in the canary and "
        "the share of failed searches in the live version. If the difference is "
        "larger, the canary is stopped. Random differences, of up to three "
        "standard deviations, do not stop the canary.",
    )
    max_slowdown: float = Field(
        2.0,
        ge=1,
        description="Maximum slowdown of the canary, as a factor. The 95 % quantiles of the "
        "search times are compared. If the quantile of the canary is larger than the "
        "quantile of the live version times this factor, the canary is stopped. "
        "Random differences, of up to three standard deviations, do not stop the "
        "canary. The default is above 1, because a canary is usually slower than the "
        "live version. A canary receives few searches, and therefore its rows are less "
        "often in caches.",
    )


class ServiceConfig(Section):
    """Settings for the service, which can serve one or more tables."""

    version: PositiveInt | None = Field(
        None,
        description="Number of the version that is always served. This setting is allowed only if "
        "the service has one table. null: the live version is served. A promotion "
        "makes another version live.",
    )
    poll_interval_s: PositiveFloat = Field(
        2.0, description="Interval at which a replica checks which version is live."
    )
    freshness_interval_s: PositiveFloat = Field(
        300.0,
        description="Interval at which a replica measures the size of the table. At the same time "
        "it measures how far the live version is behind the newest version of the "
        "table.",
    )
    held_versions: PositiveInt = Field(
        3,
        description="Number of versions that the service keeps for cursors. These versions are "
        "the live version and the versions that were live before. A request with a "
        "cursor from an older version gets status 410.",
    )
    archive_roots: tuple[str, ...] = Field(
        (),
        description="Folders and address prefixes of images. The service reads and shows only "
        "images in these folders or with these prefixes.",
    )
    image_max_age_s: int = Field(
        60,
        ge=0,
        description="Time for which a browser shows an image from its cache without a new "
        "request. After this time, the browser sends a request, and the service "
        "checks the shard of the image. If the image is unchanged, the service "
        "does not send the image again.",
    )
    thumbnail_cache_bytes: int = Field(
        64 * 2**20, ge=0, description="Size of the memory for thumbnails in each ingress replica."
    )
    index_cache_bytes: PositiveInt | None = Field(
        None,
        description="Size of Lance's index cache in each search replica. null: Lance's default "
        "of 6 GiB.",
    )
    row_copy_dir: Path | None = Field(
        None,
        description="Folder on the local disk of each machine that has a search replica. The "
        "service copies the vectors, and the fields that hits contain, into this "
        "folder. The copy needs about 11 kB for each image, and 2 kB more if the "
        "table has image vectors. A search that uses the indexes then reads these "
        "values from the copy and not from the table. null: there is no copy, and "
        "searches read the table.",
    )
    search_threads: PositiveInt = Field(
        2, description="Number of parallel searches in each search replica."
    )
    embed_batch_wait_s: float = Field(
        0.003,
        ge=0,
        description="Time for which a query waits for other queries, so that they are embedded "
        "in one batch.",
    )
    embed_max_batch: PositiveInt = Field(
        32, description="Maximum number of queries in one forward pass."
    )
    captioner: bool = Field(
        False,
        description="Whether the service runs a captioner for searches by an uploaded image. "
        "The captioner uses the model in `caption.model`. If false, a search by an "
        "uploaded image gets status 501.",
    )
    map_tiles_url: str | None = Field(
        None,
        description="URL of the map tiles in the web page, for example "
        "https://tiles.example.org/{z}/{x}/{y}.png. null: the page shows a "
        "graticule instead of a map, and contacts no other host.",
    )
    map_tiles_attribution: str = Field(
        "", description="Attribution text that the licence of the map tiles requires."
    )
    log_queries: bool = Field(
        False,
        description="Whether the queries are written to the log. The latest queries are then "
        "also stored in the table's folder (`state/queries`). The command "
        "`reindex` uses the stored queries to compare two versions. All users who "
        "can read the table can read the stored queries. The queries may contain "
        "personal data.",
    )
    drain_s: float = Field(
        8.0,
        gt=0,
        le=10,
        description="Maximum time for which running requests may continue after SIGINT or "
        "SIGTERM. The process ends within 15 s.",
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
