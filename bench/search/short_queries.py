"""Measure short queries. The queries are class names that have one to three words.

The searched images have a known class and up to four distinct captions, as in the comparison of
fusions (docs/background/ranking.md). An image is a correct result if the query is the name of its
class. In the validation splits of RSITMD and NWPU, every image has a class. In the validation split
of RSICD, only some images have a class.

    SKYTEXT_TEST_DATA=FOLDER python -m bench.search.short_queries
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from bench.search.embedding import DATA
from bench.search.vectors import Floats
from skytext.config.embedding import EmbedConfig
from skytext.evaluation.annotations import ALL_SPLITS, file_name, read_annotations
from skytext.evaluation.compared_setups import FLOORS
from skytext.models.checkpoints import embed_model
from skytext.models.text_embedder import Embedder, SentenceEmbedder
from skytext.search.fusion import fuse, mean_lengths, pool
from skytext.table.indexes.text_index import TextIndex

SETS = {
    "RSITMD": "rsitmd/val_caps.txt",
    "RSICD": "rsicd/dataset_rsicd_val.json",
    "NWPU": "nwpu/nwpu_val.csv",
}
WEIGHTS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0)
_NUM_VARIANTS = 4
_K = 10
_MOST_PER_CLASS = 20
"""Maximum number of images per class. NWPU has 63 images per class."""
_SPLIT = re.compile(r"^(dense|sparse|medium|storage|baseball|railway|bare)([a-z]+)$")
_CLASS_IN_NAME = re.compile(r"^(.*[a-z])_\d+\.\w+$")


def main() -> None:
    """Print the P@10 for each weight, and print quantiles of the best cosine."""
    embedder = SentenceEmbedder(EmbedConfig(), embed_model(EmbedConfig()))
    for name, path in SETS.items():
        for line in measure(Path(os.environ[DATA]) / path, embedder):
            sys.stdout.write(f"{name}: {line}\n")
            sys.stdout.flush()


def measure(captions: Path, embedder: Embedder) -> Iterator[str]:
    """Yield lines with the results for one file of captions."""
    classes, texts = _images(captions)
    names = sorted(set(classes))
    queries = [_words(name) for name in names]
    right = np.array(names)[:, None] == np.array(classes)[None, :]
    vectors = embedder.embed_documents([text for image in texts for text in image]).vectors
    counts = [len(image) for image in texts]
    offsets = np.cumsum([0, *counts[:-1]])
    cosines = embedder.embed_queries(queries) @ vectors.T
    nearest = np.sort(pool(cosines, offsets, "max").max(axis=1))
    dense = pool(cosines, offsets, "max+mean", mean_lengths(vectors, offsets))
    index = TextIndex(["\n\n".join(image) for image in texts])
    words = np.stack([index.scores(query) for query in queries])
    yield f"{len(classes)} images, {len(names)} classes"
    yield "cosine of the nearest variant: " + ", ".join(
        f"{part:.0%} {np.quantile(nearest, part):.2f}" for part in (0.05, 0.25, 0.5, 0.75)
    )
    yield f"text {precision(words, right):.2f}"
    for weight in WEIGHTS:
        scores = fuse([dense, words], "floor", [1.0, weight], FLOORS)
        yield f"hybrid {weight:g}: {precision(scores, right):.2f}"


def precision(scores: Floats, right: np.ndarray) -> float:
    """Return the mean P@10 in percent. Ties are counted with their expected value.

    Args:
        scores: shape (queries, images).
        right: bool, shape (queries, images): true if the image is a correct result for the query.
    """
    found = []
    for row, is_right in zip(scores, right, strict=True):
        last = np.partition(row, -_K)[-_K]
        better, tied = row > last, row == last
        share = (_K - better.sum()) / tied.sum()
        found.append(((is_right & better).sum() + share * (is_right & tied).sum()) / _K)
    return 100 * float(np.mean(found))


def _images(captions: Path) -> tuple[list[str], list[Sequence[str]]]:
    """Return the classes and the captions of the images that have a class."""
    classes: list[str] = []
    texts: list[Sequence[str]] = []
    for image in read_annotations([captions], split=ALL_SPLITS).images:
        named = _CLASS_IN_NAME.match(file_name(image.name))
        if named is None or classes.count(named[1]) >= _MOST_PER_CLASS:
            continue
        classes.append(named[1])
        texts.append(list(dict.fromkeys(image.captions))[:_NUM_VARIANTS])
    return classes, texts


def _words(name: str) -> str:
    """Convert a class name to a query. For example, ``denseresidential`` becomes ``dense
    residential``."""
    return _SPLIT.sub(r"\1 \2", name.replace("_", " "))


if __name__ == "__main__":
    main()
