"""Test that vectors of another model are computed without a captioner.

The active vectors are used until the new vectors are complete.
"""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skytext.captions.parsing import Variant, document_text
from skytext.config.embedding import EmbedConfig
from skytext.errors import JobError, TableError
from skytext.models.checkpoints import embed_model
from skytext.models.factory import make_embedder
from skytext.run import vector_run
from skytext.run.control.committer import RemoteCommitter
from skytext.run.plans.vector_plan import plan_images
from skytext.run.vector_run import run_vectors
from skytext.table.commits.stage_rows import staged_unit_ids
from skytext.table.images_dataset import ImagesTable
from skytext.table.runs_dataset import last_runs
from skytext.table.vector_columns import Role, VectorKind
from tests.archives import bad_images, images, write_archive
from tests.run.jobs import (
    caption,
    check_nothing_to_do,
    check_one_row_an_image,
    config,
    open_table,
    ray,
    rows,
    with_ray,
)

pytestmark = [ray, with_ray]
ANOTHER = "fake:dim=24"


@pytest.fixture(scope="module")
def first(local_ray: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with an archive and its table.

    The table has 15 described images with vectors of a fake model, and some failed images.
    """
    folder = tmp_path_factory.mktemp("stale") / "first"
    bad = [(name, data) for name, (data, _) in bad_images().items()]
    shards = {"a.tar": images(0, 9), "b.tar": [*images(9, 6), *bad]}
    caption(write_archive(folder / "aerial", shards), folder / "table", caption__model=fake(folder))
    return folder


@pytest.fixture
def captioned(first: Path, request: pytest.FixtureRequest) -> Path:
    """Return a copy of the table of `first`. A copy of its archive is in the same folder."""
    folder = first.parent / request.node.name
    shutil.copytree(first, folder)
    return folder / "table"


def fake(folder: Path) -> str:
    """Return the name of the fake model.

    The name contains the path of the journal, so all copies share one journal.
    """
    return f"fake:journal={folder.parent / 'journal'}"


def again(table: Path, **more: Any) -> Any:
    given = {"caption__model": fake(table.parent), "embed__model": ANOTHER} | more
    return caption(table.parent / "aerial", table, **given)


def described(table: Path) -> Counter[str]:
    return Counter((table.parents[1] / "journal").read_text().split())


def check_vectors(table: ImagesTable) -> None:
    config = EmbedConfig(model=ANOTHER)
    embedder = make_embedder(config, embed_model(config))
    assert table.text_column.model == ANOTHER
    assert table.text_column.dim == embedder.dim
    for row in rows(table.location.uri, "status", "captions", "vectors"):
        if row["status"] != "ok":
            assert row["vectors"] is None
            continue
        texts = [document_text(Variant(**variant)) for variant in row["captions"]]
        expected = embedder.embed_documents(texts).vectors
        # Other texts in a batch change the padding, so the last bits differ.
        np.testing.assert_allclose(np.array(row["vectors"], np.float32), expected, atol=2e-2)


def test_another_embedding_model_calls_no_captioner(captioned: Path) -> None:
    before, asked = open_table(captioned), described(captioned)
    with pytest.raises(TableError, match=r"was embedded with 'fake'.*--stale vectors"):
        again(captioned)
    summary, _ = again(captioned, stale="vectors")
    [vectors] = summary.stale_vectors
    assert (vectors["kind"], vectors["num_embedded"], vectors["num_failed"]) == ("text", 15, 0)
    assert (summary.num_captioned, summary.num_skipped) == (0, summary.num_listed)
    assert described(captioned) == asked
    check_one_row_an_image(captioned, summary)
    table = open_table(captioned)
    check_vectors(table)
    # The previous version is unchanged, and the new version has only the new vectors.
    old = ImagesTable.open(table.location, before.version)
    assert (old.text_column, old.text_column.dim) == (before.text_column, 16)
    assert [column.kind for column in table.columns] == [VectorKind.TEXT]
    assert old.text_column.name not in table.dataset.schema.names
    done, seen = again(captioned, stale="vectors")
    assert done.stale_vectors == []
    check_nothing_to_do(done, seen, summary)
    commands = [run.command for run in last_runs(table.location, 9)]
    assert commands == ["embed-captions", "caption"]


def test_an_interrupted_model_change_continues_with_new_images(
    captioned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = open_table(captioned)
    commit, calls = RemoteCommitter.commit, []

    def away(*arguments: Any) -> None:
        calls.append(arguments)
        if len(calls) > 1:
            raise JobError("the store is away")
        committer, unit_ids = arguments
        commit(committer, unit_ids[:1])

    small = {"image_embed__unit_images": 4}
    with monkeypatch.context() as patch:
        patch.setattr(RemoteCommitter, "commit", away)
        patch.setattr(vector_run, "finish_vectors", away)
        with pytest.raises(JobError, match="the store is away"):
            again(captioned, stale="vectors", **small)
    # Readers see the old vectors until all new vectors exist.
    half = open_table(captioned)
    assert half.text_column == before.text_column
    assert [column.dim for column in half.columns if column.role == Role.PENDING] == [24]
    assert len(staged_unit_ids(before.location)) == 3
    write_archive(captioned.parent / "aerial", {"c.tar": images(40, 3)})
    added, _ = again(captioned, embed__model="fake")
    assert added.num_captioned == 3
    summary, _ = again(captioned, stale="vectors", **small)
    [vectors] = summary.stale_vectors
    # The run with the old model committed the staged vectors.
    assert (vectors["num_skipped"], vectors["num_adopted"], vectors["num_embedded"]) == (15, 0, 3)
    check_vectors(open_table(captioned))


def test_another_image_model_makes_image_vectors_again_and_nothing_else(captioned: Path) -> None:
    first = config(image_embed__model="fake", images__max_side_px=64)
    run_vectors(plan_images(str(captioned), first))
    table, asked = open_table(captioned), described(captioned)
    assert table.image_column is not None
    # Another maximum side of the images gives another fingerprint.
    given = {"image_embed__model": "fake", "images__max_side_px": 32, "embed__model": "fake"}
    summary, _ = again(captioned, stale="vectors", **given)
    [vectors] = summary.stale_vectors
    assert (vectors["kind"], vectors["num_embedded"]) == ("image", 15)
    assert described(captioned) == asked
    after = open_table(captioned)
    assert after.text_column == table.text_column
    assert after.image_column is not None
    assert not after.image_column.fits(table.image_column)
