from __future__ import annotations

from fractions import Fraction
from itertools import pairwise, permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skytext.evaluation.compared_setups import PAPER_RULE, Rule
from skytext.evaluation.gallery_ranks import Documents, WordScores, place_captions, place_images
from skytext.evaluation.recall import (
    KS,
    Direction,
    Placings,
    interval,
    place,
    resampled,
)
from skytext.search.fusion import (
    FUSIONS,
    POOLINGS,
    fuse,
    mean_lengths,
    pool,
)
from tests.table.rows import unit_vectors

# Each row contains the scores of one query for five answers. The right answer of the first query is
# the first answer, the right answer of the second query is the second answer, and so on.
SCORES = np.array(
    [
        [0.9, 0.1, 0.2, 0.3, 0.4],  # The right answer is first.
        [0.9, 0.1, 0.2, 0.3, 0.4],  # The right answer is last of five answers.
        [0.5, 0.5, 0.5, 0.1, 0.0],  # The right answer is one of three equal answers.
        # One answer is better. The right answer is one of four equal answers.
        [0.7, 0.6, 0.6, 0.6, 0.6],
    ],
    dtype=np.float32,
)


def placed(scores: Any, relevant: list[list[int]], **more: Any) -> Placings:
    scores = np.asarray(scores, dtype=np.float32)
    rows = [np.array(right) for right in relevant]
    return place(lambda first, last: scores[first:last], rows, **more)


def test_golden_recall_with_one_right_answer() -> None:
    placings = placed(SCORES, [[0], [1], [2], [3]])
    assert placings.better.tolist() == [0, 4, 0, 1]
    assert placings.tied.tolist() == [1, 1, 3, 4]
    np.testing.assert_allclose(placings.hits(1), [1, 0, 1 / 3, 0])
    np.testing.assert_allclose(placings.hits(2), [1, 0, 2 / 3, 1 / 4])
    np.testing.assert_allclose(placings.hits(4), [1, 0, 1, 3 / 4])
    np.testing.assert_allclose(placings.hits(5), [1, 1, 1, 1])


def test_golden_recall_with_several_right_answers() -> None:
    placings = placed(SCORES, [[3, 4], [1, 4], [1, 2], [2, 3]])
    assert placings.own.tolist() == [1, 1, 2, 2]
    # In the third query, two of the three equal answers are right. A right answer is first in two
    # thirds of the orders.
    np.testing.assert_allclose(placings.hits(1), [0, 0, 2 / 3, 0])
    # In the fourth query, two of the four equal answers are right. For k = 2, one of the four
    # answers is found, and it is right with a probability of 1/2. For k = 3, two of the four
    # answers are found, and at least one of them is right with a probability of 1 - 1/6.
    np.testing.assert_allclose(placings.hits(2), [1, 1, 1, 1 / 2])
    np.testing.assert_allclose(placings.hits(3), [1, 1, 1, 5 / 6])


def test_scores_that_differ_by_rounding_are_equal() -> None:
    scores = np.array([[0.5, 0.5 + 3e-7, 0.5 + 1e-5]], dtype=np.float32)
    np.testing.assert_allclose(placed(scores, [[0]]).hits(2), [1 / 2])


@given(
    scores=st.lists(st.integers(0, 3), min_size=1, max_size=6),
    right=st.sets(st.integers(0, 5), min_size=1),
    k=st.integers(1, 7),
)
@settings(max_examples=150, deadline=None)
def test_ties_count_as_the_mean_over_all_orders(scores: list[int], right: set[int], k: int) -> None:
    right = {i for i in right if i < len(scores)} or {0}
    hits = orders = 0
    for order in permutations(range(len(scores))):
        if all(scores[a] >= scores[b] for a, b in pairwise(order)):
            orders += 1
            hits += not right.isdisjoint(order[:k])
    found = placed([scores], [sorted(right)]).hits(k)[0]
    assert found == pytest.approx(float(Fraction(hits, orders)), abs=1e-12)


def made_up(seed: int, num_images: int) -> tuple[Any, Any, Any, Any]:
    """Make images of one to four variants with five captions each. The variants and the captions
    have verbatim repeats."""
    rng = np.random.default_rng(seed)
    pool = unit_vectors(rng, (7, 4))
    counts = rng.integers(1, 5, num_images)
    documents = pool[rng.integers(0, 7, counts.sum())]
    captions = pool[rng.integers(0, 7, 5 * num_images)]
    return documents, counts, captions, np.repeat(np.arange(num_images), 5)


def both(
    documents: Any, counts: Any, captions: Any, owner: Any, rule: Rule = PAPER_RULE
) -> list[Placings]:
    searched = Documents(documents, np.concatenate([[0], np.cumsum(counts)[:-1]]))
    own = [np.flatnonzero(owner == i) for i in range(len(counts))]
    return [
        place_images(captions, searched, list(owner.reshape(-1, 1)), rule),
        place_captions(searched, captions, own, rule),
    ]


@given(seed=st.integers(0, 2**20), num_images=st.integers(1, 8))
@settings(max_examples=60, deadline=None)
def test_the_order_of_the_images_changes_nothing(seed: int, num_images: int) -> None:
    documents, counts, captions, owner = made_up(seed, num_images)
    order = np.random.default_rng(seed + 1).permutation(num_images)
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    moved = np.concatenate([documents[starts[i] : starts[i] + counts[i]] for i in order])
    rank = np.argsort(order)
    before = both(documents, counts, captions, owner)
    after = both(moved, counts[order], captions, rank[owner])
    for k in KS:
        np.testing.assert_allclose(before[0].hits(k), after[0].hits(k), atol=1e-12)
        np.testing.assert_allclose(before[1].hits(k)[order], after[1].hits(k), atol=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_recall_by_sort_is_that_of_a_plain_loop_over_argsort(seed: int) -> None:
    """Compare with a loop that works as published. The loop ranks the images for one query at a
    time by their best variant, with a reversed argsort. The loop counts hits by image."""
    documents, counts, captions, owner = made_up(seed, 30)
    image_of = np.repeat(np.arange(30), counts)
    to_image, to_text = both(documents, counts, captions, owner)
    for k in KS:
        hits = []
        for query, image in zip(captions, owner, strict=True):
            scores = np.full(30, -1e9, dtype=np.float32)
            np.maximum.at(scores, image_of, query @ documents.T)
            hits.append(image in np.argsort(scores)[::-1][:k])
        assert to_image.hits(k, "sort").tolist() == hits
        found = []
        for i in range(30):
            scores = np.max([row @ captions.T for row in documents[image_of == i]], axis=0)
            found.append(i in owner[np.argsort(scores)[::-1][:k]])
        assert to_text.hits(k, "sort").tolist() == found


@pytest.mark.parametrize("rows_at_once", [1, 3, 100])
def test_blocks_change_nothing(rows_at_once: int) -> None:
    placings = placed(SCORES, [[0], [1], [2], [3]], rows_at_once=rows_at_once)
    assert placings.tied.tolist() == [1, 1, 3, 4]


def test_the_bootstrap_draws_images_with_all_of_their_queries() -> None:
    # The five captions of an image have equal results. Therefore there are 40 independent draws and
    # not 200 independent draws.
    rng = np.random.default_rng(3)
    scores = np.eye(40, dtype=np.float32)
    good = rng.random(40) < 0.5
    relevant = [[i if good[i] else (i + 1) % 40] for i in range(40) for _ in range(5)]
    placings = placed(np.repeat(scores, 5, axis=0), relevant, tolerance=0.0)
    unit = np.repeat(np.arange(40), 5)
    drawn = resampled([Direction(placings, unit)], "sort", (1,), num_resamples=2000)
    low, high = interval(drawn)[:, 0]
    recall = Direction(placings, unit).recall("sort", (1,))[0]
    half = 100 * 1.96 * np.sqrt(good.mean() * (1 - good.mean()) / 40)
    assert low == pytest.approx(recall - half, abs=4)
    assert high == pytest.approx(recall + half, abs=4)
    again = resampled([Direction(placings, unit)], "sort", (1,), num_resamples=2000)
    assert again.tolist() == drawn.tolist()


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("rows_of_blocks", [1, 64])
def test_every_pooling_places_as_a_plain_loop_does(
    pooling: Any, rows_of_blocks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skytext.evaluation.gallery_ranks._rows_at_once", lambda _: rows_of_blocks)
    documents, counts, captions, owner = made_up(11, 12)
    offsets = np.concatenate([[0], np.cumsum(counts)[:-1]])
    to_image, to_text = both(documents, counts, captions, owner, Rule("dense", pooling))
    lengths = mean_lengths(documents, offsets)
    for i, query in enumerate(captions):
        scores = pool(documents @ query, offsets, pooling, lengths)
        assert to_image.better[i] == np.count_nonzero(scores > scores[owner[i]] + 1e-6)
    per_image = np.stack(
        [
            pool(documents @ caption, offsets, "max" if pooling == "max" else "mean", lengths)
            for caption in captions
        ],
        axis=1,
    )
    best = np.stack([pool(documents @ caption, offsets, "max") for caption in captions], axis=1)
    wanted = {
        "max": best,
        "mean": per_image,
        "max+mean": (best + per_image) / 2,
        "max+mean-z": fuse([best, per_image], "z"),
    }[pooling]
    for i, scores in enumerate(wanted):
        right = scores[owner == i].max()
        assert to_text.better[i] == np.count_nonzero(scores > right + 1e-6)


TEXTS = ["a river and a bridge", "two planes on a runway", "an empty field", "rivers, rivers"]
ASKED = ["a bridge over the river", "planes", "rivers in fields"]


@pytest.mark.parametrize("fusion", FUSIONS)
def test_hybrid_places_by_both_rankings(fusion: Any) -> None:
    vectors = unit_vectors(np.random.default_rng(1), (4, 8))
    queries = unit_vectors(np.random.default_rng(2), (3, 8))
    searched = Documents(vectors, np.arange(4))
    words = WordScores(TEXTS, ASKED)
    rule = Rule("hybrid", "max", fusion, 0.5)
    right = [np.array([0]), np.array([1]), np.array([0])]
    found = place_images(queries, searched, right, rule, words)
    fused = fuse([queries @ vectors.T, words.rows(0, 3)], fusion, [1, 0.5], [-1, 0])
    for i, scores in enumerate(fused):
        assert found.better[i] == np.count_nonzero(scores > scores[right[i]] + 1e-6)
    by_words = place_images(queries, searched, right, Rule("text"), words)
    assert by_words.better.tolist() == [0, 0, 2]
    with pytest.raises(ValueError, match="the argument words is None"):
        place_images(queries, searched, right, rule)
