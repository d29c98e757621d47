"""Measure the recall of a vector index, and choose the search settings.

`skytext.table.indexes.measured_columns` contains the columns that can be measured. The ground truth
is an exact search of all rows. All queries are searched in one scan of the rows. A found image
counts as correct if it has at least the score of the tenth nearest image. This is the rule of
ann-benchmarks. The rule is needed because archives contain many identical images.

Each query is a stored vector plus noise. The noise is the difference of two other stored vectors.
So the noise has the same distribution as the data. The column defines the cosine between the query
and the stored vector.

Half of the queries are used to choose the settings. The other half are used to measure the recall
with these settings.
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

# Two cosines count as equal if their difference is below this number. The reason is that the order
# of summation changes the last digits.
_ROUNDING = 1e-5

Ask = Callable[[Floats, Probing], Floats]
"""A function that searches with given settings.

It returns the exact scores of the ten found images, in descending order.
"""
Measure = Callable[[Probing], tuple[float, float]]


class Column(Protocol):
    """A vector column that has an index, in one version of a table."""

    @property
    def query_cosines(self) -> Sequence[float]:
        """The cosines between queries and their stored vectors. The cosines are used in turn."""

    def sample(self, num_vectors: int, rng: np.random.Generator) -> Floats:
        """Return one vector per image, for randomly chosen images in no particular order.

        Returns:
            float32, shape (≤ num_vectors, dim), unit length.
        """

    def scores(self, queries: Floats) -> Iterator[Floats]:
        """Yield the exact scores of each batch of images, shape (queries, images).

        Args:
            queries: float32, shape (queries, dim), unit length.
        """

    def ask(self, query: Floats, probing: Probing) -> Floats:
        """Search in the same way as the service.

        The arguments and the result are the same as for `Ask`.
        """


class Measured(NamedTuple):
    """The measured recall of a search with given settings.

    Attributes:
        probing: the settings.
        recall: average share of the ten nearest images that the search finds. The queries of this
            measurement were not used to choose the settings.
        num_queries: number of queries in this measurement.
    """

    probing: Probing
    recall: float
    num_queries: int


def measure_index(column: Column, config: IndexConfig, num_partitions: int) -> Measured:
    """Choose the search settings for a new index, and measure the recall with these settings.

    Args:
        column: the column, in a version that has the index.
        config: the required recall, and the search settings that the user has set.
        num_partitions: number of partitions of the index.
    """
    queries = sample_queries(column, config.recall_queries)
    truth = exact_scores(column, queries)
    ask = column.ask
    half = len(queries) // 2
    refinements = _refinements(config)
    widest = _by_nprobes(config, num_partitions, refinements[-1])[-1]
    if half == 0:
        return judge(ask, queries, truth, [widest], config.target_recall)
    try_out = partial(_measure_setting, ask, queries[:half], truth[:half])
    judge_rest = partial(judge, ask, queries[half:], truth[half:], wanted=config.target_recall)

    efforts = [_by_effort(config, num_partitions, factor) for factor in refinements]
    by_effort = choose(try_out, efforts, config.target_recall)
    if by_effort is None and config.search_effort is not None and efforts[-1]:
        (by_effort,) = efforts[-1]
    nprobes = [_by_nprobes(config, num_partitions, factor) for factor in refinements]
    # If possible, use one refine factor for the settings with an effort and the settings with
    # nprobes.
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
    if factor > flexible.probing.refine_factor:
        # With more exact scores, a smaller effort may reach the same recall.
        smaller = choose(
            try_out, [_by_effort(config, num_partitions, factor)], config.target_recall
        )
        if smaller is not None:
            flexible = judge_rest(settings=_from(smaller, efforts))
            factor = flexible.probing.refine_factor
    both = Probing(fixed.probing.nprobes, factor, flexible.probing.effort)
    return flexible._replace(probing=both)


def sample_queries(column: Column, num_queries: int) -> Floats:
    """Return queries near stored vectors: float32, shape (queries, dim), unit length."""
    rng = np.random.default_rng(0)
    stored = column.sample(3 * num_queries, rng)
    num_queries = min(num_queries, len(stored))
    vectors = stored[:num_queries]
    others = stored[rng.permutation(len(stored))[:num_queries]]
    more = stored[rng.permutation(len(stored))[:num_queries]]
    noise = others - more
    noise -= (noise * vectors).sum(axis=1, keepdims=True) * vectors
    lengths = np.linalg.norm(noise, axis=1, keepdims=True)
    # If all vectors are equal, the noise is zero. Every query then equals its stored vector.
    noise = np.where(lengths > 1e-6, noise / np.maximum(lengths, 1e-6), 0)
    cosines = np.resize(column.query_cosines, (num_queries, 1))
    queries = cosines * vectors + np.sqrt(1 - cosines**2) * noise
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    return np.asarray(queries, np.float32)


def exact_scores(column: Column, queries: Floats) -> Floats:
    """Return the exact scores of the ten nearest images for each query.

    The shape of the result is (queries, ≤ 10). All images are read once. Only one batch is in
    memory at a time.
    """
    best = np.empty((len(queries), 0), np.float32)
    for here in column.scores(queries):
        best = np.concatenate([best, here], axis=1)
        if best.shape[1] > NEIGHBOURS:
            best = np.partition(best, -NEIGHBOURS, axis=1)[:, -NEIGHBOURS:]
    return best


def choose(measure: Measure, ladders: Sequence[Sequence[Probing]], wanted: float) -> Probing | None:
    """Return the fastest settings with the required recall; None if no settings reach this recall.

    Args:
        measure: function that gets settings, and returns the recall and the seconds per query.
        ladders: one list of settings for each refine factor. The lists are in ascending order of
            the factor. Each list starts with the settings that read the fewest partitions (the
            narrowest settings). A larger refine factor is tried only with fewer partitions, because
            it cannot be faster with the same number of partitions.
        wanted: the required recall.
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
    """Return the narrowest settings with the required recall, and the seconds per query.

    Narrow settings are measured first, because measuring the widest settings takes as long as
    measuring all other settings. Every second entry of ``steps`` is measured until an entry has the
    required recall. Then the skipped entry before this entry is also measured.
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
    """Measure settings in order until the required recall is reached. Return the last result."""
    recall = 0.0
    for probing in settings:
        recall, _ = _measure_setting(ask, queries, truth, probing)
        if recall >= wanted:
            break
    return Measured(probing, recall, len(queries))


def _from(chosen: Probing, ladders: Sequence[Sequence[Probing]]) -> list[Probing]:
    """Return the chosen settings, followed by settings to try if the chosen settings fail.

    The list first contains all wider settings (with more partitions) that have the same refine
    factor. The list then contains settings with larger refine factors. Larger refine factors are
    needed because more partitions do not help if the codes of the index are too coarse for some
    queries. For each larger refine factor, the list has two entries, with the chosen width and the
    maximum width.
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
    """Return the settings to try that have an effort, narrowest first."""
    if config.nprobes is not None:
        return []
    efforts = _EFFORTS if config.search_effort is None else (config.search_effort,)
    return [Probing(num_partitions, refine_factor, effort) for effort in efforts]


def _by_nprobes(config: IndexConfig, num_partitions: int, refine_factor: int) -> list[Probing]:
    """Return the settings to try that have a fixed number of partitions, narrowest first."""
    if config.nprobes is not None:
        return [Probing(config.nprobes, refine_factor)]
    fewer = [nprobes for nprobes in _NPROBES if nprobes < num_partitions]
    return [Probing(nprobes, refine_factor) for nprobes in (*fewer, num_partitions)]


def _measure_setting(
    ask: Ask, queries: Floats, truth: Floats, probing: Probing
) -> tuple[float, float]:
    """Return the recall and the median seconds per query."""
    found, seconds = 0, []
    for query, true in zip(queries, truth, strict=True):
        started = time.perf_counter()
        scores = ask(query, probing)
        seconds.append(time.perf_counter() - started)
        found += _num_found(scores, true)
    return found / max(truth.size, 1), statistics.median(seconds)


def _num_found(scores: Floats, true: Floats) -> int:
    return int(np.count_nonzero(scores[: len(true)] >= true.min() - _ROUNDING))
