"""Find the new images that match standing queries.

INPUT    the claim of this run, and the settings of the table's embedding model.
OUTPUT   the match reports that were not yet delivered, including the report of this run.
FAN-OUT  one task.
ON ERROR no match is reported. The next run compares the same images again.

The comparison reads only fragments whose files have changed since the last comparison. A query is
compared only with images that are new for this query.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from skytext.config.embedding import EmbedConfig
from skytext.export.geojson_file import feature
from skytext.export.image_json import COLUMNS, described, to_line
from skytext.models.factory import make_table_embedder
from skytext.run.cluster.driver_node import run_on_driver_node
from skytext.search.standing_queries import Matches, matching_pictures, unseen_pictures
from skytext.table.commits.claim import Claim, check_claim
from skytext.table.images_dataset import ImagesTable
from skytext.table.location import TableLocation
from skytext.table.queries.caption_queries import Floats, Pictures, take
from skytext.table.standing.reported_matches import (
    Compared,
    Keys,
    MatchLog,
    MatchReport,
    files_by_fragment,
)
from skytext.table.standing.standing_queries import KEY, StandingQueries, StandingQuery

_ROWS_AT_ONCE = 256


def find_new_matches(claim: Claim, embed: EmbedConfig) -> tuple[MatchReport, ...]:
    """Compare the images of the live version with the standing queries.

    Each image is reported at most once for each query.

    Args:
        claim: the claim that this run holds on the table.
        embed: settings of the table's embedding model.

    Returns:
        All reports that were not yet delivered, the oldest report first.

    Raises:
        CommitConflictError: another run compares at the same time.
        ModelError: the model of the table cannot be loaded.
        JobError: a store request failed.
    """
    return run_on_driver_node(_find, claim, embed)


def _find(claim: Claim, embed: EmbedConfig) -> tuple[MatchReport, ...]:
    location = claim.location
    log, queries = MatchLog(location), StandingQueries(location).list()
    before, table = log.last(), _live_table(location)
    if table is None or not _is_due(before, table, queries):
        return before.waiting
    found = list(_all_matches(table, queries, before, embed))
    check_claim(location, claim.number)
    report = _report(log, table, before, found)
    after = Compared(
        table_version=table.version,
        column=table.text_column.name,
        files=frozenset().union(*files_by_fragment(table).values()),
        reported=dict(_reported(before, found)),
        waiting=(*before.waiting, *([] if report is None else [report])),
        num_reports=before.num_reports + (report is not None),
    )
    return log.append(before, after).waiting


def _live_table(location: TableLocation) -> ImagesTable | None:
    table = ImagesTable.find(location)
    live = None if table is None else table.live_version()
    return None if live is None else ImagesTable.open(location, live)


def _is_due(before: Compared, table: ImagesTable, queries: list[StandingQuery]) -> bool:
    """Return whether a new comparison may find new matches.

    This is the case if the live version has changed, or if there is a new query.
    """
    if not queries:
        return False
    are_known = all(query.query_id in before.reported for query in queries)
    return before.table_version != table.version or not are_known


@dataclass(frozen=True, slots=True)
class _Found:
    """The matches of a query that this run found."""

    query: StandingQuery
    matches: Matches


def _all_matches(
    table: ImagesTable, queries: list[StandingQuery], before: Compared, embed: EmbedConfig
) -> Iterator[_Found]:
    @cache
    def vectors() -> dict[str, Floats]:
        """Embed the texts of all queries. Called only if there is an image to compare."""
        embedder = make_table_embedder(table.location.uri, table.text_column, embed)
        texts = embedder.embed_queries([query.text for query in queries])
        return {query.query_id: text for query, text in zip(queries, texts, strict=True)}

    # Compare one query at a time to save memory, because a query may have all images of the table
    # as candidates.
    for query in queries:
        some = _candidates(table, query, before)
        if some is None:
            continue
        matches = Matches(some, np.empty(0, np.float32))
        if len(some.ids):
            matches = matching_pictures(table, some, vectors()[query.query_id], query.min_score)
        yield _Found(query, matches)


def _candidates(table: ImagesTable, query: StandingQuery, before: Compared) -> Pictures | None:
    """Return the images to compare with a query; None if the query has been deleted."""
    known = StandingQueries(table.location).known(query)
    if known is None:
        return None
    reported = before.reported.get(query.query_id)
    if reported is None:
        # This is the first comparison of the query. Compare it with all images that a search could
        # not find when the query was added.
        return unseen_pictures(table, query, list(files_by_fragment(table)), known)
    fragments = before.changed_fragments(table)
    return unseen_pictures(table, query, fragments, np.concatenate([known, reported]))


def _reported(before: Compared, found: list[_Found]) -> Iterator[tuple[str, Keys]]:
    """Yield for each query its id and the keys of all images that were reported for the query."""
    for one in found:
        known = before.reported.get(one.query.query_id, np.empty(0, KEY))
        yield one.query.query_id, np.concatenate([known, one.matches.pictures.keys])


def _report(
    log: MatchLog, table: ImagesTable, before: Compared, found: list[_Found]
) -> MatchReport | None:
    """Write the matches to the store; return the match report. Without a match, return None."""
    some = [one for one in found if len(one.matches.scores)]
    if not some:
        return None
    number = before.num_reports + 1
    counts = tuple(
        {
            "query_id": one.query.query_id,
            "text": one.query.text,
            "num_matches": len(one.matches.scores),
        }
        for one in some
    )
    lines = (to_line(each) for one in some for each in _features(table, one))
    geojson = b'{"type":"FeatureCollection","features":[\n' + b",".join(lines) + b"]}\n"
    path = log.write_matches(number, geojson)
    return MatchReport(number, table.version, dt.datetime.now(dt.UTC), counts, path)


def _features(table: ImagesTable, found: _Found) -> Iterator[Mapping[str, Any]]:
    """Yield a GeoJSON feature for each match of a query, the best match first."""
    query, (some, scores) = found.query, found.matches
    for start in range(0, len(some.ids), _ROWS_AT_ONCE):
        part = slice(start, start + _ROWS_AT_ONCE)
        rows = take(table, some.ids[part], list(COLUMNS)).to_pylist()
        for row, score in zip(rows, scores[part].tolist(), strict=True):
            made = feature(described(row))
            own = {
                "query_id": query.query_id,
                "query": query.text,
                "score": round(score, 6),
                "image_id": row["image_id"],
            }
            yield made | {
                "id": f"{query.query_id}/{row['image_id']}",
                "properties": own | made["properties"],
            }
