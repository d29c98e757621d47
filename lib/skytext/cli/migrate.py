"""``skytext migrate``: migrate a table to the current format."""

from __future__ import annotations

from dataclasses import asdict

from skytext.cli.options import AsJson, Table


def migrate(table: Table, as_json: AsJson = False) -> None:
    """Convert a table from an older table format to the current format.

    No model is needed. Only names of columns change, so the command takes seconds for a table of
    any size. Earlier versions of the table are still readable.
    """
    from skytext.cli.output import answers, print_json
    from skytext.table.commits.migrate import migrate as migrate_table
    from skytext.table.location import TableLocation

    done = migrate_table(TableLocation.parse(table))
    if as_json:
        print_json(asdict(done))
        return
    was = (
        "already has"
        if done.from_format == done.to_format
        else f"had format {done.from_format} and now has"
    )
    answers.print(
        f"the table {was} format {done.to_format} (table version {done.table_version})",
        markup=False,
    )
