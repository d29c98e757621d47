"""How far a run that embeds images is, and what it did."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from skytext.run.image_vectors.embed_images import VectorRecord
from skytext.run.image_vectors.fetch_images import Failures


@dataclass
class ImageProgress:
    """How far a run is; handed to the caller after every unit."""

    num_to_do: int
    num_embedded: int = 0
    num_committed: int = 0
    num_left: int = 0
    failures: Failures = field(default_factory=Failures)
    embed_s: float = 0.0
    device: str | None = None
    precision: str | None = None
    is_stopping: bool = False

    def add(self, record: VectorRecord) -> None:
        """Count a unit."""
        self.num_embedded += record.num_embedded
        self.num_left += record.num_left
        self.failures.update(Failures.from_json(record.failures))
        self.embed_s += record.embed_s
        self.device = record.device or self.device
        self.precision = record.precision or self.precision


@dataclass(frozen=True, slots=True)
class ImageSummary:
    """What a run did; ``to_json`` is the command line's ``--json``.

    Attributes:
        run_id: the run.
        num_ok: images that are done, all of the table.
        num_with_vector: those of them that have an image vector now.
        num_embedded: by this run.
        num_adopted: embedded by an earlier run that ended early, committed now.
        num_skipped: that had a vector already.
        num_failed: that could not be embedded by this run; they have no vector.
        failures: ``stage/reason`` to their number.
        failure_samples: ``stage/reason`` to one of them in words.
        model: the model.
        device: that it ran on; None where it did not.
        precision: that it ran in; None where it did not.
        table_version: the last that it made or saw.
        duration_s: in all.
        embed_s: in the model, of all actors together.
        images_per_s: embedded, over the whole run.
    """

    run_id: str
    num_ok: int
    num_with_vector: int
    num_embedded: int
    num_adopted: int
    num_skipped: int
    num_failed: int
    failures: dict[str, int]
    failure_samples: dict[str, str]
    model: str
    device: str | None
    precision: str | None
    table_version: int
    duration_s: float
    embed_s: float
    images_per_s: float

    def to_json(self) -> dict[str, Any]:
        """Return the fields as a JSON object."""
        return {name: getattr(self, name) for name in self.__slots__}
