"""The passes of a run.

The first pass processes all images of the run. Each later pass processes the images that the pass
before it has put off.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import ray.data

from skytext.run.control.content_ledger import ContentLedger, LocalLedger, start_ledger
from skytext.run.control.prepare_table import Prepared
from skytext.run.plans.caption_plan import CaptionPlan
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
    """Yield one data set per pass.

    The caller must commit all rows of a pass before it requests the data set of the next pass.

    An image is put off if the same bytes belong to another image, and the description of this other
    image is not ready or not committed. In the next pass, the table already contains the
    description of most put-off images, so the engine need not describe these images. If the run
    ends before the next pass, the put-off images have no row. The next run then describes them.

    Args:
        plan: plan of the run.
        prepared: the starting point of the run.
        run_id: id of the run.
        pools: the sizes of the stages, and the number of GPUs per engine.
        progress: the progress of the run. It contains the put-off images.
        version: a function that returns the latest table version that the run made or saw.
    """
    sizes, gpus = pools
    known = prepared.described
    is_shared = sizes.max_engines > 1
    ledger = start_ledger(known) if is_shared else LocalLedger(ContentLedger(), known)
    prepared = dataclasses.replace(prepared, ledger=ledger)
    yield build_dataset(plan, prepared, run_id, sizes, gpus)
    # Later passes use a single engine, so all images with the same bytes are sent to the same
    # engine. If the first of these images fails, the engine does not put off the other images.
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
