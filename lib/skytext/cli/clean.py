"""``skytext clean``: remove versions and files that are no longer needed."""

from __future__ import annotations

from typing import Annotated

import typer

from skytext.cli.options import AsJson, Table


def clean(
    table: Table,
    keep_days: Annotated[
        float | None,
        typer.Option(help="Keep versions younger than this number of days; default: 7.", min=0),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be removed, but remove nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Remove old versions, their files, and orphaned files.

    The command keeps the live version, the versions to which a rollback can return, and the
    versions that a service uses. It also keeps the files of a running job. An orphaned file is
    removed if it is older than seven days.
    """
    from skytext.cli.output import answers, plural, print_json
    from skytext.config.reindex import ReindexConfig
    from skytext.table.clean_up import clean_up
    from skytext.table.location import TableLocation

    keep_days = ReindexConfig().keep_days if keep_days is None else keep_days
    done = clean_up(TableLocation.parse(table), keep_days=keep_days, is_dry=dry_run)
    if as_json:
        print_json(done.to_json())
        return
    removed = "would be removed" if dry_run else "removed"
    answers.print(
        f"{plural(done.num_versions, 'version')} and {plural(done.num_files, 'file')} "
        f"({done.num_bytes / 1e6:,.1f} MB) {removed}, {plural(done.num_kept, 'version')} kept",
        markup=False,
    )
