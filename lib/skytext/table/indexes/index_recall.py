"""How much of the truth a vector index finds, and how far a search must look for it.

The same for every column of vectors (`Column`; the columns that there are:
`skytext.table.indexes.measured_columns`).
Truth is the exact rule on all rows, by one streaming pass for all queries. An image that is as
near as the tenth nearest counts as found, as in ann-benchmarks: archives are full of equal images.

Queries are no copies of what is stored: each is a stored vector with noise, the noise being the
difference of two other stored vectors, so that it has the data's own shape. How near they are to it
is the column's.

The settings are chosen on one half of the queries and judged on the other half.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple, Protocol

import numpy as np

from skytext.config.index import IndexConfig
from skytext.table.index_facts import NEIGHBOURS, Probing
from skytext.table.queries.caption_queries import Floats

_NPROBES = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
_REFINE_FACTORS = (2, 3, 4, 6, 10, 20)
_EFFORTS = (0.3, 0.4, 0.45, 0.5, 0.525, 0.55, 0.575, 0.6, 0.65, 0.7, 0.8)

# Cosines that differ by less are equal: the order of a sum decides the last digits.
_ROUNDING = 1e-5

Ask = Callable[[Floats, Probing], Floats]
"""Searches with settings; returns the exact scores of the ten images that it finds, best first."""
Measure = Callable[[Probing], tuple[float, float]]


class Column(Protocol):
    """The vectors of a version that an index is on."""

    @property
    def query_cosines(self) -> Sequence[float]:
        """How near queries are to the stored vectors that they are made of, in turn."""

    def sample(self, num_vectors: int, rng: np.random.Generator) -> Floats:
        """Return vectors of images picked at random, one each, in no order.

        As float32, shape (≤ num_vectors, dim), unit length.
        """

    def scores(self, queries: Floats) -> Iterator[Floats]:
        """Yield exact scores of all images, shape (queries, images), a batch in memory at a time.

        Args:
            queries: float32, shape (queries, dim), unit length.
        """

    def ask(self, query: Floats, probing: Probing) -> Floats:
        """Search as searches do; see `Ask`."""


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


def measure_index(column: Column, config: IndexConfig, num_partitions: int) -> Measured:
    """Choose how far searches of a fresh index look, and measure what they find.

    Args:
        column: of a version with the index.
        config: the recall wanted, and settings that are given.
        num_partitions: of the index.
    """
    queries = sample_queries(column, config.recall_queries)
    truth = exact_scores(column, queries)
    ask = column.ask
    half = len(queries) // 2
    refinements = _refinements(config)
    widest = _by_nprobes(config, num_partitions, refinements[-1])[-1]
    if half == 0:
        return judge(ask, queries, truth, [widest], config.target_recall)
    try_out = partial(_asked, ask, queries[:half], truth[:half])
    judge_rest = partial(judge, ask, queries[half:], truth[half:], wanted=config.target_recall)

    efforts = [_by_effort(config, num_partitions, factor) for factor in refinements]
    by_effort = choose(try_out, efforts, config.target_recall)
    if by_effort is None and config.search_effort is not None and efforts[-1]:
        (by_effort,) = efforts[-1]
    nprobes = [_by_nprobes(config, num_partitions, factor) for factor in refinements]
    # One refinement serves both, if it can.
    first = len(refinements) if by_effort is None else 1
    if by_effort is not None:
        nprobes = nprobes[refinements.index(by_effort.refine_factor) :]
    by_nprobes = (
        choose(try_out, nprobes[:first], config.target_recall)
        or choose(try_out, nprobes[first:], config.target_recall)
        or widest
    )
    fixed = judge_rest(settings=[*_from(by_nprobes, nprobes), widest])
    if by_effort is None:
        return fixed
    flexible = judge_rest(settings=_from(by_effort, efforts))
    if flexible.recall < config.target_recall and config.search_effort is None:
        return fixed
    factor = max(flexible.probing.refine_factor, fixed.probing.refine_factor)
    both = Probing(fixed.probing.nprobes, factor, flexible.probing.effort)
    return flexible._replace(probing=both)


def sample_queries(column: Column, num_queries: int) -> Floats:
    """Return queries near what is stored: float32, shape (queries, dim), unit length."""
    rng = np.random.default_rng(0)
    stored = column.sample(3 * num_queries, rng)
    num_queries = min(num_queries, len(stored))
    vectors = stored[:num_queries]
    others = stored[rng.permutation(len(stored))[:num_queries]]
    more = stored[rng.permutation(len(stored))[:num_queries]]
    noise = others - more
    noise -= (noise * vectors).sum(axis=1, keepdims=True) * vectors
    lengths = np.linalg.norm(noise, axis=1, keepdims=True)
    # Where all vectors are alike there is no such noise, and nothing to find wrong either.
    noise = np.where(lengths > 1e-6, noise / np.maximum(lengths, 1e-6), 0)
    cosines = np.resize(column.query_cosines, (num_queries, 1))
    queries = cosines * vectors + np.sqrt(1 - cosines**2) * noise
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    return np.asarray(queries, np.float32)


def exact_scores(column: Column, queries: Floats) -> Floats:
    """Return the scores of the ten nearest images of each query by the rule, shape (queries, ≤ 10).

    One pass, a batch in memory at a time.
    """
    best = np.empty((len(queries), 0), np.float32)
    for here in column.scores(queries):
        best = np.concatenate([best, here], axis=1)
        if best.shape[1] > NEIGHBOURS:
            best = np.partition(best, -NEIGHBOURS, axis=1)[:, -NEIGHBOURS:]
    return best


def choose(measure: Measure, ladders: Sequence[Sequence[Probing]], wanted: float) -> Probing | None:
    """Return the fastest settings that reach the recall wanted; None where none does.

    Args:
        measure: tells recall and the seconds of a query.
        ladders: one for each refinement, from the smallest on, each from the narrowest settings
            on. A larger refinement is worth its cost only where it needs narrower ones.
        wanted: the recall.
    """
    best: tuple[float, int, Probing] | None = None
    for ladder in ladders:
        steps = ladder if best is None else ladder[: best[1]]
        if not steps:
            break
        found = _narrowest(measure, steps, wanted)
        if found is None:
            continue
        probing, seconds = found
        if best is not None and seconds > best[0]:
            break
        best = seconds, ladder.index(probing), probing
    return None if best is None else best[2]


def _narrowest(
    measure: Measure, steps: Sequence[Probing], wanted: float
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


def _from(chosen: Probing, ladders: Sequence[Sequence[Probing]]) -> list[Probing]:
    """Return the settings that were chosen, and what to try where they find too little.

    All wider ones of the same refinement, and then larger refinements: codes that are too coarse
    for a few queries are not made up for by more partitions. Of each as wide as was chosen, and as
    wide as can be.
    """
    for place, ladder in enumerate(ladders):
        if chosen in ladder:
            width = ladder.index(chosen)
            larger = [step for more in ladders[place + 1 :] for step in (more[width], more[-1])]
            return [*ladder[width:], *larger]
    return [chosen]


def _refinements(config: IndexConfig) -> Sequence[int]:
    return _REFINE_FACTORS if config.refine_factor is None else (config.refine_factor,)


def _by_effort(config: IndexConfig, num_partitions: int, refine_factor: int) -> list[Probing]:
    """Return the settings to try, the narrowest first."""
    if config.nprobes is not None:
        return []
    efforts = _EFFORTS if config.search_effort is None else (config.search_effort,)
    return [Probing(num_partitions, refine_factor, effort) for effort in efforts]


def _by_nprobes(config: IndexConfig, num_partitions: int, refine_factor: int) -> list[Probing]:
    """Return the settings to try, the narrowest first."""
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
