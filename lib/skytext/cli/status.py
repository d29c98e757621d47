"""``skytext status``: show the content of a table."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import asdict
from typing import Annotated, Any

import typer

from skytext.cli.options import AsJson, Table

_NUM_RUNS = 5


def status(
    table: Table,
    fields: Annotated[
        bool,
        typer.Option(
            "--fields",
            help="Show the columns and metadata fields that filters can use, and examples of their "
            "values.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show the state of a table: rows, failures, versions, indexes and the latest runs."""
    from skytext.cli.output import answers, print_json

    if fields:
        report = fields_report(table)
        if as_json:
            print_json(report)
            return
        for line in _field_lines(report):
            answers.print(line, markup=False, soft_wrap=True)
        return
    report = table_report(table)
    if as_json:
        print_json(report)
        return
    rows = report["rows"]
    live = report["live_version"]
    lines = [
        f"{report['table']}  version {report['version']}, "
        + (
            f"live {live}" if live is not None else "no live version (skytext index makes one live)"
        ),
        f"rows: {rows['ok']:,} ok, {rows['failed']:,} failed"
        + (f", {rows['withdrawn']:,} withdrawn" if rows["withdrawn"] else ""),
        f"embeddings: {report['embedding_model']}, {report['dim']} dimensions",
        *_column_lines(report),
    ]
    lines += [f"  failed: {f['rows']:,} × {f['stage']}/{f['reason']}" for f in report["failures"]]
    line = _index_line(report["num_unindexed_rows"], report["vector_index"])
    lines.append(f"vector index: {line}")
    images = report["image_vectors"]
    if images is not None:
        lines.append(
            f"image vectors: {images['model']}, {images['dim']} dimensions; "
            f"ok rows without an image vector: {images['num_without']:,}"
        )
        line = _index_line(report["num_unindexed_image_rows"], report["image_vector_index"])
        lines.append(f"image vector index: {line}")
    lines += _promotion_lines(report)
    for run in report["runs"]:
        did = (
            f"{run['num_embedded']:,} embedded"
            if run["command"].startswith("embed-")
            else f"{run['num_captioned']:,} described, {run['num_newly_failed']:,} failed"
        )
        lines.append(
            f"run {run['run_id'][:8]}  {run['started_at'][:19]}  {run['command']} {run['state']}: "
            f"{did}, {run['duration_s']:.0f} s"
        )
    for line in lines:
        answers.print(line, markup=False, soft_wrap=True)


def _promotion_lines(report: dict[str, Any]) -> Iterator[str]:
    from skytext.cli.promote import canary_lines
    from skytext.table.versions.promote_rollback import Promotion

    rows = report["promotions"]
    if rows:
        yield from canary_lines(report["table"], Promotion.from_row(rows[0]))
    for row in rows:
        yield Promotion.from_row(row).described


def _index_line(num_unindexed: int | None, facts: dict[str, Any] | None) -> str:
    from skytext.cli.output import index_words

    if num_unindexed is None:
        return "none, searches are exact"
    if facts is None:
        return (
            "its recall is not measured, so searches are exact. To rebuild the index, run: skytext "
            "index"
        )
    return f"{index_words(facts['kind'], facts)}; {num_unindexed:,} rows not covered yet"


def _column_lines(report: dict[str, Any]) -> Iterator[str]:
    from skytext.table.vector_columns import FORMAT_VERSION, Role

    for column in report["vector_columns"]:
        name, model = column["name"], column["model"]
        if column["role"] == Role.PENDING:
            yield f"  pending column, not searched yet: {name}, made by {model}"
        if column["role"] == Role.RETIRED:
            yield f"  column kept for a rollback: {name}, made by {model}"
    if report["format_version"] < FORMAT_VERSION:
        yield (
            f"the table has format {report['format_version']}, but runs need format "
            f"{FORMAT_VERSION}. To migrate the table, run: skytext migrate "
            f"{shlex.quote(report['table'])}"
        )


def _field_lines(report: dict[str, Any]) -> Iterator[str]:
    catalogue = report["catalogue"]
    if catalogue is None:
        yield f"{report['table']}  version {report['version']} has no field catalogue yet."
        yield f"To create the catalogue, run: skytext index {shlex.quote(report['table'])}"
        return
    yield (
        f"{report['table']}  version {report['version']}, fields of "
        f"{catalogue['num_images']:,} images"
        + (
            ""
            if report["is_current"]
            else "; rows have changed since then. To update the fields, run: skytext index "
            f"{shlex.quote(report['table'])}"
        )
    )
    width = max((len(field["name"]) for field in catalogue["fields"]), default=0)
    for field in catalogue["fields"]:
        line = f"{field['name']:{width}}  {field['kind']:7}  {field['num_images']:>9,}"
        yield f"{line}  {_values_of(field)}".rstrip()
    if catalogue["is_cut"]:
        yield "the metadata has more fields, which are not in this list"


def _values_of(field: dict[str, Any]) -> str:
    """Return the range of a field, and the most frequent values of the field."""
    parts = []
    if field["minimum"] is not None:
        parts.append(f"{_short(field['minimum'])} to {_short(field['maximum'])}")
    if field["top_values"]:
        top = [f"{_short(v['value'])} ({v['num_images']:,})" for v in field["top_values"][:5]]
        left = field["num_values"] - len(top)
        more = f", and {'more than ' if field['is_cut'] else ''}{left:,} others" if left > 0 else ""
        parts.append(", ".join(top) + more)
    return "; ".join(parts)


def _short(value: float | str) -> str:
    if isinstance(value, str):
        return value if len(value) <= 30 else f"{value[:29]}…"
    return str(value).lower() if isinstance(value, bool) else f"{value:g}"


def fields_report(table: str) -> dict[str, Any]:
    """Return the object for ``status --fields --json``.

    Raises:
        TableError: the table does not exist.
    """
    from skytext.table.field_catalogue import Coverage, read_catalogue
    from skytext.table.images_dataset import ImagesTable
    from skytext.table.location import TableLocation

    images = ImagesTable.open(TableLocation.parse(table))
    found = read_catalogue(images.dataset)
    is_current = found is not None and found.coverage(images.dataset) is Coverage.ALL
    return {
        "table": images.location.uri,
        "version": images.version,
        "is_current": is_current,
        "catalogue": None
        if found is None
        else found.model_dump(mode="json", exclude={"last_fragment", "fragments"}),
    }


def table_report(table: str) -> dict[str, Any]:
    """Return the object for ``status --json``.

    Raises:
        TableError: the table does not exist.
    """
    from skytext.table.images_dataset import ImagesTable
    from skytext.table.index_facts import IMAGE_VECTOR_INDEX, read_facts
    from skytext.table.indexes.build_indexes import num_unindexed_rows
    from skytext.table.indexes.image_vector_index import image_index_facts
    from skytext.table.location import TableLocation
    from skytext.table.rows.missing_vectors import image_report
    from skytext.table.runs_dataset import last_runs
    from skytext.table.versions.promote_rollback import promotions

    location = TableLocation.parse(table)
    images = ImagesTable.open(location)
    facts, of_images = read_facts(images.dataset), image_index_facts(images)
    return {
        "table": location.uri,
        "version": images.version,
        "live_version": images.live_version(),
        "rows": images.status_counts(),
        "failures": [
            {"stage": stage, "reason": reason, "rows": count}
            for (stage, reason), count in images.failure_counts().items()
        ],
        "format_version": images.format_version,
        "vector_columns": [asdict(column) for column in images.columns],
        "embedding_model": images.text_column.model,
        "dim": images.text_column.dim,
        "num_unindexed_rows": num_unindexed_rows(images),
        "vector_index": None if facts is None else facts.to_json(),
        "image_vectors": image_report(images),
        "num_unindexed_image_rows": num_unindexed_rows(images, IMAGE_VECTOR_INDEX),
        "image_vector_index": None if of_images is None else of_images.to_json(),
        "promotions": [one.to_json() for one in promotions(location, _NUM_RUNS)],
        "runs": [
            {
                "run_id": run.run_id,
                "command": run.command,
                "state": run.state,
                "started_at": run.started_at.isoformat(),
                "num_captioned": run.counts.get("num_captioned", 0),
                "num_embedded": run.counts.get("num_embedded", 0),
                "num_newly_failed": run.counts.get("num_newly_failed", 0),
                "duration_s": run.timings_s.get("duration_s", 0.0),
                "table_version": run.table_version,
            }
            for run in last_runs(location, _NUM_RUNS)
        ],
    }
