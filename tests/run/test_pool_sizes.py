from __future__ import annotations

from typing import Any

import pytest

from skytext.config.settings import load_config
from skytext.run.pool_sizes import PoolSizes, pool_sizes


def sizes(free_cpus: float = 1000.0, free_gpus: float = 1000.0, **settings: Any) -> PoolSizes:
    given = {name.replace("__", "."): value for name, value in settings.items()}
    return pool_sizes(load_config(None, given), free_cpus, free_gpus)


def test_sizes_for_a_single_engine() -> None:
    assert sizes() == PoolSizes(1, 1, num_embedders=1, num_readers=2, num_writers=2)


def test_sizes_follow_from_the_largest_pool_of_engines() -> None:
    found = sizes(caption__engine__num_engines=4, caption__engine__max_engines=16)
    assert found == PoolSizes(4, 16, num_embedders=16, num_readers=16, num_writers=4)


def test_configured_sizes_are_kept() -> None:
    found = sizes(caption__engine__num_engines=8, embed__num_actors=3, job__readers=1)
    assert (found.num_embedders, found.num_readers, found.num_writers) == (3, 1, 2)


@pytest.mark.parametrize(
    ("free_cpus", "free_gpus", "settings", "num_embedders"),
    [
        (2.0, 0.0, {}, 3),  # (2 - 0.25 - 0.1) / 0.5
        (0.4, 0.0, {}, 1),  # At least one embedder is needed.
        (100.0, 0.55, {"embed__num_gpus_per_actor": 0.25}, 2),
    ],
)
def test_the_number_of_embedders_fits_the_cluster(
    free_cpus: float, free_gpus: float, settings: dict[str, Any], num_embedders: int
) -> None:
    found = sizes(free_cpus, free_gpus, caption__engine__num_engines=8, **settings)
    assert found.num_embedders == num_embedders


def test_a_maximum_below_the_minimum_is_rejected() -> None:
    from skytext.errors import ConfigError

    with pytest.raises(ConfigError, match="must not be below num_engines"):
        sizes(caption__engine__num_engines=4, caption__engine__max_engines=2)
