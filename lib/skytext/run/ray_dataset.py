"""The job as a lazy Ray data set of unit records."""

from __future__ import annotations

import gc
import math
import warnings
from collections.abc import Generator
from typing import Any

import ray
import ray.data
from ray.data import ActorPoolStrategy, DataContext, TaskPoolStrategy
from ray.exceptions import RayError

from skytext.pixels.decode import ImageLimits
from skytext.run.caption_plan import CaptionPlan
from skytext.run.control.backpressure import limit_unstaged
from skytext.run.control.cluster import job_error
from skytext.run.control.live_count import LiveCount
from skytext.run.control.prepare_table import Prepared
from skytext.run.control.prepare_vectors import PreparedVectors
from skytext.run.control.stop_flag import StopFlag
from skytext.run.pool_sizes import PoolSizes, pool_sizes
from skytext.run.stages.caption_images import CaptionUnits
from skytext.run.stages.decode_images import ImageDecoder
from skytext.run.stages.embed_text import EmbedUnits
from skytext.run.stages.fetch_images import ImageFetcher
from skytext.run.stages.list_rows import RowLister
from skytext.run.stages.read_shards import ShardReader, shard_row
from skytext.run.stages.stage_vectors import StageVectors
from skytext.run.stages.write_rows import UnitWriter
from skytext.run.units import UnitRecord
from skytext.run.vector_plan import VectorPlan

# Every unit is one row, and every row one block: see `skytext.run.units`. Without a batch size, Ray
# Data rejects operators with GPUs.
ONE_UNIT: dict[str, Any] = {"batch_format": "pyarrow", "batch_size": 1}


def build_dataset(
    plan: CaptionPlan,
    prepared: Prepared,
    run_id: str,
    sizes: PoolSizes,
    gpus_per_engine: float,
) -> ray.data.Dataset:
    """Return the job as a lazy Ray data set of unit records.

    Args:
        plan: from `plan_caption`.
        prepared: the table and its shards, at least one with work.
        run_id: id of the run.
        sizes: sizes of the stages.
        gpus_per_engine: GPUs per engine.
    """
    stop = StopFlag(plan.location, run_id)
    units = _decoded(plan, prepared, run_id, sizes, stop)
    units = _captioned(units, plan, prepared, sizes, gpus_per_engine, stop)
    return _written(units, plan, prepared, run_id, sizes)


def _decoded(
    plan: CaptionPlan, prepared: Prepared, run_id: str, sizes: PoolSizes, stop: StopFlag
) -> ray.data.Dataset:
    """Return units of decoded images."""
    job = plan.config.job
    rows = [
        shard_row(one.shard, one.fragments, one.num_known if one.by_rows else None)
        for one in prepared.shards
        if one.must_read
    ]
    num_readers = min(sizes.num_readers, len(rows))
    reader = _reader(plan, run_id, prepared, stop)
    context = own_context()
    limit_unstaged(context, CaptionUnits.__name__, job)
    units = _from_rows(rows, context)
    units = units.map_batches(
        reader.__call__,
        num_cpus=job.read_cpus,
        compute=TaskPoolStrategy(size=num_readers),
        **ONE_UNIT,
    )
    # Ray Data fuses two stages of the same size, so units do not move between them. With fewer
    # shards than readers (one large folder), several tasks decode the units of one shard.
    return units.map_batches(
        _decoder(plan).__call__,
        num_cpus=job.read_cpus,
        compute=TaskPoolStrategy(size=sizes.num_readers),
        **ONE_UNIT,
    )


def _captioned(
    units: ray.data.Dataset,
    plan: CaptionPlan,
    prepared: Prepared,
    sizes: PoolSizes,
    gpus_per_engine: float,
    stop: StopFlag,
) -> ray.data.Dataset:
    """Return units of described images, from the pool of engines."""
    config = plan.config
    return units.map_batches(
        CaptionUnits,
        fn_constructor_args=(config.caption, config.images, plan.caption_model, plan.prompt),
        fn_constructor_kwargs={
            "stop": stop,
            "location": plan.location,
            "ledger": prepared.ledger,
            "live_count": LiveCount(stop.run_id),
            "make_captioner": plan.make_captioner,
        },
        compute=actor_pool(sizes.num_engines, sizes.max_engines, config.job.units_in_flight),
        num_cpus=config.caption.engine.num_cpus_per_engine,
        num_gpus=gpus_per_engine,
        **ONE_UNIT,
    )


def _written(
    units: ray.data.Dataset, plan: CaptionPlan, prepared: Prepared, run_id: str, sizes: PoolSizes
) -> ray.data.Dataset:
    """Return records of embedded and staged units."""
    config, job = plan.config, plan.config.job
    units = units.map_batches(
        EmbedUnits,
        fn_constructor_args=(config.embed, plan.embed_model, plan.load_pending),
        compute=actor_pool(sizes.num_embedders, sizes.num_embedders, 1),
        num_cpus=config.embed.num_cpus_per_actor,
        num_gpus=config.embed.num_gpus_per_actor,
        **ONE_UNIT,
    )
    writer = UnitWriter(
        plan.location,
        run_id,
        plan.column,
        plan.caption_fingerprint,
        pending=None if plan.pending is None else plan.pending.column,
    )
    num_shards = sum(shard.must_read for shard in prepared.shards)
    return units.map_batches(
        writer.__call__,
        num_cpus=job.write_cpus,
        # Every shard yields at least one unit. Ray warns if there are fewer units than actors.
        compute=TaskPoolStrategy(size=min(sizes.num_writers, num_shards)),
        **ONE_UNIT,
    )


def build_vector_dataset(
    plan: VectorPlan, prepared: PreparedVectors, stop: StopFlag
) -> ray.data.Dataset:
    """Return a run that fills a vector column, as a lazy Ray data set of unit records.

    Args:
        plan: plan of the run.
        prepared: the rows to do, at least one.
        stop: flag that tells the stages to stop.
    """
    embed, job = plan.config.image_embed, plan.config.job
    lister = RowLister(
        location=plan.location,
        version=prepared.version,
        column=plan.column,
        unit_images=embed.unit_images,
        unit_bytes=embed.unit_bytes,
        stop=stop,
    )
    rows = [
        {"group": group.name, "fragment_ids": list(group.fragment_ids)} for group in prepared.groups
    ]
    units = _from_rows(rows, own_context())
    units = units.map_batches(
        lister.__call__, num_cpus=job.write_cpus, compute=TaskPoolStrategy(size=1), **ONE_UNIT
    )
    if plan.of_images:
        units = _fetched(units, plan, prepared, stop)
    return units.map_batches(
        StageVectors,
        fn_constructor_args=(plan.load, plan.column, plan.location, stop),
        compute=actor_pool(plan.num_actors, plan.num_actors, 1),
        num_cpus=plan.per_actor.num_cpus,
        num_gpus=plan.per_actor.num_gpus,
        **ONE_UNIT,
    )


def _fetched(
    units: ray.data.Dataset, plan: VectorPlan, prepared: PreparedVectors, stop: StopFlag
) -> ray.data.Dataset:
    """Return units of decoded images."""
    embed = plan.config.image_embed
    num_images = sum(group.num_images for group in prepared.groups)
    # Ray warns if there are fewer units than tasks; there are at least this many units.
    num_units = math.ceil(num_images / embed.unit_images)
    readers = {
        "num_cpus": plan.config.job.read_cpus,
        "compute": TaskPoolStrategy(size=min(pool_sizes(plan.config).num_readers, num_units)),
        **ONE_UNIT,
    }
    fetcher = ImageFetcher(plan.reading, embed.read_threads, stop, plan.location)
    units = units.map_batches(fetcher.__call__, **readers)
    return units.map_batches(ImageDecoder(plan.limits).__call__, **readers)


def stream(dataset: ray.data.Dataset) -> Generator[UnitRecord, None, None]:
    """Execute the job and yield the record of every staged unit.

    Raises:
        SkytextError: the error of an operator.
        JobError: the cluster failed.
    """
    # A failed execution and its exception form a reference cycle. Until it is collected, its actors
    # hold their CPUs, and this execution could wait for them forever.
    gc.collect()
    batches = iter(
        dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
    )
    try:
        for batch in batches:
            for text in batch.column("record").to_pylist():
                yield UnitRecord.from_json(text)
    except RayError as error:
        raise job_error(error) from error
    finally:
        # The execution must end here, before Ray ends, even if something still refers to it.
        close = getattr(batches, "close", None)
        if close is not None:
            close()


def _from_rows(rows: list[dict[str, Any]], context: DataContext) -> ray.data.Dataset:
    """Return a data set with one block per row, also in later stages, in a given context."""
    with DataContext.current(context):
        return ray.data.from_items(rows, override_num_blocks=len(rows))


def own_context() -> DataContext:
    """Return settings with one block per row, no printed output, and unwrapped errors.

    They apply to one data set. Other uses of Ray Data in the process have their own settings.
    """
    # Ray warns if a stage has fewer units than tasks or actors. This is normal for small runs.
    warnings.filterwarnings("ignore", message="The (min|max)imum number of concurrent")
    context = DataContext.get_current().copy()
    context.target_max_block_size = 1
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    # Makes the operator's error the direct cause of the task's error.
    context.raise_original_map_exception = True
    # A pool grows when all its actors are busy. It never shrinks when an actor is briefly idle,
    # because the start of an engine takes minutes.
    context.autoscaling_config.actor_pool_util_upscaling_threshold = 1.0
    context.autoscaling_config.actor_pool_util_downscaling_threshold = -1.0
    return context


def _reader(plan: CaptionPlan, run_id: str, prepared: Prepared, stop: StopFlag) -> ShardReader:
    job = plan.config.job
    return ShardReader(
        unit_images=job.unit_images,
        unit_bytes=job.unit_bytes,
        limits=plan.limits,
        location=plan.location,
        table_version=prepared.version,
        run_id=run_id,
        select="failed" if plan.retry_failed else "new",
        described_with=plan.caption_fingerprint if plan.redo_stale else "",
        max_attempts=job.max_attempts,
        reading=plan.reading,
        stop=stop,
        only=prepared.only,
    )


def _decoder(plan: CaptionPlan) -> ImageDecoder:
    return ImageDecoder(ImageLimits.of(plan.config.images))


def actor_pool(min_size: int, max_size: int, concurrency: int) -> ActorPoolStrategy:
    """Return a pool of actors that each work on ``concurrency`` units at once."""
    return ActorPoolStrategy(
        min_size=min_size,
        max_size=max_size,
        # Two more than run at once, so that the next unit is in the actor before one ends.
        max_tasks_in_flight_per_actor=concurrency + 2,
        max_concurrent_calls_per_actor=concurrency,
    )
