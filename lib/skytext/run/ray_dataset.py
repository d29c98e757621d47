"""Build a run as a lazy Ray data set that yields unit records."""

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
from skytext.run.cluster.cluster import job_error
from skytext.run.control.backpressure import limit_unstaged
from skytext.run.control.live_count import LiveCount
from skytext.run.control.prepare_table import Prepared
from skytext.run.control.prepare_vectors import PreparedVectors
from skytext.run.control.stop_flag import StopFlag
from skytext.run.plans.caption_plan import CaptionPlan
from skytext.run.plans.vector_plan import VectorPlan
from skytext.run.pool_sizes import PoolSizes, pool_sizes
from skytext.run.stages.background_actor import number_to_share
from skytext.run.stages.caption_images import CaptionUnits
from skytext.run.stages.decode_images import ImageDecoder
from skytext.run.stages.embed_text import EmbedUnits
from skytext.run.stages.fetch_images import ImageFetcher
from skytext.run.stages.list_rows import RowLister
from skytext.run.stages.read_shards import ShardReader, shard_row
from skytext.run.stages.stage_vectors import StageVectors
from skytext.run.stages.write_rows import UnitWriter
from skytext.run.units import UnitRecord

# Every unit is one row, and every row is one block; see `skytext.run.units`. The batch size is set,
# because Ray Data requires a batch size if an operator uses GPUs.
ONE_UNIT: dict[str, Any] = {"batch_format": "pyarrow", "batch_size": 1}


def build_dataset(
    plan: CaptionPlan,
    prepared: Prepared,
    run_id: str,
    sizes: PoolSizes,
    gpus_per_engine: float,
) -> ray.data.Dataset:
    """Return a captioning run as a lazy Ray data set that yields unit records.

    Args:
        plan: the result of `plan_caption`.
        prepared: the starting point of the run. At least one shard must need work.
        run_id: id of the run.
        sizes: sizes of the stages.
        gpus_per_engine: number of GPUs per engine.
    """
    stop = StopFlag(plan.location, run_id)
    units = _decoded(plan, prepared, run_id, sizes, stop)
    units = _captioned(units, plan, prepared, sizes, gpus_per_engine, stop)
    return _written(units, plan, prepared, run_id, sizes)


def _decoded(
    plan: CaptionPlan, prepared: Prepared, run_id: str, sizes: PoolSizes, stop: StopFlag
) -> ray.data.Dataset:
    """Return a data set of units with decoded images."""
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
    # If the decoding stage has the same size as the reading stage, Ray Data runs both stages in one
    # task, and units are not moved between nodes. If there are fewer shards than readers, for
    # example one large folder, several tasks decode the units of one shard.
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
    """Return a data set of units with described images."""
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
    """Return a data set of unit records. The units are embedded and staged."""
    config, job = plan.config, plan.config.job
    units = units.map_batches(
        EmbedUnits,
        fn_constructor_args=(config.embed, plan.embed_model, plan.load_pending),
        fn_constructor_kwargs={
            # Some of several embedders may get no unit, so they must not load their models early.
            # On a GPU, the engine must measure the free memory before the models are loaded.
            "live_count": LiveCount(run_id)
            if sizes.num_embedders == 1 and not config.embed.num_gpus_per_actor
            else None,
            "num_actors": number_to_share(sizes.num_embedders, config.embed.num_gpus_per_actor),
        },
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
        # Ray warns if there are fewer units than tasks. Every shard yields at least one unit.
        compute=TaskPoolStrategy(size=min(sizes.num_writers, num_shards)),
        **ONE_UNIT,
    )


def build_vector_dataset(
    plan: VectorPlan, prepared: PreparedVectors, stop: StopFlag
) -> ray.data.Dataset:
    """Return a run that fills a vector column, as a lazy Ray data set that yields unit records.

    Args:
        plan: plan of the run.
        prepared: the starting point of the run. At least one row must have no vector.
        stop: the stop flag of the run.
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
        fn_constructor_kwargs={
            "num_actors": number_to_share(plan.num_actors, plan.per_actor.num_gpus)
        },
        compute=actor_pool(plan.num_actors, plan.num_actors, 1),
        num_cpus=plan.per_actor.num_cpus,
        num_gpus=plan.per_actor.num_gpus,
        **ONE_UNIT,
    )


def _fetched(
    units: ray.data.Dataset, plan: VectorPlan, prepared: PreparedVectors, stop: StopFlag
) -> ray.data.Dataset:
    """Return a data set of units with decoded images."""
    embed = plan.config.image_embed
    num_images = sum(group.num_images for group in prepared.groups)
    # Ray warns if there are fewer units than tasks. So use the minimum number of units as a limit
    # for the number of tasks.
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
    """Execute a data set, and yield the record of every unit.

    Raises:
        SkytextError: an operator raised this error.
        JobError: the cluster failed.
    """
    # If an earlier execution failed, the execution and its exception form a reference cycle. Until
    # Python deletes this cycle, the actors of the failed execution occupy their CPUs. The new
    # execution could wait for these CPUs forever.
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
        # The execution must end before Ray is shut down. So end the execution here, even if another
        # object still refers to it.
        close = getattr(batches, "close", None)
        if close is not None:
            close()


def _from_rows(rows: list[dict[str, Any]], context: DataContext) -> ray.data.Dataset:
    """Return a data set of ``rows`` with the given context. Each row is one block."""
    with DataContext.current(context):
        return ray.data.from_items(rows, override_num_blocks=len(rows))


def own_context() -> DataContext:
    """Return the settings of Ray Data for the data set of a run.

    With these settings, each row is one block, Ray Data prints nothing, and errors of operators are
    raised unchanged. The settings do not affect other data sets in this process.
    """
    # Ray warns if a stage has fewer units than tasks or actors. This is normal for small runs.
    warnings.filterwarnings("ignore", message="The (min|max)imum number of concurrent")
    context = DataContext.get_current().copy()
    context.target_max_block_size = 1
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    # With this setting, the error that an operator raised is the direct cause of the task's error.
    context.raise_original_map_exception = True
    # A pool grows when all its actors are busy. A pool never shrinks, because an actor may be idle
    # for only a short time, and an engine needs minutes to start.
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
    """Return a pool of actors. Each actor processes ``concurrency`` units at the same time."""
    return ActorPoolStrategy(
        min_size=min_size,
        max_size=max_size,
        # Each actor receives two additional units. So the next unit is already in the queue of the
        # actor when the actor finishes a unit.
        max_tasks_in_flight_per_actor=concurrency + 2,
        max_concurrent_calls_per_actor=concurrency,
    )
