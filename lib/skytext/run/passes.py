"""The passes of a run: first all images, then the put-off images, until there are none."""

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
    """Yield a data set for each pass. The caller commits a pass before it requests the next.

    Images are put off while another engine describes the same bytes. In the next pass, most of them
    find this description in the table, and no engine starts. If the run ends before that, they have
    no row and are new in the next run.

    Args:
        plan: plan of the run.
        prepared: starting point of the run.
        run_id: id of the run.
        pools: sizes of the stages, and GPUs per engine.
        progress: counts the put-off images.
        version: returns the latest version that the run knows.
    """
    sizes, gpus = pools
    known = prepared.described
    is_shared = sizes.max_engines > 1
    ledger = start_ledger(known) if is_shared else LocalLedger(ContentLedger(), known)
    prepared = dataclasses.replace(prepared, ledger=ledger)
    yield build_dataset(plan, prepared, run_id, sizes, gpus)
    # One engine receives all images of a content, and describes it once, even after a failure.
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
