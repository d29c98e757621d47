"""Read the images of a unit again, by ranges, and check them.

INPUT    units of `skytext.run.image_vectors.list_rows.PLACES`.
OUTPUT   units of `FETCHED`: encoded images, as `skytext.pixels.decode.normalise` gives them.
FAN-OUT  one unit to one unit.
ON ERROR an image that cannot be had, that is another one than was captioned, or that cannot be
         decoded is counted and left out: it gets no vector in this run.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from skytext.archive import Place, ReadOptions, fetch_images, is_store_fault
from skytext.errors import SampleError
from skytext.pixels.decode import ImageLimits, normalise
from skytext.run.control.stop_flag import StopFlag

STORE_FAULT = "read/store_fault"
"""The stage and reason of images that the store did not give, however often it was asked."""

FETCHED = pa.schema(
    [
        pa.field("unit_id", pa.string(), nullable=False),
        pa.field(
            "images",
            pa.list_(
                pa.struct(
                    [
                        pa.field("image_id", pa.string()),
                        pa.field("content_sha256", pa.string()),
                        pa.field("data", pa.large_binary()),
                    ]
                )
            ),
            nullable=False,
        ),
        # `Failures` as a JSON text.
        pa.field("failures", pa.string(), nullable=False),
        # Not looked at: the run was asked to stop.
        pa.field("num_left", pa.int64(), nullable=False),
    ]
)


class Failures:
    """Images without a vector, by stage and reason, each with one that says more."""

    def __init__(
        self, counts: dict[str, int] | None = None, said: dict[str, str] | None = None
    ) -> None:
        self.counts = dict(counts or {})
        self.said = dict(said or {})

    def add(self, key: str, detail: str, count: int = 1) -> None:
        """Count ``count`` images under ``stage/reason``."""
        self.counts[key] = self.counts.get(key, 0) + count
        self.said.setdefault(key, " ".join(detail.split())[: SampleError.MAX_DETAIL_CHARS])

    def update(self, others: Failures) -> None:
        """Count what others have counted."""
        for key, count in others.counts.items():
            self.add(key, others.said[key], count)

    @property
    def total(self) -> int:
        """Images in all."""
        return sum(self.counts.values())

    def to_json(self) -> str:
        """Return what `from_json` reads."""
        return json.dumps([self.counts, self.said])

    @classmethod
    def from_json(cls, text: str) -> Failures:
        """Read what `to_json` wrote."""
        return cls(*json.loads(text))


@dataclass(frozen=True, slots=True)
class ImageFetcher:
    """Fetches and checks the images of units.

    Attributes:
        limits: what is accepted, and to which size large ones are scaled down.
        reading: how the sources were read.
        num_threads: images asked for at once.
        stop: whether the run is to stop.
    """

    limits: ImageLimits
    reading: ReadOptions
    num_threads: int
    stop: StopFlag

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Return the unit with its images' bytes, all in memory."""
        if batch.num_rows != 1:
            raise ValueError(f"a batch must hold one unit, not {batch.num_rows}")
        rows = batch.column("places")[0].as_py()
        images: list[dict[str, Any]] = []
        failures = Failures()
        stopped = self.stop.is_raised()
        if not stopped:
            self._fetch(rows, images, failures)
        unit = {
            "unit_id": batch.column("unit_id")[0].as_py(),
            "images": images,
            "failures": failures.to_json(),
            "num_left": len(rows) if stopped else 0,
        }
        return pa.Table.from_pylist([unit], schema=FETCHED)

    def _fetch(
        self, rows: list[dict[str, Any]], images: list[dict[str, Any]], failures: Failures
    ) -> None:
        places = _places(rows)
        found = fetch_images(places, options=self.reading, num_threads=self.num_threads)
        for row, data in zip(rows, found, strict=True):
            if isinstance(data, Exception):
                key = STORE_FAULT if is_store_fault(data) else "read/unreadable"
                failures.add(key, f"{row['uri']}: {data}")
                continue
            try:
                image = normalise(data, self.limits)
            except SampleError as error:
                failures.add(f"{error.stage}/{error.reason}", f"{row['uri']}: {error.detail}")
                continue
            content = row["content_sha256"]
            if content is not None and image.info.content_sha256 != content:
                failures.add("read/changed", f"{row['uri']} is not the image that was captioned")
                continue
            kept = {"image_id": row["image_id"], "content_sha256": content, "data": image.data}
            images.append(kept)


def _places(rows: Iterable[dict[str, Any]]) -> list[Place]:
    names = ("uri", "member", "byte_offset", "byte_length", "row_group", "row")
    return [Place(**{n: row[n] for n in names}, etag=row["shard_etag"] or "") for row in rows]
