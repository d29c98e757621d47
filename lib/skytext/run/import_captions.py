"""Import existing descriptions into a table.

The import does not read the images, and needs no captioner and no Ray.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from skytext.addresses.address_parser import Location, parse_location
from skytext.archive.shards import image_id
from skytext.captions.parsing import document_text, search_text
from skytext.config.embedding import EmbedConfig
from skytext.config.settings import Config
from skytext.errors import CallError, ModelError
from skytext.evaluation.gallery_texts import Described, described_in_jsonl
from skytext.models.checkpoints import ModelIdentity, embed_model
from skytext.models.factory import make_embedder
from skytext.models.text_embedder import Embedder
from skytext.run.plans.vector_plan import text_column
from skytext.table.commits.adoption import settle
from skytext.table.commits.claim import Claim, hold
from skytext.table.commits.commit_rows import Committer, check_writable
from skytext.table.commits.stage_rows import StagedUnit, forget_records, stage_rows, to_images_table
from skytext.table.images_dataset import ImagesTable
from skytext.table.location import TableLocation
from skytext.table.runs_dataset import RunRecord, record_run
from skytext.table.schema import RUN_FIELDS, STATUS_OK, embedded
from skytext.table.store.store_preflight import check_store
from skytext.table.vector_columns import VectorColumn

COMMAND = "import"
_UNIT_ROWS = 256
_UNITS_A_COMMIT = 8


@dataclass(frozen=True, slots=True)
class ImportReport:
    """The result of an import.

    Attributes:
        num_listed: number of images in the file.
        num_new: number of images that had no row in the table.
        num_changed: number of images whose descriptions in the file differ from the descriptions in
            their rows. The import replaced these rows.
        num_same: number of images whose descriptions in the file equal the descriptions in their
            rows. The import did not change these rows.
        table_version: the table version after the import; None if the file was empty and there is
            no table.
    """

    num_listed: int
    num_new: int
    num_changed: int
    num_same: int
    table_version: int | None

    def to_json(self) -> dict[str, Any]:
        """Return the fields as a JSON object."""
        return {name: getattr(self, name) for name in self.__slots__}


def import_descriptions(
    path: Path,
    location: TableLocation,
    embed: EmbedConfig,
    *,
    archive: str | None = None,
    root: str | None = None,
) -> ImportReport:
    """Import JSON lines in the RSRT format into a table, one row per image.

    The id of an image depends on the name of the archive, the name of the file, and the image path
    in the line. A repeated import computes the same ids, so an interrupted import can be repeated.
    If the file was corrected, an import replaces only the changed rows. The file is read twice. The
    first reading checks all lines before any row is written.

    Args:
        path: path of the file. Each line has the form ``{"image", "variants": [{one_sentence,
            feature, caption}], "model"}``.
        location: the table. It is created if it does not exist.
        embed: settings of the embedding model. If the table exists, it must have this model.
        archive: name of the archive. If None, the name of the file without its suffix is used.
        root: folder, bucket prefix or web prefix of the images; None if unknown.

    Raises:
        CallError: the file does not exist, a line is malformed, an image occurs twice, the table
            has another embedding model, the store cannot hold a new table, or ``root`` is not an
            address.
        JobError: a store request failed, or another process holds the table.
    """
    if not path.is_file():
        raise CallError(f"there is no file {path}")
    model = embed_model(embed)
    run = _started_run(path, embed)
    column = text_column(model, Config(embed=embed))
    existing = ImagesTable.find(location)
    if existing is not None:
        check_writable(existing, column)
    lines = _Lines(path, archive or path.stem, _root(root) if root else None)
    lines.check()
    if existing is None:
        check_store(location)
    with hold(location, run.run_id, COMMAND) as claim:
        adoption = settle(claim, column, lines.fingerprint)
        embedder = make_embedder(embed, model)
        writer = _Writer(claim, run.run_id, lines, embedder, model, column, adoption.version)
        record_run(location, run)
        images = lines.read()
        while described := list(islice(images, _UNIT_ROWS)):
            writer.write(described)
        writer.commit()
        report = writer.report()
        counts = {name: value for name, value in report.to_json().items() if "num" in name}
        done = replace(
            run,
            state="done",
            ended_at=dt.datetime.now(dt.UTC),
            counts=counts,
            table_version=report.table_version,
        )
        record_run(location, done)
    return report


def _started_run(path: Path, embed: EmbedConfig) -> RunRecord:
    return RunRecord(
        run_id=uuid.uuid4().hex,
        command=COMMAND,
        state="started",
        started_at=dt.datetime.now(dt.UTC),
        config={"sources": [str(path)], "embed": embed.model_dump(mode="json")},
    )


def _root(root: str) -> Location | str:
    """Parse the address of the images.

    If the address is a web prefix, return it unchanged. The import does not read the images, so it
    does not parse a web prefix.
    """
    is_web = root.lower().startswith(("https://", "http://"))
    return root if is_web else parse_location(root)


@dataclass(frozen=True, slots=True)
class _Lines:
    """The lines of the file, and the values that are the same in all rows of the import."""

    path: Path
    archive: str
    root: Location | str | None

    @property
    def fingerprint(self) -> str:
        # No captioning run has this fingerprint, so imported rows are stale for captioning runs.
        return hashlib.sha256(b"imported").hexdigest()[:32]

    def check(self) -> None:
        """Read and check all lines.

        Raises:
            CallError: a line is malformed, or an image occurs twice.
        """
        for _ in self.read():
            pass

    def read(self) -> Iterator[Described]:
        """Yield each image with its descriptions.

        Raises:
            CallError: a line is malformed, or an image occurs twice. After `check` has returned,
                this error is possible only if the file has changed.
        """
        seen: set[str] = set()
        for described in described_in_jsonl(self.path):
            if described.image in seen:
                raise CallError(f"{self.path}: the image {described.image!r} occurs twice")
            seen.add(described.image)
            yield described

    def id_of(self, described: Described) -> str:
        return image_id(self.archive, self.path.name, described.image, 0)

    def uri_of(self, described: Described) -> str:
        if self.root is None:
            return f"{self.path.absolute().as_uri()}#{described.image}"
        if isinstance(self.root, str):
            return f"{self.root.removesuffix('/')}/{described.image}"
        return replace(self.root, path=f"{self.root.prefix}{described.image}").uri


class _Writer:
    """Embeds descriptions, stages rows in units, and commits several units together."""

    def __init__(
        self,
        claim: Claim,
        run_id: str,
        lines: _Lines,
        embedder: Embedder,
        model: ModelIdentity,
        column: VectorColumn,
        version: int | None,
    ) -> None:
        self._claim = claim
        self._run_id = run_id
        self._lines = lines
        self._embedder = embedder
        self._model = model
        self._column = replace(column, dim=embedder.dim)
        self._committer = Committer(claim.location, column, version)
        self._table = ImagesTable.find(claim.location)
        self._staged: list[StagedUnit] = []
        self._counts = {"num_listed": 0, "num_new": 0, "num_changed": 0, "num_same": 0}

    def write(self, described: Iterable[Described]) -> None:
        """Stage the rows of new and changed images."""
        by_id = {self._lines.id_of(one): one for one in described}
        there = {} if self._table is None else self._present(self._table, list(by_id))
        replaces, wanted = {}, {}
        for key, one in by_id.items():
            self._counts["num_listed"] += 1
            unit, text = there.get(key, (None, None))
            if text == search_text(one.variants):
                self._counts["num_same"] += 1
                continue
            self._counts["num_new" if unit is None else "num_changed"] += 1
            if unit is not None:
                replaces[key] = unit
            wanted[key] = one
        if not wanted:
            return
        unit_id = uuid.uuid4().hex
        self._staged.append(
            stage_rows(
                self._claim.location,
                unit_id,
                self._rows(unit_id, wanted),
                self._column,
                caption_fingerprint=self._lines.fingerprint,
                replaces=replaces,
            )
        )
        if len(self._staged) >= _UNITS_A_COMMIT:
            self.commit()

    def commit(self) -> None:
        """Commit the staged units."""
        if self._staged:
            self._claim.check()
            self._committer.commit(self._staged)
            forget_records(self._claim.location, self._staged)
            self._staged = []

    def report(self) -> ImportReport:
        """Return the result of the import."""
        return ImportReport(**self._counts, table_version=self._committer.version)

    def _present(self, table: ImagesTable, ids: list[str]) -> dict[str, tuple[str, str]]:
        rows = table.rows(ids, ["image_id", "unit_id", "text"])
        return {row["image_id"]: (row["unit_id"], row["text"]) for row in rows}

    def _rows(self, unit_id: str, wanted: dict[str, Described]) -> pa.Table:
        texts = [document_text(variant) for one in wanted.values() for variant in one.variants]
        embeddings = self._embedder.embed_documents(texts)
        if not embeddings.finite.all():
            text = texts[int(np.argmin(embeddings.finite))]
            raise ModelError(
                f"the model {self._model.name!r} returned no finite vector for {text[:80]!r}"
            )
        now = dt.datetime.now(dt.UTC)
        rows, first = [], 0
        for key, one in wanted.items():
            last = first + len(one.variants)
            row = {
                "image_id": key,
                "archive": self._lines.archive,
                "shard": self._lines.path.name,
                "member": one.image,
                "uri": self._lines.uri_of(one),
                "status": STATUS_OK,
                "captions": [
                    {name: getattr(variant, name) for name in variant.__slots__}
                    for variant in one.variants
                ],
                "num_variants": len(one.variants),
                "text": search_text(one.variants),
                "caption_fingerprint": self._lines.fingerprint,
                "caption_model": one.model,
                "vectors": list(embeddings.vectors[first:last]),
                "num_truncated_variants": int(embeddings.truncated[first:last].sum()),
                "embedding_fingerprint": self._column.fingerprint,
                "embedding_model": self._model.name,
                "embedding_model_revision": self._model.revision,
                "embedding_device": self._embedder.info.device,
                "embedding_precision": self._embedder.info.precision,
                "unit_id": unit_id,
                "run_id": self._run_id,
                "created_at": now,
            }
            rows.append(row)
            first = last
        schema = embedded(self._column.dim)
        fields = [*schema, *(field for field in RUN_FIELDS if field.name not in schema.names)]
        table = pa.Table.from_pylist(rows, schema=pa.schema(fields))
        return to_images_table(table, self._column)
