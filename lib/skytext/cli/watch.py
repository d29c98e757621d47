"""``skytext watch``: standing queries. Each ``reindex`` reports new images that match a query."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from skytext.cli.options import AsJson, Table, with_options_of
from skytext.cli.search import read_polygon, search

if TYPE_CHECKING:
    from skytext.filters.conditions import Condition

app = typer.Typer(
    help="Add, list and remove standing queries. Each reindex reports new images that match a "
    "standing query.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

_FILTERS = (
    "where",
    "bbox",
    "polygon",
    "after",
    "before",
    "collection",
    "gsd_min",
    "gsd_max",
)


@app.command("add")
@with_options_of(search, only=["table", *_FILTERS])
def add(
    *,
    text: Annotated[str, typer.Argument(help="What to look for, in plain words.", metavar="WORDS")],
    min_score: Annotated[
        float,
        typer.Option(
            help="Minimum score of an image. It is a cosine, -1 to 1. skytext search shows such "
            "scores.",
            metavar="SCORE",
        ),
    ],
    as_json: AsJson = False,
    **options: Any,
) -> None:
    """Add a standing query. Each later reindex reports the new images that match the query.

    An image is new if no search can find it when you run this command, or if its bytes change
    later. Each image is reported once. It is reported when the first version in which it matches
    the query becomes live.
    """
    from skytext.cli.output import answers, note, print_json
    from skytext.search.options import request_fields
    from skytext.search.request import SearchRequest
    from skytext.table.location import TableLocation
    from skytext.table.standing.standing_queries import StandingQueries

    condition = request_fields(options | {"intersects": read_polygon(options["polygon"])})["where"]
    SearchRequest.from_json({"text": text, "min_score": min_score, "where": condition})
    location = TableLocation.parse(options["table"])
    if condition is not None:
        _note_unknown(location.uri, condition)
    query = StandingQueries(location).add(text, min_score, condition)
    if as_json:
        print_json(query.to_json())
        return
    answers.print(query.query_id, markup=False)
    note(f"to remove the query, run: skytext watch remove {location.uri} {query.query_id}")


@app.command("list")
def list_queries(table: Table, as_json: AsJson = False) -> None:
    """List the standing queries, and the number of reported images for each query."""
    from skytext.cli.output import answers, plural, print_json
    from skytext.table.location import TableLocation
    from skytext.table.standing.reported_matches import MatchLog
    from skytext.table.standing.standing_queries import StandingQueries

    location = TableLocation.parse(table)
    reported = MatchLog(location).last().reported
    rows = [
        query.to_json() | {"num_reported": len(reported.get(query.query_id, ()))}
        for query in StandingQueries(location).list()
    ]
    if as_json:
        print_json({"queries": rows})
        return
    for row in rows:
        where = "" if row["where"] is None else ", with a filter"
        line = (
            f"{row['query_id']}  {row['text']}  (score at least {row['min_score']:g}{where}; "
            f"{plural(row['num_reported'], 'image')} reported since {row['added_at'][:10]})"
        )
        answers.print(line, markup=False, soft_wrap=True)
    if not rows:
        answers.print("no standing queries", markup=False)


@app.command("remove")
def remove(
    table: Table,
    query_id: Annotated[
        str, typer.Argument(help="Id of the query. skytext watch list shows it.", metavar="ID")
    ],
) -> None:
    """Remove a standing query."""
    from skytext.cli.output import note
    from skytext.table.location import TableLocation
    from skytext.table.standing.standing_queries import StandingQueries

    StandingQueries(TableLocation.parse(table)).remove(query_id)
    note(f"the standing query {query_id} was removed")


def _note_unknown(uri: str, condition: Condition) -> None:
    """If no image has a field of the filter, print a note. Later images may have the field."""
    from skytext.cli.output import note
    from skytext.errors import CallError
    from skytext.search.known_filters import check_filter
    from skytext.table.images_dataset import ImagesTable
    from skytext.table.location import TableLocation
    from skytext.table.queries.known_fields import KnownFields

    table = ImagesTable.open_served(TableLocation.parse(uri))
    try:
        check_filter(condition, {uri: KnownFields(table)})
    except CallError as error:
        note(f"note: {error}. Images that are added later can have this field")
