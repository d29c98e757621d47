"""The vector columns of a table, and the model of each column.

The name of a column contains its kind and its fingerprint. So a column never contains vectors of
two models. The schema metadata of each version list the columns. For each kind, searches use the
active column. While searches use the active column, runs may fill a pending column. When the
pending column is complete, one commit makes this column the active column.

In tables of format 3, the columns have fixed names.
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
"""Version of the table format. It is stored in the schema metadata as ``skytext.format_version``.
"""

_OLD_FORMAT = 3
_PREFIX = "skytext."
_FORMAT_KEY = f"{_PREFIX}format_version"
COLUMNS_KEY = f"{_PREFIX}vector_columns"


class VectorKind(StrEnum):
    """The kind of content from which a vector is computed."""

    TEXT = "text"
    """One unit vector for each variant of an image's description."""
    IMAGE = "image"
    """One unit vector for the pixels of an image."""


class Role(StrEnum):
    """The role of a vector column.

    Searches use an active column. Runs fill a pending column. A retired column is kept for
    roll-backs.
    """

    ACTIVE = "active"
    PENDING = "pending"
    RETIRED = "retired"
    """The column was active. It is kept as long as a roll-back may need it."""


_STEMS = {VectorKind.TEXT: "text_vectors", VectorKind.IMAGE: "image_vector"}
_NAME = re.compile(rf"(?:{'|'.join(_STEMS.values())})_[0-9a-f]{{8}}")
_OLD_NAMES = {VectorKind.TEXT: "vectors", VectorKind.IMAGE: "image_vector"}


@dataclass(frozen=True, slots=True)
class VectorColumn:
    """A vector column. Only vectors with the same kind and fingerprint can be compared.

    Attributes:
        kind: kind of the content from which the vectors are computed.
        fingerprint: hash of all settings that change the vectors. These settings are the model, and
            the layout of the text or the preparation of the pixels.
        model: name of the model. Searches load the model by this name.
        revision: commit id of the model on the model hub; empty if it is unknown.
        dim: length of a vector; 0 until the first unit is computed.
        dtype: the precision that the settings request for the model.
        role: role of the column.
        name: name of the column in the schema.
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
        # If the arguments come from JSON, kind and role are strings.
        object.__setattr__(self, "kind", VectorKind(self.kind))
        object.__setattr__(self, "role", Role(self.role))
        if not self.name:
            object.__setattr__(self, "name", f"{_STEMS[self.kind]}_{self.fingerprint[:8]}")

    @property
    def field(self) -> pa.Field:
        """The Arrow field of the column.

        The type is a unit vector of float32, or a list of such vectors. The value is null if the
        row has no vector.
        """
        vector = pa.list_(pa.float32(), self.dim)
        return pa.field(self.name, pa.list_(vector) if self.kind == VectorKind.TEXT else vector)

    @property
    def described(self) -> str:
        """The name and the revision of the model, for messages."""
        return f"{self.model!r}{f' at {self.revision}' if self.revision else ''}"

    def fits(self, other: VectorColumn) -> bool:
        """Return whether the vectors of both columns can be compared."""
        return (self.kind, self.fingerprint) == (other.kind, other.fingerprint)

    def to_json(self) -> str:
        """Return the fields as a JSON string."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> VectorColumn:
        """Parse the string that `to_json` returns."""
        return cls(**json.loads(text))


def is_vector_name(name: str) -> bool:
    """Return whether a name has the form of the names of vector columns."""
    return _NAME.fullmatch(name) is not None


def to_metadata(columns: Sequence[VectorColumn]) -> dict[str, str]:
    """Return the schema metadata for a table that has these vector columns."""
    return {
        _FORMAT_KEY: str(FORMAT_VERSION),
        COLUMNS_KEY: json.dumps([asdict(column) for column in columns]),
    }


def read_metadata(uri: str, metadata: Mapping[str, str]) -> tuple[int, tuple[VectorColumn, ...]]:
    """Return the format version and the vector columns of a table.

    Raises:
        TableError: skytext did not make the table, or its format version is not supported.
    """
    version = metadata.get(_FORMAT_KEY)
    if version is None:
        raise TableError(
            f"{uri} was not made by skytext (its metadata do not contain {_FORMAT_KEY}). Give "
            "another table, or a folder that does not exist yet"
        )
    if version == str(FORMAT_VERSION):
        columns = json.loads(metadata[COLUMNS_KEY])
        return FORMAT_VERSION, tuple(VectorColumn(**column) for column in columns)
    if version == str(_OLD_FORMAT):
        return _OLD_FORMAT, tuple(_old_columns(metadata))
    raise TableError(
        f"{uri} has table format {version}, but this release of skytext reads only formats "
        f"{_OLD_FORMAT} and {FORMAT_VERSION}. Install the release that wrote the table, or run "
        "skytext caption with the address of a new table"
    )


def _old_columns(metadata: Mapping[str, str]) -> list[VectorColumn]:
    columns = (old_column(kind, metadata) for kind in VectorKind)
    return [column for column in columns if column is not None]


def old_column(kind: VectorKind, metadata: Mapping[str, str]) -> VectorColumn | None:
    """Return the vector column of a kind from metadata of format 3; None if there is none."""
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
