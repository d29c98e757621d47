"""Run the golden queries on two versions of a table, and compare the results.

INPUT    the table, the live version, the new one, and the queries.
OUTPUT   `Comparison`.
FAN-OUT  one task.
ON ERROR the call ends, and the live version does not change.

Each version is searched as in the service: by its own embedding model, through its index.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from skytext.config.reindex import ReindexConfig
from skytext.config.settings import Config
from skytext.errors import JobError, ModelError, TableError
from skytext.evaluation.annotations import file_name
from skytext.evaluation.golden import Golden, GoldenQuery
from skytext.run.control.driver_node import run_on_driver_node
from skytext.run.reindex.gate import Check
from skytext.search import Searcher
from skytext.search.request import IMAGE_MODES
from skytext.table.images_dataset import ImagesTable
from skytext.table.location import TableLocation

_K = 10
_NUM_CHANGES = 5


class LiveVersionError(JobError):
    """The live version cannot be searched, because its model can no longer be loaded."""


class _Found(NamedTuple):
    """A hit: its URI, and the file name that golden queries use."""

    uri: str
    name: str


@dataclass(frozen=True, slots=True)
class Change:
    """The difference between two results of one query.

    Attributes:
        query: the query.
        overlap_at_10: share of its first ten hits that are in both results.
        lost: URIs of hits that only the live version has.
        gained: URIs of hits that only the new version has.
    """

    query: str
    overlap_at_10: float
    lost: tuple[str, ...]
    gained: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """The results of two versions.

    Attributes:
        live_version: the live version.
        new_version: the version to promote.
        num_queries: queries that both versions ran.
        found_live: share of the queries for which the live version finds an expected image among
            the first ten hits, or among the number that the query sets.
        found_new: the same for the new version.
        overlap_at_10: mean share of the first ten hits that are in both results.
        changes: the queries whose results differ most.
    """

    live_version: int
    new_version: int
    num_queries: int
    found_live: float
    found_new: float
    overlap_at_10: float
    changes: tuple[Change, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the fields as a JSON object."""
        return asdict(self)

    def checks(self, limits: ReindexConfig) -> Iterator[Check]:
        """Yield the conditions for a promotion of the new version."""
        drop, most = self.found_live - self.found_new, limits.max_golden_drop
        yield Check(
            f"golden queries that find their image: {self.found_live:.4g} live, "
            f"{self.found_new:.4g} new; share lost",
            round(drop, 4),
            f"at most {most:g}",
            drop <= most + 1e-9,
        )
        floor = limits.min_overlap
        if floor is not None:
            overlap = self.overlap_at_10
            name = "overlap@10 of the golden queries with the live version"
            yield Check(name, overlap, f"at least {floor:g}", overlap >= floor)


def compare_versions(
    location: TableLocation, config: Config, live: int, new: int, golden: Golden
) -> Comparison:
    """Run the golden queries on both versions, in a worker process.

    Args:
        location: the table.
        config: settings of the models and of the ranking.
        live: the live version.
        new: the version to promote.
        golden: the queries.

    Raises:
        LiveVersionError: the live version cannot be searched, for example without its model.
        TableError: the model of the new version is missing.
        ModelError: it cannot be loaded.
    """
    return run_on_driver_node(_compare, location, config, live, new, golden)


def _compare(
    location: TableLocation, config: Config, live: int, new: int, golden: Golden
) -> Comparison:
    after = _answers(location, config, new, golden.queries)
    try:
        before = _answers(location, config, live, golden.queries)
    except (TableError, ModelError) as error:
        raise LiveVersionError(
            f"the golden queries were not compared: the live version {live} cannot be searched: "
            f"{error}"
        ) from error
    changes = [
        _change(query.query, old, now)
        for query, old, now in zip(golden.queries, before, after, strict=True)
    ]
    changed = sorted((one for one in changes if one.lost or one.gained), key=_by_overlap)
    return Comparison(
        live_version=live,
        new_version=new,
        num_queries=len(golden.queries),
        found_live=_share_found(golden.queries, before),
        found_new=_share_found(golden.queries, after),
        overlap_at_10=round(sum(map(_by_overlap, changes)) / len(changes), 4),
        changes=tuple(changed[:_NUM_CHANGES]),
    )


def _answers(
    location: TableLocation, config: Config, version: int, queries: Sequence[GoldenQuery]
) -> list[list[_Found]]:
    """Return the hits of each query."""
    searcher = Searcher.open(
        location.uri,
        version=version,
        embed=config.embed,
        index=config.index,
        search=config.search,
        with_images=config.search.mode in IMAGE_MODES,
        image_embed=config.image_embed,
        images=config.images,
    )
    answers = [searcher.search(one.query, k=max(_K, one.within or _K)).hits for one in queries]
    ids = list({hit.image_id for hits in answers for hit in hits})
    rows = ImagesTable.open(location, version).rows(ids, ["image_id", "member"])
    names = {row["image_id"]: file_name(row["member"]) for row in rows}
    return [[_Found(hit.uri, names[hit.image_id]) for hit in hits] for hits in answers]


def _share_found(queries: Sequence[GoldenQuery], answers: Sequence[Sequence[_Found]]) -> float:
    num_found = 0
    for query, hits in zip(queries, answers, strict=True):
        expected = set(map(file_name, query.images))
        num_found += any(hit.name in expected for hit in hits[: query.within or _K])
    return num_found / len(queries)


def _change(query: str, before: Sequence[_Found], after: Sequence[_Found]) -> Change:
    old, now = ([hit.uri for hit in hits[:_K]] for hits in (before, after))
    num_most = max(len(old), len(now))
    overlap = len({*old} & {*now}) / num_most if num_most else 1.0
    lost, gained = ([u for u in a if u not in b] for a, b in ((old, now), (now, old)))
    return Change(query, overlap, tuple(lost), tuple(gained))


def _by_overlap(change: Change) -> float:
    return change.overlap_at_10
