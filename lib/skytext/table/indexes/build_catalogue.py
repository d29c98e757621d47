"""Build the field catalogue in one scan of the described images. The memory use is limited."""

from __future__ import annotations

import datetime as dt
import json
import math
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from skytext.filters.columns import COLUMNS, MAX_SEGMENTS, metadata_name
from skytext.table.commit_conflicts import repeat_on_conflict
from skytext.table.field_catalogue import (
    Coverage,
    Field,
    FieldCatalogue,
    FieldKind,
    ValueCount,
    fragments_digest,
    read_catalogue,
    store_catalogue,
)
from skytext.table.images_dataset import ImagesTable
from skytext.table.schema import DONE

MAX_METADATA_FIELDS = 300
"""Maximum number of entries for metadata fields. A field has one entry for each kind of value."""
MAX_VALUES = 1_000
"""Maximum number of distinct values that are counted for each field."""
MAX_VALUE_CHARS = 80
"""Maximum length of a counted string. Longer strings are not counted as values."""
NUM_TOP_VALUES = 10
_ROWS_A_BATCH = 4096
# In these columns, almost every image has a different value. So the values are not counted.
_UNCOUNTED = {"image_id", "content_sha256", "member", "uri", "byte_length"}


class _Tally:
    """Counts of the values of one kind in one field. The counts grow during the scan."""

    def __init__(self, kind: FieldKind, *, is_counted: bool) -> None:
        self.kind = kind
        self.num_images = 0
        self.minimum: Any = None
        self.maximum: Any = None
        self.values: Counter[Any] | None = Counter() if is_counted else None
        self.is_cut = False

    def add(self, value: Any, times: int = 1) -> None:
        self.num_images += times
        if self.kind == "number":
            self._reach(value, value)
        self._count(value, times)

    def add_array(self, array: pa.Array) -> None:
        self.num_images += len(array) - array.null_count
        if pa.types.is_floating(array.type):
            array = array.filter(pc.is_finite(array))
        if self.kind in ("number", "time") and len(array) > array.null_count:
            ends = pc.min_max(array).as_py()
            self._reach(ends["min"], ends["max"])
        if self.values is not None:
            for one in pc.value_counts(array.drop_null()).to_pylist():
                self._count(one["values"], one["counts"])

    def _reach(self, low: Any, high: Any) -> None:
        if self.minimum is None:
            self.minimum, self.maximum = low, high
        self.minimum, self.maximum = min(self.minimum, low), max(self.maximum, high)

    def _count(self, value: Any, times: int) -> None:
        # If a value is counted, it is counted from the first image on. So every count is complete.
        if self.values is None:
            return
        if value not in self.values:
            is_long = isinstance(value, str) and len(value) > MAX_VALUE_CHARS
            if is_long or len(self.values) >= MAX_VALUES:
                self.is_cut = True
                return
        self.values[value] += times

    def field(self, name: str) -> Field:
        counted = self.values is not None
        top = sorted((self.values or {}).items(), key=lambda one: (-one[1], str(one[0])))
        return Field(
            name=name,
            kind=self.kind,
            num_images=self.num_images,
            minimum=_json_value(self.minimum),
            maximum=_json_value(self.maximum),
            top_values=tuple(
                ValueCount(value=value, num_images=number) for value, number in top[:NUM_TOP_VALUES]
            ),
            num_values=len(self.values or ()) if counted else None,
            is_cut=self.is_cut,
        )


@repeat_on_conflict
def refresh_catalogue(table: ImagesTable) -> None:
    """Build and store the catalogue of the latest version. A current catalogue is kept."""
    latest = ImagesTable.open(table.location)
    there = read_catalogue(latest.dataset)
    if there is None or there.coverage(latest.dataset) is not Coverage.ALL:
        store_catalogue(latest.dataset, make_catalogue(latest))


def make_catalogue(table: ImagesTable) -> FieldCatalogue:
    """Build the catalogue of a version."""
    columns = {name: _Tally(_column_kind(name), is_counted=_is_counted(name)) for name in COLUMNS}
    metadata = _MetadataTally()
    num_images = 0
    scanner = table.dataset.scanner(
        columns=sorted({name.partition(".")[0] for name in COLUMNS} | {"metadata"}),
        filter=DONE,
        batch_size=_ROWS_A_BATCH,
        batch_readahead=2,
        fragment_readahead=1,
    )
    for batch in scanner.to_batches():
        num_images += batch.num_rows
        for name, tally in columns.items():
            tally.add_array(_column(batch, name))
        metadata.add(batch.column("metadata"))
    last = max((f.fragment_id for f in table.dataset.get_fragments()), default=-1)
    fields = [tally.field(name) for name, tally in columns.items() if tally.num_images]
    return FieldCatalogue(
        num_images=num_images,
        fields=(*fields, *metadata.fields()),
        is_cut=metadata.is_cut,
        last_fragment=last,
        fragments=fragments_digest(table.dataset, last),
    )


class _MetadataTally:
    """Counts of the values of all metadata fields. The counts grow during the scan."""

    def __init__(self) -> None:
        self._tallies: dict[tuple[tuple[str, ...], FieldKind], _Tally] = {}
        self.is_cut = False

    def add(self, texts: pa.Array) -> None:
        for text in texts.to_pylist():
            if text is not None:
                for path, value in _leaves(json.loads(text), ()):
                    self._add(path, value)

    def _add(self, path: tuple[str, ...], value: Any) -> None:
        kind = _kind_of(value)
        tally = self._tallies.get((path, kind))
        if tally is None:
            if len(self._tallies) >= MAX_METADATA_FIELDS:
                self.is_cut = True
                return
            tally = self._tallies[path, kind] = _Tally(kind, is_counted=kind != "other")
        tally.add(_finite(value) if kind == "number" else value)

    def fields(self) -> list[Field]:
        found = [tally.field(metadata_name(path)) for (path, _), tally in self._tallies.items()]
        return sorted(found, key=lambda field: (field.name, field.kind))


def _leaves(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield the path and the value of every field that is not null, including nested fields."""
    if not isinstance(value, dict) or len(path) == MAX_SEGMENTS:
        return
    for key, inner in value.items():
        if inner is not None:
            yield (*path, key), inner
            yield from _leaves(inner, (*path, key))


def _kind_of(value: Any) -> FieldKind:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, (int, float)):
        return "number"
    return "text" if isinstance(value, str) else "other"


def _finite(number: float) -> float:
    """Convert a JSON number to a finite float.

    A number that is too large is replaced by the largest float.
    """
    try:
        found = float(number)
    except OverflowError:
        found = math.inf if number > 0 else -math.inf
    largest = sys.float_info.max
    return min(max(found, -largest), largest)


def _column(batch: pa.RecordBatch, name: str) -> pa.Array:
    outer, _, inner = name.partition(".")
    column = batch.column(outer)
    return pc.struct_field(column, inner) if inner else column


def _column_kind(name: str) -> FieldKind:
    kind = COLUMNS[name].kind
    if kind is None:
        raise TypeError(f"the values of the column {name} have no single kind")
    return kind


def _is_counted(name: str) -> bool:
    is_side = name.startswith("bbox.")
    return COLUMNS[name].kind != "time" and not is_side and name not in _UNCOUNTED


def _json_value(value: Any) -> Any:
    return value.isoformat() if isinstance(value, dt.datetime) else value
