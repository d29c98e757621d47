"""The sections of the measurement. A section measures systems and table sizes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.search.filters import measure_filters
from bench.search.measure import K, folder_bytes
from bench.search.table import (
    RARE_COLLECTION,
    caption_vectors,
    make_table,
    stored_vectors,
)
from bench.search.truth import nearest_rows
from skytext.table.images_dataset import ImagesTable
from skytext.table.location import TableLocation

_WRITTEN = 1
"""The version of the table that contains the rows but no indexes."""


@dataclass(frozen=True)
class Bench:
    """The folder and the sizes of the measurements.

    Attributes:
        work: folder for tables, indexes and ground truth. Existing files are used again.
        num_images: number of images in the large table. Most sections use this table.
        num_small: number of images in the small table. ``hnsw`` and ``filters`` use this table.
        num_queries: number of queries in each measurement. Slow systems run fewer queries.
        growth: numbers of images. The section ``growth`` makes one table for each number.
        build_limit_s: time limit of a build in seconds. A build that reaches the limit is ended,
            and the report shows this.
        anew: true if existing indexes must be built again.
        span_s: number of seconds for which several clients send queries.
    """

    work: Path
    num_images: int = 1_000_000
    num_small: int = 100_000
    num_queries: int = 1_000
    growth: tuple[int, ...] = (10_000, 100_000)
    build_limit_s: float = 1_800.0
    anew: bool = False
    span_s: float = 10.0

    def table(self, num_images: int) -> Path:
        """Return the folder of a table with this number of images. Make the table if necessary."""
        folder = self.work / f"table-{num_images}"
        if not folder.exists():
            make_table(folder, caption_vectors(num_images))
        return folder

    def questions(self, num_images: int, num_queries: int, *, rare: bool = False) -> Path:
        """Return the file with queries and their ground truth, and make the file if necessary."""
        name = f"questions-{num_images}-{num_queries}{'-rare' if rare else ''}.npz"
        path = self.work / name
        if not path.exists():
            table = ImagesTable.open(
                TableLocation.parse(str(self.table(num_images))), version=_WRITTEN
            )
            queries = caption_vectors(num_images).queries(num_queries)
            keep = None
            if rare:
                collection = table.dataset.to_table(columns=["collection"]).column(0)
                keep = np.array(collection.to_pylist()) == RARE_COLLECTION
            truth = nearest_rows(queries, stored_vectors(table), K, keep)
            np.savez(path, queries=queries, truth=truth)
        return path


def table(bench: Bench) -> dict[str, Any]:
    """Make the large table and compute the ground truth."""
    was_there = (bench.work / f"table-{bench.num_images}").exists()
    started = time.monotonic()
    folder = bench.table(bench.num_images)
    write_s = None if was_there else round(time.monotonic() - started, 1)
    bench.questions(bench.num_images, bench.num_queries)
    # Count only the data, because the folder may also contain indexes of other systems.
    size = folder_bytes(folder / "images.lance" / "data")
    return {
        "num_images": bench.num_images,
        "write_s": write_s,
        "bytes_per_image": round(size / bench.num_images),
    }


def large(name: str, num_queries: int | None = None) -> Callable[[Bench], dict[str, Any]]:
    """Return the function that measures one system on the large table."""

    def measure(bench: Bench) -> dict[str, Any]:
        count = min(num_queries or bench.num_queries, bench.num_queries)
        return system(bench, name, bench.num_images, count)

    return measure


def of_skytext(name: str) -> Callable[[Bench], dict[str, Any]]:
    """Return a function that searches the index of the section ``skytext`` with other settings."""

    def measure(bench: Bench) -> dict[str, Any]:
        built = _folder(bench, "skytext", bench.num_images)
        if not (built / "built.json").exists():
            return {}
        questions = bench.questions(bench.num_images, bench.num_queries)
        return _side(name, "serve", bench, bench.num_images, built, questions)

    return measure


def hnsw(bench: Bench) -> dict[str, Any]:
    """Compare with an HNSW graph of uncompressed vectors, on a table that fits in memory."""
    return {
        name: system(bench, name, bench.num_small, bench.num_queries)
        for name in ("skytext", "faiss-hnsw", "lancedb")
    }


def growth(bench: Bench) -> dict[str, Any]:
    """Build and search tables of several sizes.

    The large table is not used here. The section ``skytext`` measures it.
    """
    return {str(size): system(bench, "skytext", size, bench.num_queries) for size in bench.growth}


def filtered(bench: Bench) -> dict[str, Any]:
    """Search with a filter that selects a collection with 0.1 % of the images."""
    questions = bench.questions(bench.num_images, bench.num_queries, rare=True)
    found = {}
    for name, builder in (
        ("skytext", "skytext"),
        ("skytext-copied", "skytext"),
        ("lancedb", "lancedb"),
    ):
        built = _folder(bench, builder, bench.num_images)
        if (built / "built.json").exists():
            side = f"{name}-filtered"
            found[name] = _side(side, "serve", bench, bench.num_images, built, questions)
    return found


def filters(bench: Bench) -> dict[str, Any]:
    """Search the small table with filters that select few, half or nearly all images."""
    built(bench, "skytext", bench.num_small, bench.num_queries)
    queries = caption_vectors(bench.num_small).queries(bench.num_queries)
    return measure_filters(_folder(bench, "skytext", bench.num_small) / "index", queries)


def system(bench: Bench, name: str, num_images: int, num_queries: int) -> dict[str, Any]:
    """Build the index of one system if necessary, and search the index."""
    found = built(bench, name, num_images, num_queries)
    if "given_up_after_s" in found:
        return found
    questions = bench.questions(num_images, num_queries)
    return found | _side(
        name, "serve", bench, num_images, _folder(bench, name, num_images), questions
    )


def built(bench: Bench, name: str, num_images: int, num_queries: int) -> dict[str, Any]:
    """Build the index of one system if necessary. Return the cost of the build."""
    folder = _folder(bench, name, num_images)
    record = folder / "built.json"
    if record.exists() and not bench.anew:
        found: dict[str, Any] = json.loads(record.read_text(encoding="utf-8"))
        return found
    questions = bench.questions(num_images, num_queries)
    found = _side(name, "build", bench, num_images, folder, questions)
    (folder / "index").mkdir(parents=True, exist_ok=True)
    record.write_text(json.dumps(found), encoding="utf-8")
    return found


def _folder(bench: Bench, name: str, num_images: int) -> Path:
    return bench.work / f"{name}-{num_images}"


def _side(
    name: str, what: str, bench: Bench, num_images: int, folder: Path, questions: Path
) -> dict[str, Any]:
    paths = [str(bench.table(num_images)), str(folder / "index"), str(questions)]
    environment = os.environ | {"LANCE_LOG": "error", "HF_HUB_OFFLINE": "1"}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "bench.search.side", name, what, *paths, str(bench.span_s)],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            timeout=bench.build_limit_s,
        )
    except subprocess.TimeoutExpired:
        return {"given_up_after_s": bench.build_limit_s}
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found
