"""The progress and the result of a run."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from skytext.archive import Shard
from skytext.archive.ignored import count_kind
from skytext.errors import StoreFaultError
from skytext.run.proof.compare_rows import Proof
from skytext.run.units import UnitHead, UnitRecord
from skytext.run.worklist import ShardPlan
from skytext.table.schema import STATUS_FAILED, STATUS_OK

ShardKey = tuple[str, str]
"""Name of the archive, and path of the shard."""

_NUM_UNREAD_SHOWN = 10


@dataclass
class Progress:
    """The progress of a run. The caller receives it after every unit."""

    total_bytes: int
    num_to_do: int = 0
    bytes_done: int = 0
    num_listed: int = 0
    num_skipped: int = 0
    num_ok: int = 0
    num_failed: int = 0
    num_committed: int = 0
    num_adopted: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    failure_samples: dict[str, str] = field(default_factory=dict)
    embed_s: float = 0.0
    ran_on: tuple[str, str] | None = None
    unusable: Counter[str] = field(default_factory=Counter)
    unusable_examples: dict[str, str] = field(default_factory=dict)
    num_many_bands: int = 0
    sums: Counter[str] = field(default_factory=Counter)
    engines: dict[str, dict[str, Any]] = field(default_factory=dict)
    num_gone: int = 0
    num_gone_with_shard: int = 0
    totals: Counter[str] = field(default_factory=Counter)
    listed_by_shard: Counter[ShardKey] = field(default_factory=Counter)
    units_by_shard: Counter[ShardKey] = field(default_factory=Counter)
    ignored: Counter[str] = field(default_factory=Counter)
    unread: dict[ShardKey, str] = field(default_factory=dict)
    put_off: dict[ShardKey, list[str]] = field(default_factory=dict)
    is_later_pass: bool = False
    num_away_in_a_row: int = 0
    example: tuple[str, str] | None = None
    is_stopping: bool = False
    is_budget_spent: bool = False
    prepare_s: float = 0.0
    commit_s: float = 0.0
    finish_s: float = 0.0
    _first_s: float | None = None
    _first_images: int = 0
    images_per_s: float = 0.0

    def add_settled(self, shard: ShardPlan) -> None:
        """Count a shard that needs no work."""
        self.bytes_done += shard.shard.size_bytes
        self.num_listed += shard.num_listed
        self.num_skipped += shard.num_listed
        self.num_gone += shard.num_gone_ok + shard.num_gone_failed
        self.totals[STATUS_OK] += shard.num_listed_ok
        self.totals[STATUS_FAILED] += shard.num_listed - shard.num_listed_ok

    def add(self, record: UnitRecord) -> None:
        """Count a unit."""
        self._add_head(record.head)
        if record.put_off:
            key = (record.head.archive, record.head.shard)
            self.put_off.setdefault(key, []).extend(record.put_off)
        self.num_ok += record.num_ok
        self.num_failed += record.num_failed
        self.failures.update(record.failures)
        self.failure_samples = {**record.failure_samples, **self.failure_samples}
        self.embed_s += record.embed_s
        self.ran_on = record.ran_on or self.ran_on
        self.unusable.update(record.unusable)
        self.unusable_examples = {**record.unusable_examples, **self.unusable_examples}
        self.sums.update(record.sums)
        self.example = record.example
        self._measure_rate()
        clock = record.engine_clock
        if clock is not None and clock["span_s"] >= self._span(clock["engine"]):
            self.engines[clock["engine"]] = dict(clock)

    @property
    def num_done(self) -> int:
        """Number of images that this run has finished, with or without a failure."""
        return self.num_ok + self.num_failed

    def _add_head(self, head: UnitHead) -> None:
        key = (head.archive, head.shard)
        if head.fault:
            self.unread.setdefault(key, head.fault)
        if head.is_store_away:
            self.num_away_in_a_row += 1
        elif head.num_listed:
            self.num_away_in_a_row = 0
        if self.is_later_pass:
            # The first pass already counted the shard and its images.
            return
        self.bytes_done += head.shard_bytes_read
        self.num_listed += head.num_listed
        self.num_skipped += head.num_skipped
        self.num_many_bands += head.num_many_bands
        self.listed_by_shard[key] += head.num_listed
        self.units_by_shard[key] += 1
        for kind, number in head.ignored:
            count_kind(self.ignored, kind, number)

    def is_unread(self, shard: Shard) -> bool:
        """Return whether the store did not deliver a part of the shard."""
        return (shard.archive, shard.path) in self.unread

    def was_read(self, shard: Shard) -> bool:
        """Return whether this run has read the shard to its end."""
        return self.met(shard)[1] > 0 and not self.is_unread(shard)

    def met(self, shard: Shard) -> tuple[int, int]:
        """Return how many images and how many units of a shard the driver has received."""
        key = (shard.archive, shard.path)
        return self.listed_by_shard[key], self.units_by_shard[key]

    def add_proof(self, proof: Proof) -> None:
        """Add the counts of a proof. A proof counts the rows of the shards that the run read."""
        self.totals.update(proof.totals)
        self.num_gone += proof.num_gone
        # If a shard was not read to its end, its total number of images is unknown. So subtract the
        # images of this shard from the number of listed images.
        self.num_listed -= sum(self.listed_by_shard[key] for key in self.unread)

    def _measure_rate(self) -> None:
        # Measure the rate from the time of the first finished unit. The rate then does not include
        # the time in which Ray and the engine start.
        now = time.monotonic()
        if self._first_s is None:
            self._first_s, self._first_images = now, self.num_done
        elif now > self._first_s:
            self.images_per_s = (self.num_done - self._first_images) / (now - self._first_s)

    def _span(self, engine: str) -> float:
        return float(self.engines.get(engine, {"span_s": 0.0})["span_s"])


@dataclass(frozen=True, slots=True)
class RunSummary:
    """The result of a captioning run. ``to_json`` is the output of the command with ``--json``.

    ``num_unread`` is the number of shards that the store did not deliver completely. Some images
    in these shards may have no row. ``unread`` contains up to ten of these shards and the reasons.
    ``ignored`` is the number of files that are not images, by file kind, in the shards that were
    read. The file kinds are defined in :mod:`skytext.archive.ignored`.

    ``unusable`` is, for each field, the number of source values that could not be used.
    ``unusable_examples`` contains one such value for each field. ``num_many_bands`` is the number
    of images with more than three bands. It is counted only if ``images.bands`` is not set.

    ``is_partial`` is true if the run ended because its budget was spent. Such a run finishes the
    work that it has started, and does not verify the table.

    ``stale_vectors`` contains one `skytext.run.vector_run.VectorSummary` for each run that embedded
    images or descriptions again with another model.

    ``prepare_s`` is the time to process the staged units of an earlier run and to plan this run.
    ``finish_s`` is the time of the last commit and of the verification. No engine works during
    ``prepare_s`` and ``finish_s``. ``commit_s`` is the total time of all commits. Engines work
    during most commits.
    """

    run_id: str
    num_listed: int
    num_ok: int
    num_failed: int
    num_captioned: int
    num_newly_failed: int
    num_adopted: int
    num_skipped: int
    num_stale: int
    num_gone: int
    num_unread: int
    unread: dict[str, str]
    failures: dict[str, int]
    unusable: dict[str, int]
    unusable_examples: dict[str, str]
    num_many_bands: int
    ignored: dict[str, int]
    num_variants: int
    num_prompt_tokens: int
    num_cached_tokens: int
    num_output_tokens: int
    num_truncated_variants: int
    num_engines: int
    table_version: int | None
    is_partial: bool
    duration_s: float
    prepare_s: float
    commit_s: float
    finish_s: float
    images_per_s: float
    engine_span_s: float
    engine_idle_s: float
    output_tokens_per_s: float
    stale_vectors: list[dict[str, Any]] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return the fields as a JSON object."""
        return {name: getattr(self, name) for name in self.__slots__}


def check_all_read(summary: RunSummary) -> None:
    """Raise an error if the store did not deliver every shard completely.

    Raises:
        StoreFaultError: the store did not deliver a part of a shard.
    """
    if summary.num_unread:
        shards = "; ".join(f"{shard}: {why}" for shard, why in list(summary.unread.items())[:3])
        number = f"{summary.num_unread:,} shard{'s were' if summary.num_unread != 1 else ' was'}"
        raise StoreFaultError(
            f"{number} not read to the end ({shards}). Some images of these shards may not be in "
            "the table. To read these shards, run the same command again"
        )


def summarise(
    run_id: str,
    progress: Progress,
    num_stale: int,
    table_version: int | None,
    duration_s: float,
) -> RunSummary:
    """Return the summary of a run.

    Args:
        run_id: id of the run.
        progress: the final progress of the run.
        num_stale: number of rows whose caption fingerprint differs from the caption fingerprint of
            the run.
        table_version: the last table version that the run made or saw.
        duration_s: duration of the run in seconds.
    """
    span_s = sum(engine["span_s"] for engine in progress.engines.values())
    sums = progress.sums
    return RunSummary(
        run_id=run_id,
        num_listed=progress.num_listed,
        num_ok=progress.totals[STATUS_OK],
        num_failed=progress.totals[STATUS_FAILED],
        num_captioned=progress.num_ok,
        num_newly_failed=progress.num_failed,
        num_adopted=progress.num_adopted,
        num_skipped=progress.num_skipped,
        num_stale=num_stale,
        num_gone=progress.num_gone + progress.num_gone_with_shard,
        num_unread=len(progress.unread),
        unread={key[1]: why for key, why in list(progress.unread.items())[:_NUM_UNREAD_SHOWN]},
        failures=dict(progress.failures),
        unusable=dict(progress.unusable),
        unusable_examples=dict(progress.unusable_examples),
        num_many_bands=progress.num_many_bands,
        ignored=dict(progress.ignored),
        num_variants=sums["num_variants"],
        num_prompt_tokens=sums["num_prompt_tokens"],
        num_cached_tokens=sums["num_cached_tokens"],
        num_output_tokens=sums["num_output_tokens"],
        num_truncated_variants=sums["num_truncated_variants"],
        num_engines=len(progress.engines),
        table_version=table_version,
        is_partial=progress.is_budget_spent,
        duration_s=round(duration_s, 3),
        prepare_s=round(progress.prepare_s, 3),
        commit_s=round(progress.commit_s, 3),
        finish_s=round(progress.finish_s, 3),
        images_per_s=round(progress.num_ok / duration_s, 3) if duration_s else 0.0,
        engine_span_s=round(span_s, 3),
        engine_idle_s=round(sum(e["idle_s"] for e in progress.engines.values()), 3),
        output_tokens_per_s=round(sums["num_output_tokens"] / span_s, 1) if span_s else 0.0,
    )
