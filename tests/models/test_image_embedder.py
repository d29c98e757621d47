"""Test a small random CLIP model in sentence-transformers, and the fake model that uses colours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from skytext.config.embedding import PACKAGED_EMBEDDER, EmbedConfig, ImageEmbedConfig
from skytext.config.pixels import ImageConfig
from skytext.errors import ConfigError, ModelError, TableError
from skytext.models.checkpoints import embed_model, image_model
from skytext.models.factory import make_image_embedder, make_table_image_embedder
from skytext.models.fakes.embedders import FakeImageEmbedder
from skytext.models.fakes.options import FakeOptions, pixel_digest
from skytext.models.fingerprints import image_embedding_fingerprint
from skytext.models.image_embedder import ImageEmbedder
from skytext.table.vector_columns import VectorColumn, VectorKind
from tests.models.clip_checkpoint import PROJECTION, make_clip


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def embedder(checkpoint: Path) -> ImageEmbedder:
    config = ImageEmbedConfig(model=str(checkpoint), dtype="float32", batch_size=2)
    return make_image_embedder(config, image_model(config))


def noise(seed: int, size: tuple[int, int] = (50, 40)) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    return Image.fromarray(pixels)


IMAGES = [noise(0), noise(1), noise(2, (300, 20)), noise(0)]


def test_images_become_the_towers_own_features_at_unit_length(
    checkpoint: Path, embedder: ImageEmbedder
) -> None:
    import torch
    from transformers import CLIPModel, CLIPProcessor

    found = embedder.embed_images(IMAGES)
    assert (found.dtype, found.shape, embedder.dim) == (np.float32, (4, PROJECTION), PROJECTION)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(found[0], found[3], atol=1e-6)
    model = CLIPModel.from_pretrained(checkpoint, dtype=torch.float32)
    pixels = CLIPProcessor.from_pretrained(checkpoint)(images=IMAGES, return_tensors="pt")
    with torch.no_grad():
        features = model.get_image_features(**pixels).pooler_output.numpy()
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    np.testing.assert_allclose(found, features, atol=1e-5)


def test_queries_go_through_the_text_tower_into_the_same_space(embedder: ImageEmbedder) -> None:
    texts = ["a river", "a river beside a town", "", "ü ✈ 河", "a town " * 500]
    found = embedder.embed_queries(texts)
    assert (found.dtype, found.shape) == (np.float32, (5, PROJECTION))
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    assert len(np.unique(found.round(4), axis=0)) == 5


def test_an_empty_list_gives_an_empty_array_with_the_right_dimension(
    embedder: ImageEmbedder,
) -> None:
    for found in (embedder.embed_images([]), embedder.embed_queries([])):
        assert (found.dtype, found.shape) == (np.float32, (0, PROJECTION))


def test_bfloat16_is_near_and_of_unit_length(checkpoint: Path, embedder: ImageEmbedder) -> None:
    config = ImageEmbedConfig(model=str(checkpoint), dtype="bfloat16")
    half = make_image_embedder(config, image_model(config))
    assert (half.info.device, half.info.precision) == ("cpu", "bfloat16")
    found = half.embed_images(IMAGES)
    assert found.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    assert (found * embedder.embed_images(IMAGES)).sum(axis=1).min() > 0.99


def test_a_text_only_model_is_rejected() -> None:
    text_only = embed_model(EmbedConfig(model=PACKAGED_EMBEDDER))
    config = ImageEmbedConfig(model=text_only.source)
    with pytest.raises(ModelError, match=r"has no tower for image: use a model similar to CLIP"):
        make_image_embedder(config, image_model(config))


def test_an_unnamed_model_is_refused() -> None:
    with pytest.raises(ConfigError, match="no image embedding model was named"):
        image_model(ImageEmbedConfig())
    with pytest.raises(ConfigError, match="revision 'v1' was given for 'fake'"):
        image_model(ImageEmbedConfig(model="fake", revision="v1"))


def test_a_hub_model_with_its_config_in_a_sub_folder_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """sentence-transformers/clip-ViT-B-32 has its config.json in a sub-folder."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    def download(name: str, file: str, revision: str | None = None) -> str:
        if file == "config.json":
            raise LocalEntryNotFoundError("not there")
        return f"/cache/snapshots/0123abc/{file}"

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    found = image_model(ImageEmbedConfig(model="some/clip"))
    assert (found.source, found.revision, found.is_local) == ("some/clip", "0123abc", False)


def test_the_fingerprint_is_of_content_and_pixels(tmp_path: Path, checkpoint: Path) -> None:
    def fingerprint(folder: Path, **pixels: int) -> str:
        model = image_model(ImageEmbedConfig(model=str(folder)))
        return image_embedding_fingerprint(model, ImageConfig(**pixels))

    same, other = make_clip(tmp_path / "same"), make_clip(tmp_path / "other", seed=1)
    assert fingerprint(same) == fingerprint(checkpoint)
    assert fingerprint(other) != fingerprint(checkpoint)
    assert fingerprint(same, max_side_px=512) != fingerprint(checkpoint)


def test_a_table_gets_its_own_model_and_no_other(tmp_path: Path, checkpoint: Path) -> None:
    model = image_model(ImageEmbedConfig(model=str(checkpoint)))
    fingerprint = image_embedding_fingerprint(model, ImageConfig())
    column = VectorColumn(VectorKind.IMAGE, fingerprint, str(checkpoint), "")
    assert make_table_image_embedder("t", column).dim == PROJECTION
    moved = ImageEmbedConfig(model=str(make_clip(tmp_path / "moved")))
    assert make_table_image_embedder("t", column, config=moved).dim == PROJECTION
    with pytest.raises(TableError, match=r"embedded with .*\. Vectors of 'fake' cannot be"):
        make_table_image_embedder("t", column, config=ImageEmbedConfig(model="fake"))


def plain(colour: tuple[int, int, int]) -> Image.Image:
    return Image.new("RGB", (16, 16), colour)


def test_the_fake_embeds_by_colour(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    config = ImageEmbedConfig(model=f"fake:journal={journal}")
    fake = make_image_embedder(config, image_model(config))
    assert isinstance(fake, FakeImageEmbedder)
    images = [plain((200, 20, 10)), plain((10, 200, 20)), plain((0, 10, 220))]
    vectors = fake.embed_images(images)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    queries = fake.embed_queries(["a red roof", "green, green fields", "the blue sea", "nothing"])
    np.testing.assert_allclose(np.linalg.norm(queries, axis=1), 1, atol=1e-6)
    assert (queries[:3] @ vectors.T).argmax(axis=1).tolist() == [0, 1, 2]
    assert journal.read_text().split() == [pixel_digest(image) for image in images]
    np.testing.assert_array_equal(vectors, FakeImageEmbedder(FakeOptions()).embed_images(images))
