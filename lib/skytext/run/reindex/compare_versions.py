"""Run the same queries on two versions of a table, and compare the results.

INPUT    the table, the live version, the new version, and the queries. The queries are golden
         queries, or the last queries that services have logged.
OUTPUT   `Comparison`.
FAN-OUT  one task.
ON ERROR the comparison ends with an error. The live version does not change.

Each version is searched with its own embedding model and its own index, as in the service.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, TypeAlias

from skytext.config.reindex import ReindexConfig
from skytext.config.settings import Config
from skytext.errors import CallError, JobError, ModelError, TableError
from skytext.evaluation.annotations import file_name
from skytext.evaluation.golden import Golden
from skytext.run.cluster.driver_node import run_on_driver_node
from skytext.run.reindex.gate import Check
from skytext.search import Searcher
from skytext.search.request import IMAGE_MODES, SearchRequest
from skytext.search.results.hits import Hit
from skytext.table.images_dataset import ImagesTable
from skytext.table.location import TableLocation

_K = 10
_NUM_CHANGES = 5
_MAX_CHARS = 200

Asked: TypeAlias = Golden | tuple[SearchRequest, ...]
"""Golden queries, or logged queries of services. Logged queries have no expected images."""


class NotComparedError(JobError):
    """The live version cannot be searched with its model, or both versions rejected all queries."""


class _Found(NamedTuple):
    """A hit: the URI of the image, and its file name.

    The file name is needed because golden queries name their expected images by file name.
    """

    uri: str
    name: str


@dataclass(frozen=True, slots=True)
class Change:
    """The difference between two results of one query.

    Attributes:
        query: the text of the query, with at most 200 characters. If a logged query has other parts
            than its text, these parts follow as JSON.
        overlap_at_10: share of the first ten hits that are in both results, from 0 to 1.
        lost: URIs of the images that only the live version found among its first ten hits.
        gained: URIs of the images that only the new version found among its first ten hits.
    """

    query: str
    overlap_at_10: float
    lost: tuple[str, ...]
    gained: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """The comparison of the search results of two versions.

    Attributes:
        live_version: the live version.
        new_version: the version to promote.
        num_queries: number of queries that at least one of the two versions could run. If a version
            rejected such a query, the query has no hits in this version.
        found_live: share of these queries for which the live version finds an expected image among
            the first ten hits. A golden query can set a number of hits other than ten. None for
            logged queries.
        found_new: share of these queries for which the new version finds an expected image, with
            the same number of hits. None for logged queries.
        overlap_at_10: share of the first ten hits that are in both results, as the mean over these
            queries.
        changes: up to five queries whose results differ most.
        num_refused: number of queries that both versions rejected.
    """

    live_version: int
    new_version: int
    num_queries: int
    found_live: float | None
    found_new: float | None
    overlap_at_10: float
    changes: tuple[Change, ...]
    num_refused: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return the fields as a JSON object."""
        return asdict(self)

    def checks(self, limits: ReindexConfig) -> Iterator[Check]:
        """Check the conditions for a promotion of the new version; yield the results."""
        kind = "logged"
        if self.found_live is not None and self.found_new is not None:
            kind = "golden"
            drop, most = self.found_live - self.found_new, limits.max_golden_drop
            yield Check(
                "decrease of the share of golden queries that find an expected image (from "
                f"{self.found_live:.4g} in the live version to {self.found_new:.4g} in the new "
                "version)",
                round(drop, 4),
                f"at most {most:g}",
                drop <= most + 1e-9,
            )
        floor = limits.min_overlap
        if floor is not None:
            overlap = self.overlap_at_10
            name = f"overlap@10 of the {kind} queries with the live version"
            yield Check(name, overlap, f"at least {floor:g}", overlap >= floor)


def compare_versions(
    location: TableLocation, config: Config, live: int, new: int, asked: Asked
) -> Comparison:
    """Run queries on both versions, in a worker process.

    Args:
        location: the table.
        config: settings of the models and of the ranking.
        live: the live version.
        new: the version to promote.
        asked: the queries. There must be at least one query.

    Raises:
        NotComparedError: the live version cannot be searched, for example because its model is
            missing. This is also raised if both versions rejected all queries.
        TableError: the model of the new version is missing.
        ModelError: the model of the new version cannot be loaded.
    """
    return run_on_driver_node(_compare, location, config, live, new, asked)


def _compare(
    location: TableLocation, config: Config, live: int, new: int, asked: Asked
) -> Comparison:
    requests = _requests(asked)
    after = _answers(location, config, new, requests)
    try:
        before = _answers(location, config, live, requests)
    except (TableError, ModelError) as error:
        raise NotComparedError(
            f"the queries were not compared, because the live version {live} cannot be searched: "
            f"{error}"
        ) from error
    changes = [
        _change(_described(request), old or (), now or ())
        for request, old, now in zip(requests, before, after, strict=True)
        if old is not None or now is not None
    ]
    if not changes:
        raise NotComparedError(
            f"the queries were not compared, because versions {live} and {new} rejected all "
            f"{len(requests):,} queries"
        )
    changed = sorted((one for one in changes if one.lost or one.gained), key=_by_overlap)
    golden = asked if isinstance(asked, Golden) else None
    return Comparison(
        live_version=live,
        new_version=new,
        num_queries=len(changes),
        found_live=None if golden is None else _share_found(golden, before),
        found_new=None if golden is None else _share_found(golden, after),
        overlap_at_10=round(sum(map(_by_overlap, changes)) / len(changes), 4),
        changes=tuple(changed[:_NUM_CHANGES]),
        num_refused=len(requests) - len(changes),
    )


def _requests(asked: Asked) -> tuple[SearchRequest, ...]:
    if not isinstance(asked, Golden):
        return asked
    return tuple(
        SearchRequest(text=one.query, k=max(_K, one.within or _K)) for one in asked.queries
    )


def _answers(
    location: TableLocation, config: Config, version: int, requests: Sequence[SearchRequest]
) -> list[list[_Found] | None]:
    """Return the hits of each query. A query has None if the version rejected the query."""
    table = ImagesTable.open(location, version)
    has_images = any(one.mode in IMAGE_MODES for one in requests) and table.image_column is not None
    searcher = Searcher.open(
        location.uri,
        version=version,
        embed=config.embed,
        index=config.index,
        search=config.search,
        with_images=has_images or config.search.mode in IMAGE_MODES,
        image_embed=config.image_embed,
        images=config.images,
    )
    answers = [_hits(searcher, request) for request in requests]
    ids = list({hit.image_id for hits in answers for hit in hits or ()})
    names = {
        row["image_id"]: file_name(row["member"]) for row in table.rows(ids, ["image_id", "member"])
    }
    return [
        None if hits is None else [_Found(hit.uri, names[hit.image_id]) for hit in hits]
        for hits in answers
    ]


def _hits(searcher: Searcher, request: SearchRequest) -> Sequence[Hit] | None:
    """Run a query; return its hits.

    Returns:
        The hits; None if the version does not have an image, a field or an index that the query
        needs.
    """
    try:
        return searcher.search(request).hits
    except CallError:
        return None


def _share_found(golden: Golden, answers: Sequence[Sequence[_Found] | None]) -> float:
    num_found = 0
    for query, hits in zip(golden.queries, answers, strict=True):
        expected = set(map(file_name, query.images))
        num_found += any(hit.name in expected for hit in (hits or ())[: query.within or _K])
    return num_found / len(golden.queries)


def _change(query: str, before: Sequence[_Found], after: Sequence[_Found]) -> Change:
    old, now = ([hit.uri for hit in hits[:_K]] for hits in (before, after))
    num_most = max(len(old), len(now))
    overlap = len({*old} & {*now}) / num_most if num_most else 1.0
    lost, gained = ([u for u in a if u not in b] for a, b in ((old, now), (now, old)))
    return Change(query, overlap, tuple(lost), tuple(gained))


def _described(request: SearchRequest) -> str:
    other = request.model_dump(mode="json", exclude_defaults=True, exclude={"text", "k"})
    parts = (request.text, json.dumps(other, ensure_ascii=False) if other else None)
    # Users of services wrote the text, and terminals show the text. So replace control characters.
    said = "".join(c if c.isprintable() else " " for c in " ".join(filter(None, parts)))
    return said if len(said) <= _MAX_CHARS else f"{said[: _MAX_CHARS - 1]}…"


def _by_overlap(change: Change) -> float:
    return change.overlap_at_10
