"""How much of the truth a vector index finds, and how far a search must look for it.

Truth is the exact rule on all rows, by one streaming pass for all queries. An image that is as
near as the tenth nearest counts as found, as in ann-benchmarks: archives are full of equal images.

Queries are no copies of what is stored: each is a stored vector with noise, the noise being the
difference of two other stored vectors, so that it has the data's own shape. They are as near to it
as real captions are to the nearest other one (RSITMD and RSICD validation captions by
all-MiniLM-L6-v2: medians 0.90 and 0.85, lower quartiles 0.81 and 0.75).

The settings are chosen on one half of the queries and judged on the other half.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from skytext.config import IndexConfig
from skytext.table.images import ImagesTable
from skytext.table.query import Floats, Found, nearest, scan_variants, take_variants, variants_of
from skytext.table.vector_index import NEIGHBOURS, VECTOR_INDEX, FirstLook, Probing, is_covered

QUERY_COSINES = (0.9, 0.8)
_NPROBES = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
_REFINE_FACTORS = (2, 3, 4, 6, 10, 20)
# A first look goes into a part of the partitions that the hardest queries need.
_FIRST_PARTS = (1 / 8, 1 / 4)
# Fewer queries than these do not show that a first look is enough.
_MIN_SETTLED = 16

# Cosines that differ by less are equal: the order of a sum decides the last digits.
_ROUNDING = 1e-5

Ask = Callable[[Floats, Probing], Floats]


class Measured(NamedTuple):
    """What a search by the index finds with some settings.

    Attributes:
        probing: the settings.
        recall: part of the ten nearest images that it finds, on queries it was not chosen by.
        num_queries: how many those are.
    """

    probing: Probing
    recall: float
    num_queries: int


def measure_index(table: ImagesTable, config: IndexConfig, num_partitions: int) -> Measured:
    """Choose how far searches of a fresh index look, and measure what they find.

    Args:
        table: a version with the index.
        config: the recall wanted, and settings that are given.
        num_partitions: of the index.
    """
    queries = sample_queries(table, config.recall_queries)
    truth = exact_scores(table, queries)

    # A run may have committed rows while the index was built.
    covered = is_covered(table.dataset, VECTOR_INDEX)

    ask = partial(_ask, table, covered)
    half = len(queries) // 2
    if half == 0:
        ladder = probings(config, num_partitions)
        return judge(ask, queries, truth, [ladder[-1]], config.target_recall)
    chosen = choose(ask, queries[:half], truth[:half], config, num_partitions)
    looks: list[FirstLook] = []
    if config.nprobes is None:
        look = partial(nearest, table, k=NEIGHBOURS, covered=covered)
        looks = first_looks(ask, look, queries[:half], truth[:half], chosen, config.target_recall)
    steps = _steps(config, num_partitions, chosen.refine_factor)
    further = [step for step in steps if step.nprobes > chosen.nprobes]
    widest = probings(config, num_partitions)[-1]
    # A first look that loses too much on other queries is given up before partitions are added.
    settings = [replace(step, first=one) for step in (chosen, *further) for one in (*looks, None)]
    if widest not in settings:
        settings.append(widest)
    return judge(ask, queries[half:], truth[half:], settings, config.target_recall)


def _ask(table: ImagesTable, covered: bool, query: Floats, probing: Probing) -> Floats:
    """Return the exact scores of what a search finds, best first."""
    found = nearest(table, query, NEIGHBOURS, probing, covered=covered)
    variants = take_variants(table, found.ids)
    scores = np.maximum.reduceat(variants.vectors @ query, variants.offsets)
    return np.sort(scores)[::-1]


def sample_queries(table: ImagesTable, num_queries: int) -> Floats:
    """Return queries near what is stored: float32, shape (queries, dim), unit length."""
    rng = np.random.default_rng(0)
    stored = _sample_vectors(table, 3 * num_queries, rng)
    num_queries = min(num_queries, len(stored))
    vectors = stored[:num_queries]
    others = stored[rng.permutation(len(stored))[:num_queries]]
    more = stored[rng.permutation(len(stored))[:num_queries]]
    noise = others - more
    noise -= (noise * vectors).sum(axis=1, keepdims=True) * vectors
    lengths = np.linalg.norm(noise, axis=1, keepdims=True)
    # Where all vectors are alike there is no such noise, and nothing to find wrong either.
    noise = np.where(lengths > 1e-6, noise / np.maximum(lengths, 1e-6), 0)
    cosines = np.resize(QUERY_COSINES, (num_queries, 1))
    queries = cosines * vectors + np.sqrt(1 - cosines**2) * noise
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    return np.asarray(queries, np.float32)


def exact_scores(table: ImagesTable, queries: Floats) -> Floats:
    """Return the scores of the ten nearest images of each query by the rule, shape (queries, ≤ 10).

    One pass, a batch in memory at a time.
    """
    best = np.empty((len(queries), 0), np.float32)
    for batch in scan_variants(table):
        if len(batch.ids):
            here = np.maximum.reduceat(queries @ batch.vectors.T, batch.offsets, axis=1)
            best = np.concatenate([best, here], axis=1)
            if best.shape[1] > NEIGHBOURS:
                best = np.partition(best, -NEIGHBOURS, axis=1)[:, -NEIGHBOURS:]
    return best


def choose(
    ask: Ask, queries: Floats, truth: Floats, config: IndexConfig, num_partitions: int
) -> Probing:
    """Return the fastest settings that reach the recall wanted; the widest where none does.

    With each refinement, the smallest ``nprobes`` that does. A larger refinement is worth its cost
    only where it needs fewer.
    """
    reached: list[tuple[float, Probing]] = []
    refines = _REFINE_FACTORS if config.refine_factor is None else (config.refine_factor,)
    for refine_factor in refines:
        steps = _steps(config, num_partitions, refine_factor)
        if reached:
            steps = [step for step in steps if step.nprobes < reached[-1][1].nprobes]
        if not steps:
            break
        found = _narrowest(partial(_asked, ask, queries, truth), steps, config.target_recall)
        if found is None:
            continue
        probing, seconds = found
        if reached and seconds > reached[-1][0]:
            break
        reached.append((seconds, probing))
    return reached[-1][1] if reached else probings(config, num_partitions)[-1]


def _narrowest(
    measure: Callable[[Probing], tuple[float, float]], steps: Sequence[Probing], wanted: float
) -> tuple[Probing, float] | None:
    """Return the first settings that find what is wanted, and the seconds of a query with them.

    From the narrowest on, because the widest cost as much as all others: every other one, and then
    the one before.
    """
    last = len(steps) - 1
    asked = -1
    for place in sorted({*range(1, last, 2), last}):
        recall, seconds = measure(steps[place])
        if recall >= wanted:
            if place - 1 > asked:
                recall_before, seconds_before = measure(steps[place - 1])
                if recall_before >= wanted:
                    return steps[place - 1], seconds_before
            return steps[place], seconds
        asked = place
    return None


def first_looks(
    ask: Ask,
    look: Callable[..., Found],
    queries: Floats,
    truth: Floats,
    chosen: Probing,
    wanted: float,
) -> list[FirstLook]:
    """Return where searches may end early, what looks into the fewest partitions first.

    The nearer a query's tenth hit, the fewer partitions can hold anything nearer. The score to end
    at is the lowest above which queries find what is wanted in the first look, or, in case that
    was luck, half of what is missing.
    """
    expected: dict[FirstLook, float] = {}
    for part in _FIRST_PARTS:
        nprobes = round(chosen.nprobes * part)
        if nprobes == 0:
            continue
        probing = Probing(nprobes, chosen.refine_factor)
        tenths = np.array([_tenth(look(vector=query, probing=probing)) for query in queries])
        order = np.argsort(-tenths)
        recalls = [_asked(ask, queries[[i]], truth[[i]], probing)[0] for i in order]
        means = np.cumsum(recalls) / np.arange(1, len(order) + 1)
        for goal in (wanted, (1 + wanted) / 2):
            settled = np.flatnonzero((means >= goal) & np.isfinite(tenths[order])) + 1
            if not len(settled) or settled[-1] < _MIN_SETTLED:
                continue
            first = FirstLook(nprobes, float(tenths[order][settled[-1] - 1]))
            going_on = 1 - settled[-1] / len(queries)
            expected[first] = nprobes + going_on * chosen.nprobes
    saving = [first for first, partitions in expected.items() if partitions < chosen.nprobes]
    return sorted(saving, key=expected.__getitem__)


def judge(
    ask: Ask, queries: Floats, truth: Floats, settings: Sequence[Probing], wanted: float
) -> Measured:
    """Measure settings, from the narrowest on, until one finds what is wanted; return the last."""
    recall = 0.0
    for probing in settings:
        recall, _ = _asked(ask, queries, truth, probing)
        if recall >= wanted:
            break
    return Measured(probing, recall, len(queries))


def probings(config: IndexConfig, num_partitions: int) -> list[Probing]:
    """Return the settings to try with the largest refinement, the widest last."""
    return _steps(config, num_partitions, config.refine_factor or _REFINE_FACTORS[-1])


def _steps(config: IndexConfig, num_partitions: int, refine_factor: int) -> list[Probing]:
    if config.nprobes is not None:
        return [Probing(config.nprobes, refine_factor)]
    fewer = [nprobes for nprobes in _NPROBES if nprobes < num_partitions]
    return [Probing(nprobes, refine_factor) for nprobes in (*fewer, num_partitions)]


def _asked(ask: Ask, queries: Floats, truth: Floats, probing: Probing) -> tuple[float, float]:
    """Return the recall and the median time of a query in seconds."""
    found, seconds = 0, []
    for query, true in zip(queries, truth, strict=True):
        started = time.perf_counter()
        scores = ask(query, probing)
        seconds.append(time.perf_counter() - started)
        found += _num_found(scores, true)
    return found / max(truth.size, 1), statistics.median(seconds)


def _num_found(scores: Floats, true: Floats) -> int:
    return int(np.count_nonzero(scores[: len(true)] >= true.min() - _ROUNDING))


def _tenth(found: Found) -> float:
    """Return what the tenth hit scores by the codes; less than anything where there is none."""
    return float(found.scores[NEIGHBOURS - 1]) if len(found.ids) >= NEIGHBOURS else -np.inf


def _sample_vectors(table: ImagesTable, num_vectors: int, rng: np.random.Generator) -> Floats:
    """Return one vector each of images picked at random."""
    num_rows = table.num_rows()
    picked = np.sort(rng.choice(num_rows, min(num_rows, num_vectors * 2), replace=False))
    rows = table.dataset.take(picked.tolist(), columns=["vectors"])
    rows = rows.append_column("_rowid", pa.array(np.arange(rows.num_rows, dtype=np.uint64)))
    found = variants_of(rows, table.identity.dim)
    ends = np.append(found.offsets[1:], len(found.vectors))
    one = rng.integers(found.offsets, ends) if len(found.ids) else found.offsets
    return found.vectors[one][rng.permutation(len(one))][:num_vectors]
