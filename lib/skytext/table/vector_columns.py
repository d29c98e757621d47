"""The columns of vectors of a table: which there are, and by which model each was made.

A column is named by its kind and fingerprint, so that vectors of two models never share one. The
schema metadata of each version lists the columns. Readers use the active one of a kind. A pending
one is filled by runs beside it, until one commit makes it the active one.

Tables of format 3 have their columns under fixed names.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum

import pyarrow as pa

from skytext.errors import TableError

FORMAT_VERSION = 4
"""Version of the table format; in the metadata of the schema as ``skytext.format_version``."""

_OLD_FORMAT = 3
_PREFIX = "skytext."
_FORMAT_KEY = f"{_PREFIX}format_version"
COLUMNS_KEY = f"{_PREFIX}vector_columns"


class VectorKind(StrEnum):
    """The source of a vector."""

    TEXT = "text"
    """One unit vector for each variant of an image's description."""
    IMAGE = "image"
    """One unit vector for the pixels of an image."""


class Role(StrEnum):
    """The use of a column."""

    ACTIVE = "active"
    PENDING = "pending"
    RETIRED = "retired"
    """It was active. It stays while a roll-back may lead to a version that searches it."""


_STEMS = {VectorKind.TEXT: "text_vectors", VectorKind.IMAGE: "image_vector"}
_NAME = re.compile(rf"(?:{'|'.join(_STEMS.values())})_[0-9a-f]{{8}}")
_OLD_NAMES = {VectorKind.TEXT: "vectors", VectorKind.IMAGE: "image_vector"}


@dataclass(frozen=True, slots=True)
class VectorColumn:
    """A column of vectors, and what decides whether a writer or a searcher fits it.

    Attributes:
        kind: the source of the vectors.
        fingerprint: of all that changes them: the model, and the text layout or the pixels.
        model: the model's name, by which a searcher loads it.
        revision: the hub commit, or empty.
        dim: length of a vector; 0 until the first unit sets it.
        dtype: the configured precision.
        role: the use of the column.
        name: of the column in the schema.
    """

    kind: VectorKind
    fingerprint: str
    model: str
    revision: str
    dim: int = 0
    dtype: str = "auto"
    role: Role = Role.ACTIVE
    name: str = ""

    def __post_init__(self) -> None:
        # From JSON they come as texts.
        object.__setattr__(self, "kind", VectorKind(self.kind))
        object.__setattr__(self, "role", Role(self.role))
        if not self.name:
            object.__setattr__(self, "name", f"{_STEMS[self.kind]}_{self.fingerprint[:8]}")

    @property
    def field(self) -> pa.Field:
        """Of the schema: float32, unit length, null where the row has none."""
        vector = pa.list_(pa.float32(), self.dim)
        return pa.field(self.name, pa.list_(vector) if self.kind == VectorKind.TEXT else vector)

    @property
    def described(self) -> str:
        """The model and its revision, for people."""
        return f"{self.model!r}{f' at {self.revision}' if self.revision else ''}"

    def fits(self, other: VectorColumn) -> bool:
        """Return whether vectors of both compare."""
        return (self.kind, self.fingerprint) == (other.kind, other.fingerprint)

    def to_json(self) -> str:
        """Return what `from_json` reads."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> VectorColumn:
        """Read what `to_json` wrote."""
        return cls(**json.loads(text))


def is_vector_name(name: str) -> bool:
    """Return whether a column is named as `VectorColumn` names it."""
    return _NAME.fullmatch(name) is not None


def to_metadata(columns: Sequence[VectorColumn]) -> dict[str, str]:
    """Return the metadata of a schema with these columns of vectors."""
    return {
        _FORMAT_KEY: str(FORMAT_VERSION),
        COLUMNS_KEY: json.dumps([asdict(column) for column in columns]),
    }


def read_metadata(uri: str, metadata: Mapping[str, str]) -> tuple[int, tuple[VectorColumn, ...]]:
    """Return a table's format version, and its columns of vectors.

    Raises:
        TableError: it is not a table of ours, or one of another format version.
    """
    version = metadata.get(_FORMAT_KEY)
    if version is None:
        raise TableError(
            f"{uri} was not made by skytext (no {_FORMAT_KEY} in its metadata): name another "
            "table, or a folder that does not exist yet"
        )
    if version == str(FORMAT_VERSION):
        columns = json.loads(metadata[COLUMNS_KEY])
        return FORMAT_VERSION, tuple(VectorColumn(**column) for column in columns)
    if version == str(_OLD_FORMAT):
        return _OLD_FORMAT, tuple(_old_columns(metadata))
    raise TableError(
        f"{uri} has table format {version}, this skytext reads formats {_OLD_FORMAT} and "
        f"{FORMAT_VERSION}: install the skytext that wrote it, or caption into a new table"
    )


def _old_columns(metadata: Mapping[str, str]) -> list[VectorColumn]:
    columns = (old_column(kind, metadata) for kind in VectorKind)
    return [column for column in columns if column is not None]


def old_column(kind: VectorKind, metadata: Mapping[str, str]) -> VectorColumn | None:
    """Return what metadata of format 3 say of a kind of vectors; None where they say nothing."""
    stem, dim_key = ("embedding_", "dim") if kind == VectorKind.TEXT else ("image_", "image_dim")
    dim = metadata.get(f"{_PREFIX}{dim_key}")
    if dim is None:
        return None
    fingerprint, model, revision = (
        metadata[f"{_PREFIX}{stem}{name}"] for name in ("fingerprint", "model", "revision")
    )
    dtype = metadata.get(f"{_PREFIX}{stem}dtype", "auto")
    name = _OLD_NAMES[kind]
    return VectorColumn(kind, fingerprint, model, revision, int(dim), dtype=dtype, name=name)
