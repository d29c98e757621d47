"""Build the vector index of a large table on a cluster.

INPUT    the latest version of a table, and the plan of the index.
OUTPUT   the committed index, in one segment.
FAN-OUT  the driver trains the partitions. Each task encodes the vectors of some fragments.
ON ERROR the whole build fails. The files that were written stay in the store until a clean-up
         deletes them.
"""

from __future__ import annotations

from typing import Any

import lance
import lance_ray
import ray

from skytext.config.settings import Config
from skytext.errors import JobError
from skytext.run.cluster.cluster import ray_cluster
from skytext.table.images_dataset import ImagesTable
from skytext.table.index_facts import VECTOR_INDEX
from skytext.table.indexes.build_indexes import BuildVectorIndex
from skytext.table.indexes.vector_index import VectorPlan
from skytext.table.location import IMAGES

# By default the tasks of lance-ray request no CPU. Ray then starts the tasks on random nodes, so
# one node may get two tasks and another node may get no task. A head node that was started without
# CPUs must not run tasks, but Ray may start a task without a CPU request on this head node.
_ONE_A_NODE: dict[str, Any] = {"num_cpus": 1, "scheduling_strategy": "SPREAD"}


def vector_index_on_ray(config: Config, ray_address: str | None) -> BuildVectorIndex:
    """Return a function that builds the vector index on a cluster, for `build_indexes`.

    The returned function joins or starts Ray when it is called, and not earlier.

    Args:
        config: the settings. They contain the number of tasks.
        ray_address: address of a cluster; None for ``RAY_ADDRESS`` or a local Ray.
    """

    def build(table: ImagesTable, plan: VectorPlan) -> None:
        with ray_cluster(ray_address, config):
            build_vector_index(table, plan, config.index.num_workers)

    return build


def build_vector_index(
    table: ImagesTable, plan: VectorPlan, num_workers: int | None = None
) -> None:
    """Build the vector index with several tasks.

    Each task writes one segment of the index. Then all segments are merged into one segment,
    because a search reads all segments, and each segment adds latency.

    Args:
        table: the latest version of the table.
        plan: the plan of the index.
        num_workers: number of tasks. If None, there is one task for each node that has a CPU. A
            task uses all cores of its node.

    Raises:
        JobError: a task failed.
    """
    options = plan.options()
    # lance-ray requires that the number of rows is at least the sample size. A small table can have
    # fewer rows, because the sample size is a number of vectors and a row has several vectors. So
    # the sample rate is lowered for small tables. Product quantisation trains 256 centroids.
    num_trained = max(plan.num_partitions, 256 if plan.num_sub_vectors else 1)
    fitting = table.dataset.count_rows() // num_trained
    options["sample_rate"] = max(1, min(options["sample_rate"], fitting))
    num_tasks = num_workers or max(1, sum(_takes_tasks(node) for node in ray.nodes()))
    num_tasks = min(num_tasks, len(table.dataset.get_fragments()))
    try:
        built = lance_ray.create_index(
            column=table.text_column.name,
            index_type=plan.kind,
            name=VECTOR_INDEX,
            replace=True,
            num_workers=num_tasks,
            num_segments=num_tasks,
            ray_remote_args=_ONE_A_NODE,
            **table.location.lance_ray_options(IMAGES),
            **options,
        )
    except (RuntimeError, ValueError) as error:
        message = " ".join(str(error).split())[:500]
        raise JobError(f"the vector index could not be built on Ray: {message}") from error
    merge_segments(built)


def _takes_tasks(node: dict[str, Any]) -> bool:
    return bool(node["Alive"]) and node["Resources"].get("CPU", 0.0) >= 1.0


def merge_segments(dataset: lance.LanceDataset) -> None:
    """Merge all segments of the vector index into one segment, and commit this index."""
    num_segments = sum(
        len(index.segments) for index in dataset.describe_indices() if index.name == VECTOR_INDEX
    )
    if num_segments > 1:
        dataset.optimize.optimize_indices(
            index_names=[VECTOR_INDEX], num_indices_to_merge=num_segments
        )
