"""Stage the rows of a unit as Lance fragments. The driver commits the fragments later.

INPUT    units of `skytext.table.schema.embedded` rows.
OUTPUT   one `skytext.run.units.UnitRecord` per unit. The fragments are written to the store.
FAN-OUT  one unit gives one record.
ON ERROR a failed store request ends the job. No row of the unit is then visible, and the next run
         processes the images of the unit again.
"""

from __future__ import annotations

import datetime as dt
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from skytext.archive import unusable_values
from skytext.run.stages.caption_images import ENGINE_COLUMN, PUT_OFF_COLUMN
from skytext.run.units import UnitHead, UnitRecord, unpack
from skytext.table.commits.stage_rows import stage_rows, to_images_table
from skytext.table.location import TableLocation
from skytext.table.schema import FAILURE, PENDING_VECTORS, STATUS_FAILED, STATUS_OK, TIMESTAMP
from skytext.table.vector_columns import VectorColumn

_SUMMED = (
    "num_variants",
    "num_prompt_tokens",
    "num_cached_tokens",
    "num_output_tokens",
    "num_truncated_variants",
)


@dataclass(frozen=True, slots=True)
class UnitWriter:
    """A stage that writes the units of one run to one table.

    Attributes:
        location: the table.
        run_id: id of the run. It is written to every row.
        column: the column for vectors of the first embedding model. Its ``dim`` is set when the
            rows are written.
        pending: the column for vectors of the second embedding model; None if there is no second
            model.
        caption_fingerprint: caption fingerprint of the run. It is written to every record. If a
            staged unit has another fingerprint than a later run, the later run does not commit this
            unit.
    """

    location: TableLocation
    run_id: str
    column: VectorColumn
    caption_fingerprint: str = ""
    pending: VectorColumn | None = None

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Stage the rows of a unit.

        Returns:
            A table with one JSON string, which is the record of the unit.
        """
        head, samples = unpack(batch)
        clock = batch.column(ENGINE_COLUMN)[0].as_py()
        record = self._write(head, samples, None if clock is None else json.loads(clock))
        record = replace(record, put_off=tuple(batch.column(PUT_OFF_COLUMN)[0].as_py()))
        return pa.table({"record": [record.to_json()]})

    def _write(
        self, head: UnitHead, samples: pa.Table, clock: Mapping[str, Any] | None
    ) -> UnitRecord:
        if samples.num_rows == 0 and not head.removes:
            return UnitRecord(head, None)
        status = samples.column("status").to_pylist()
        unusable, examples = _unusable(samples)
        record = UnitRecord(
            head=head,
            num_rows=None,
            num_ok=status.count(STATUS_OK),
            num_failed=status.count(STATUS_FAILED),
            failures=_failures(samples),
            unusable=unusable,
            unusable_examples=examples,
            sums={name: pc.sum(samples.column(name)).as_py() or 0 for name in _SUMMED},
            engine_clock=clock,
            example=_example(samples),
        )
        samples = _without_kept(samples)
        if samples.num_rows == 0 and not head.removes:
            return record
        return replace(record, num_rows=self._stage(head, samples))

    def _stage(self, head: UnitHead, samples: pa.Table) -> int:
        """Stage the rows of a unit; return the number of rows."""
        now = pa.scalar(dt.datetime.now(dt.UTC), TIMESTAMP)
        constants = {"unit_id": pa.scalar(head.unit_id), "run_id": pa.scalar(self.run_id)}
        rows = samples.set_column(
            samples.column_names.index("failure"), "failure", _with_earlier_attempts(samples)
        )
        for name, value in (constants | {"created_at": now}).items():
            rows = rows.append_column(name, pa.repeat(value, samples.num_rows))
        column = replace(self.column, dim=_dim(samples.schema, "vectors"))
        pending = self.pending
        if pending is not None:
            pending = replace(pending, dim=_dim(samples.schema, PENDING_VECTORS))
        staged = stage_rows(
            self.location,
            head.unit_id,
            to_images_table(rows, column, pending),
            column,
            caption_fingerprint=self.caption_fingerprint,
            replaces=_replaces(samples),
            removes=head.removes,
        )
        return staged.num_rows


def _dim(schema: pa.Schema, name: str) -> int:
    return int(schema.field(name).type.value_type.list_size)


def _without_kept(samples: pa.Table) -> pa.Table:
    """Remove the failed row of an image if the table has an ``ok`` row for the same bytes."""
    failed = pc.equal(samples.column("status"), STATUS_FAILED)
    kept = samples.column("keeps_row").fill_null(False)
    return samples.filter(pc.invert(pc.and_(failed, kept)))


def _replaces(samples: pa.Table) -> dict[str, str]:
    pairs = zip(
        samples.column("image_id").to_pylist(),
        samples.column("replaces_unit").to_pylist(),
        strict=True,
    )
    return {image_id: unit for image_id, unit in pairs if unit is not None}


def _with_earlier_attempts(samples: pa.Table) -> pa.Array:
    """Set the number of attempts in each failure; return the failures.

    The number is one more than the number of attempts in the row that is replaced.
    """
    failures = samples.column("failure").to_pylist()
    earlier = samples.column("earlier_attempts").to_pylist()
    for failure, attempts in zip(failures, earlier, strict=True):
        if failure is not None:
            failure["attempts"] = (attempts or 0) + 1
    return pa.array(failures, FAILURE)


def _failures(samples: pa.Table) -> dict[str, int]:
    counts: dict[str, int] = {}
    for failure in samples.column("failure").to_pylist():
        if failure is not None:
            key = f"{failure['stage']}/{failure['reason']}"
            counts[key] = counts.get(key, 0) + 1
    return counts


def _unusable(samples: pa.Table) -> tuple[dict[str, int], dict[str, str]]:
    counts: Counter[str] = Counter()
    examples: dict[str, str] = {}
    uris = samples.column("uri")
    for i, metadata in enumerate(samples.column("metadata").to_pylist()):
        for name, value in unusable_values(metadata):
            counts[name] += 1
            examples.setdefault(name, f"{value} of {uris[i].as_py()}")
    return dict(counts), examples


def _example(samples: pa.Table) -> tuple[str, str] | None:
    members = samples.column("member")
    for i, variants in enumerate(samples.column("captions").to_pylist()):
        if variants:
            return members[i].as_py(), variants[0]["one_sentence"]
    return None
