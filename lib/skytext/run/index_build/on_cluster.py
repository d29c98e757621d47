"""Build the vector index of a large table on a cluster."""

from __future__ import annotations

from skytext.config.settings import Config
from skytext.run.control.cluster import ray_cluster
from skytext.run.index_build.distributed import build_vector_index
from skytext.table.images_dataset import ImagesTable
from skytext.table.indexes.build_indexes import BuildVectorIndex
from skytext.table.indexes.vector_index import VectorPlan


def vector_index_on_ray(config: Config, ray_address: str | None) -> BuildVectorIndex:
    """Return what `build_indexes` builds the vector index with, on a cluster.

    Ray is joined when, and only if, there is a vector index to build.

    Args:
        config: how many tasks.
        ray_address: a cluster; None for ``RAY_ADDRESS`` or a local Ray.
    """

    def build(table: ImagesTable, plan: VectorPlan) -> None:
        with ray_cluster(ray_address, config):
            build_vector_index(table, plan, config.index.num_workers)

    return build
