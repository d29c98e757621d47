"""Compare pooling and fusion with values computed by hand, and check required properties."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skytext.search.fusion import (
    FUSIONS,
    POOLINGS,
    best,
    fuse,
    mean_lengths,
    pool,
)
from tests.table.rows import unit_vectors

NAN = float("nan")
OFFSETS = np.array([0, 2, 3])


def rounded(values: Any) -> list[float]:
    return [round(float(value), 4) for value in values]


def test_pooling_by_hand() -> None:
    # The first image has two orthogonal variants. The length of their mean is sqrt(1/2).
    vectors = np.array([[1, 0], [0, 1], [0.6, 0.8], [1, 0]], dtype=np.float32)
    lengths = mean_lengths(vectors, OFFSETS)
    assert rounded(lengths) == [0.7071, 1, 1]
    scores = vectors @ np.array([1, 0], dtype=np.float32)
    assert rounded(pool(scores, OFFSETS, "max")) == [1, 0.6, 1]
    assert rounded(pool(scores, OFFSETS, "mean", lengths)) == [0.7071, 0.6, 1]
    assert rounded(pool(scores, OFFSETS, "max+mean", lengths)) == [0.8536, 0.6, 1]


@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_block_of_queries_is_pooled_like_each_alone(pooling: Any) -> None:
    vectors, queries = (
        unit_vectors(np.random.default_rng(1), (9, 8)),
        unit_vectors(np.random.default_rng(2), (4, 8)),
    )
    offsets = np.array([0, 1, 4, 8])
    lengths = mean_lengths(vectors, offsets)
    scores = queries @ vectors.T
    block = pool(scores, offsets, pooling, lengths)
    assert block.shape == (4, 4)
    assert block.dtype == np.float32
    for row, alone in zip(block, scores, strict=True):
        np.testing.assert_allclose(row, pool(alone, offsets, pooling, lengths), atol=1e-6)


def test_the_mean_is_the_cosine_with_the_mean_vector() -> None:
    vectors, query = (
        unit_vectors(np.random.default_rng(3), (6, 8)),
        unit_vectors(np.random.default_rng(4), (1, 8))[0],
    )
    offsets = np.array([0, 4])
    found = pool(vectors @ query, offsets, "mean", mean_lengths(vectors, offsets))
    for i, part in enumerate((vectors[:4], vectors[4:])):
        mean = part.mean(axis=0)
        assert found[i] == pytest.approx(mean @ query / np.linalg.norm(mean), abs=1e-6)


def test_variants_that_cancel_out_do_not_give_nan() -> None:
    vectors = np.array([[1, 0], [-1, 0]], dtype=np.float32)
    offsets = np.array([0])
    found = pool(vectors @ vectors[0], offsets, "mean", mean_lengths(vectors, offsets))
    assert found.tolist() == [0]


def test_the_mean_needs_lengths() -> None:
    with pytest.raises(ValueError, match="needs the lengths"):
        pool(np.zeros(3, np.float32), OFFSETS, "max+mean")


DENSE = np.array([0.9, 0.5, 0.1, NAN])
TEXT = np.array([NAN, 8.0, 8.0, 2.0])


def test_fusion_by_hand() -> None:
    found = fuse([DENSE, TEXT], "rrf")
    # If several images have the same score, each of them gets the best of their ranks.
    expected = [1 / 61, 1 / 62 + 1 / 61, 1 / 63 + 1 / 61, 1 / 63]
    np.testing.assert_allclose(found, np.array(expected) / 2, atol=1e-6)
    assert rounded(fuse([DENSE, TEXT], "minmax", [3, 1])) == [0.75, 0.625, 0.25, 0]
    floored = fuse([DENSE, TEXT], "floor", [1, 1], floors=[-1, 0])
    np.testing.assert_allclose(
        floored, [0.5, (1.5 / 1.9 + 1) / 2, (1.1 / 1.9 + 1) / 2, 0.125], atol=1e-6
    )
    z = fuse([DENSE], "z")
    root = np.sqrt(1.5)
    np.testing.assert_allclose(z, [root, 0, -root, -root], atol=1e-6)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_ranking_that_prefers_nothing_changes_nothing(fusion: Any) -> None:
    floors = [-1.0, 0.0]
    alone = best(fuse([DENSE], fusion, floors=floors[:1]), list("abcd"), 4)
    for flat in (np.full(4, NAN), np.zeros(4)):
        both = best(fuse([DENSE, flat], fusion, floors=floors), list("abcd"), 4)
        assert both.tolist() == alone.tolist()


@pytest.mark.parametrize("fusion", FUSIONS)
@given(seed=st.integers(0, 2**20), num=st.integers(1, 12))
@settings(max_examples=30, deadline=None)
def test_fusion_does_not_depend_on_the_order_of_the_images(
    fusion: Any, seed: int, num: int
) -> None:
    rng = np.random.default_rng(seed)
    one, two = rng.integers(-2, 3, num) / 2.0, rng.integers(0, 4, num) * 1.0
    one[rng.random(num) < 0.3] = NAN
    order = rng.permutation(num)
    keys = np.array([f"{i:03d}" for i in range(num)])
    before = fuse([one, two], fusion, [2, 1], [-1, 0])
    after = fuse([one[order], two[order]], fusion, [2, 1], [-1, 0])
    assert np.isfinite(before).all()
    np.testing.assert_allclose(before[order], after, atol=1e-6)
    assert keys[best(before, keys, 5)].tolist() == keys[order][best(after, keys[order], 5)].tolist()


@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_block_is_fused_like_each_query_alone(fusion: Any) -> None:
    rng = np.random.default_rng(5)
    one, two = rng.random((3, 7)), rng.random((3, 7))
    one[0, :3], one[1] = NAN, NAN
    block = fuse([one, two], fusion, [1, 2], [-1, 0])
    for i in range(3):
        alone = fuse([one[i], two[i]], fusion, [1, 2], [-1, 0])
        np.testing.assert_allclose(block[i], alone, atol=1e-6)


@pytest.mark.parametrize("fusion", ["rrf", "z", "minmax", "floor"])
@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 3)])
def test_nothing_to_rank_is_ranked_as_nothing(fusion: Any, shape: tuple[int, ...]) -> None:
    empty = np.zeros(shape)
    assert fuse([empty, empty], fusion, floors=[-1, 0]).shape == shape


def test_equals_go_by_their_keys() -> None:
    scores = np.array([0.5, 0.9, 0.5, NAN])
    assert best(scores, ["c", "a", "b", "d"], 10).tolist() == [1, 2, 0]
    assert best(scores, ["c", "a", "b", "d"], 2).tolist() == [1, 2]


@pytest.mark.parametrize(
    ("scores", "fusion", "more"),
    [
        ([], "rrf", {}),
        ([DENSE, TEXT[:2]], "rrf", {}),
        ([DENSE, TEXT], "z", {"weights": [1]}),
        ([DENSE, TEXT], "z", {"weights": [0, 0]}),
        ([DENSE, TEXT], "z", {"weights": [-1, 2]}),
        ([DENSE, TEXT], "z", {"weights": [NAN, 2]}),
        ([DENSE, TEXT], "floor", {}),
    ],
)
def test_invalid_fusions_are_refused(scores: Any, fusion: Any, more: Any) -> None:
    with pytest.raises(ValueError, match=r"rankings of the same|weights must|lowest possible"):
        fuse(scores, fusion, **more)
