"""The passes of a run: all images, then those that were put off, until there are none."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import ray.data

from skytext.run.caption_plan import CaptionPlan
from skytext.run.control.content_ledger import ContentLedger, LocalLedger, start_ledger
from skytext.run.control.prepare_table import Prepared
from skytext.run.pool_sizes import PoolSizes
from skytext.run.progress import Progress
from skytext.run.ray_dataset import build_dataset


def datasets_of_run(
    plan: CaptionPlan,
    prepared: Prepared,
    run_id: str,
    pools: tuple[PoolSizes, float],
    progress: Progress,
    version: Callable[[], int | None],
) -> Iterator[ray.data.Dataset]:
    """Yield a data set for each pass; what it did is committed before the next is asked for.

    Images are put off whose bytes another engine was describing. Most find their words in the
    table by then, and no engine starts. A run that ends before leaves them without a row: they are
    new to the next one.

    Args:
        plan: of the run.
        prepared: what it starts from.
        run_id: the run.
        pools: sizes of the stages, and GPUs an engine asks for.
        progress: tells what was put off.
        version: returns the table's version as the run sees it.
    """
    sizes, gpus = pools
    known = prepared.described
    is_shared = sizes.max_engines > 1
    ledger = start_ledger(known) if is_shared else LocalLedger(ContentLedger(), known)
    prepared = dataclasses.replace(prepared, ledger=ledger)
    yield build_dataset(plan, prepared, run_id, sizes, gpus)
    # One engine meets all images of a content, and describes it once, even where that fails.
    sizes = dataclasses.replace(sizes, num_engines=1, max_engines=1)
    while progress.put_off:
        put_off, progress.put_off = progress.put_off, {}
        progress.is_later_pass = True
        ledger.begin_pass()
        rest = dataclasses.replace(
            prepared,
            adoption=dataclasses.replace(prepared.adoption, version=version()),
            shards=tuple(
                dataclasses.replace(one, fragments=None)
                for one in prepared.shards
                if (one.shard.archive, one.shard.path) in put_off
            ),
            only=frozenset().union(*put_off.values()),
        )
        yield build_dataset(plan, rest, run_id, sizes, gpus)
