from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skytext.captions.parsing import Variant
from skytext.errors import CallError
from skytext.evaluation.annotations import AnnotatedImage, Annotations, Query
from skytext.evaluation.evaluate import Embedders, Models, evaluate_benchmark, evaluate_queries
from skytext.evaluation.gallery_texts import Described, described_in_jsonl, described_in_table
from skytext.models.fakes.embedders import FakeEmbedder
from skytext.table.images_dataset import ImagesTable
from tests.cli.tables import DESCRIBED
from tests.table.rows import good_row, location, make_table


def documents(texts: Any) -> Any:
    return FakeEmbedder().embed_documents(texts).vectors


MODELS: Models = {None: Embedders(documents, FakeEmbedder().embed_queries)}


def variant(text: str) -> Variant:
    return Variant(text, f"F {text}", f"C {text}")


def described() -> Iterator[Described]:
    for name, texts in DESCRIBED.items():
        yield Described(f"val/{name}", tuple(map(variant, texts)), None)


ANNOTATIONS = Annotations(
    benchmark="rsitmd",
    split=None,
    images=tuple(AnnotatedImage(name, tuple(texts)) for name, texts in DESCRIBED.items()),
)


def test_both_directions_are_measured() -> None:
    found = evaluate_benchmark(described(), ANNOTATIONS, MODELS)
    assert (found.num_images, found.num_queries) == (4, 8)
    row = found.rows[0]
    assert set(row.recall) == {"image_to_text", "text_to_image"}
    values = [value for part in row.recall.values() for value in part]
    assert row.mean_recall == pytest.approx(sum(values) / 6)
    assert row.recall["text_to_image"][1] == 100
    assert row.mean_interval[0] <= row.mean_recall <= row.mean_interval[1]


def test_images_beside_the_benchmark_are_not_searched() -> None:
    more = [*described(), Described("x.jpg", (variant("a brown river"),), None)]
    assert evaluate_benchmark(more, ANNOTATIONS, MODELS).num_images == 4
    own = [Query("a brown river", ("river.jpg",))]
    assert evaluate_queries(more, own, MODELS).num_images == 5


def test_any_expected_image_is_a_hit_and_ties_are_shared() -> None:
    twins = [
        Described(f"{i}.jpg", (variant("a river" if i < 3 else f"forest {i}"),), None)
        for i in range(6)
    ]
    own = [Query("a river", ("0.jpg", "2.jpg"))]
    found = evaluate_queries(twins, own, MODELS)
    row = found.rows[0]
    assert row.recall["text_to_image"][0] == pytest.approx(100 * 2 / 3)
    assert row.other_ties is not None
    assert row.other_ties["text_to_image"][0] in (0, 100)
    assert "by sort: ties in the order of numpy.argsort" in "\n".join(found.lines())


def test_missing_images_are_counted_and_allowed_only_on_request() -> None:
    some = list(described())[1:]
    with pytest.raises(CallError, match=r"1 of 4 annotated images .*river\.jpg.*--allow-missing"):
        evaluate_benchmark(some, ANNOTATIONS, MODELS)
    found = evaluate_benchmark(some, ANNOTATIONS, MODELS, allow_missing=True)
    assert (found.num_images, found.num_queries, found.num_missing) == (3, 6, 1)
    assert "1 annotated images are missing" in found.caveats()[0]


def test_ambiguous_names_are_refused() -> None:
    twice = [*described(), Described("other/river.jpg", (variant("a river"),), None)]
    with pytest.raises(
        CallError, match=r"two images have the file name 'river.jpg' \(val/river.jpg, other"
    ):
        evaluate_benchmark(twice, ANNOTATIONS, MODELS)
    # Two images may have the same file name if no query uses this name.
    asked = [Query("forest", ("forest.jpg",))]
    assert evaluate_queries(twice, asked, MODELS).num_images == 5


def test_a_table_of_other_images_is_refused() -> None:
    other = [Described("x.jpg", (variant("a river"),), None)]
    with pytest.raises(CallError, match="none of the 4 annotated images was found"):
        evaluate_benchmark(other, ANNOTATIONS, MODELS)


def test_the_published_rows_are_printed_beside_the_measured_ones() -> None:
    found = evaluate_benchmark(described(), ANNOTATIONS, MODELS)
    text = found.markdown()
    assert "| TRSLLaVA | training-free | – | – | – | – | – | – | 42.62 |" in text
    assert "a perfect scene classifier" in text
    assert "452 images, but the other rows are for 4 images: do not compare" in text
    assert "arXiv 2512.10596" in text
    assert len({line.count("|") for line in text.splitlines() if line.startswith("|")}) == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 1 is not JSON"),
        ("[]", "line 1 is not an object"),
        ('{"variants": []}', "no image name"),
        ('{"image": "a.jpg", "variants": []}', "expected a list of variants"),
        ('{"image": "a.jpg", "variants": [{"caption": "x"}]}', "a variant does not have all of"),
    ],
)
def test_wrong_descriptions_are_reported(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(CallError, match=message):
        list(described_in_jsonl(path))


def test_vectors_of_a_table_come_image_by_image(tmp_path: Path) -> None:
    rows = [good_row(f"x/{i}/{i}.jpg") for i in range(5)]
    make_table(location(tmp_path / "t"), rows[:2], rows[2:])
    table = ImagesTable.open(location(tmp_path / "t"))
    found = {image.image: image.vectors for image in described_in_table(table, None)}
    for row in rows:
        np.testing.assert_allclose(found[row["member"]], row["vectors"], atol=1e-6)
    some = list(described_in_table(table, {"3.jpg", "missing.jpg"}))
    assert [image.image for image in some] == ["x/3/3.jpg"]
