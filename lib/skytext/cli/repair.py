"""``skytext repair``: remove duplicate rows."""

from __future__ import annotations

from dataclasses import asdict

from skytext.cli.options import AsJson, Table


def repair(table: Table, as_json: AsJson = False) -> None:
    """Remove duplicate rows of images. Run this command if a run reports duplicate rows.

    If an image has several rows, the newest row with the status `ok` is kept.
    """
    from skytext.cli.output import answers, plural, print_json
    from skytext.table.commits.remove_double_rows import remove_double_rows
    from skytext.table.location import TableLocation

    done = remove_double_rows(TableLocation.parse(table))
    if as_json:
        print_json(asdict(done))
        return
    answers.print(
        f"{plural(done.num_images, 'image')} had more than one row: "
        f"{plural(done.num_removed, 'row')} removed (table version {done.table_version})",
        markup=False,
    )
