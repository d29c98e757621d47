"""Fit the vector generator to real captions, and compare generated vectors with real vectors.

The captions are the same as in the text-only evaluation (docs/background/evaluation.md). Before the
fit, repeated captions are removed. A caption is repeated if the same image or a different image has
a caption with the same text.

    python -m bench.search.fit CAPTIONS.json CAPTIONS.txt …
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from bench.search.vectors import CaptionStatistics, CaptionVectors, Floats

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_SEED = 3
_NUM_QUERIES = 600


def main(
    annotations: Annotated[
        list[Path],
        typer.Argument(help="Annotation files, in a format that skytext evaluate can read."),
    ],
    output: Annotated[Path | None, typer.Option(help="File for the statistics.")] = None,
    trials: Annotated[int, typer.Option(help="Number of trials of the random search.")] = 400,
) -> None:
    """Fit the statistics, and print the cosines of real and generated vectors as JSON."""
    real = real_vectors(annotations)
    statistics = fit(real, trials)
    if output is not None:
        statistics.save(output)
    typer.echo(json.dumps(compare(real, statistics), indent=2))


def real_vectors(paths: list[Path]) -> list[Floats]:
    """Return the vectors of the captions of each image. Repeated captions are removed."""
    from skytext.config.embedding import EmbedConfig
    from skytext.evaluation.annotations import ALL_SPLITS, read_annotations
    from skytext.models.checkpoints import embed_model
    from skytext.models.factory import make_embedder

    images = [
        list(dict.fromkeys(image.captions))
        for path in paths
        for image in read_annotations([path], split=ALL_SPLITS).images
    ]
    counts = Counter(text for texts in images for text in texts)
    images = [[text for text in texts if counts[text] == 1] for texts in images]
    config = EmbedConfig(dtype="float32")
    embedder = make_embedder(config, embed_model(config))
    vectors = embedder.embed_queries([text for texts in images for text in texts])
    return np.split(vectors, np.cumsum([len(texts) for texts in images])[:-1])


def fit(images: list[Floats], trials: int) -> CaptionStatistics:
    """Return statistics with which the generated vectors are similar to the vectors in ``images``.

    Args:
        images: for each image, the vectors of its captions.
        trials: number of trials of the random search.
    """
    images = [vectors for vectors in images if len(vectors)]
    start = _moments(images)
    target = cosines(*_split(images))
    rng = np.random.default_rng(_SEED)
    best, best_loss = start, _loss(start, images, target)
    step = 0.3
    for _ in range(trials):
        tried = _changed(best, rng, step)
        loss = _loss(tried, images, target)
        if loss < best_loss:
            best, best_loss = tried, loss
        else:
            step = max(0.02, step * 0.99)
    return best


def compare(images: list[Floats], statistics: CaptionStatistics) -> dict[str, Any]:
    """Return quantiles of cosines for the real vectors and for generated vectors.

    The numbers of real and generated vectors are the same.
    """
    images = [vectors for vectors in images if len(vectors)]
    real = cosines(*_split(images))
    drawn = cosines(*_split(_drawn_like(images, statistics, seed=1)))
    return {
        "num_images": len(images),
        "num_captions": sum(map(len, images)),
        "quantiles": QUANTILES,
        "real": {name: values.round(3).tolist() for name, values in real.items()},
        "drawn": {name: values.round(3).tolist() for name, values in drawn.items()},
    }


def cosines(images: list[Floats], queries: Floats) -> dict[str, NDArray[np.float64]]:
    """Return quantiles of certain cosines. The difficulty of a search depends on these cosines.

    Args:
        images: for each image, its vectors.
        queries: shape (queries, dim).
    """
    within = [(v @ v.T)[np.triu_indices(len(v), 1)] for v in images if len(v) > 1]
    offsets = np.cumsum([0, *map(len, images[:-1])])
    stored = np.concatenate(images)
    scores = np.maximum.reduceat(queries @ stored.T, offsets, axis=1)
    ranked = -np.sort(-scores, axis=1)
    some = np.linspace(0, len(images) - 1, min(len(images), _NUM_QUERIES)).astype(int)
    others = np.maximum.reduceat(stored[offsets[some]] @ stored.T, offsets, axis=1)
    others[np.arange(len(some)), some] = -1
    found = {"within an image": np.concatenate(within), "nearest other image": others.max(axis=1)}
    for rank in (1, 10, 100, 1000):
        if rank <= len(images):
            found[f"query to image of rank {rank}"] = ranked[:, rank - 1]
    found["query to any image"] = scores.ravel()
    return {name: np.quantile(values, QUANTILES) for name, values in found.items()}


def _split(images: list[Floats]) -> tuple[list[Floats], Floats]:
    """Use the first vector of evenly spaced images as a query.

    Return the images without these vectors, and the queries.
    """
    several = [i for i, vectors in enumerate(images) if len(vectors) > 1]
    places = np.linspace(0, len(several) - 1, min(len(several), _NUM_QUERIES)).astype(int)
    asking = [several[place] for place in places]
    queries = np.stack([images[i][0] for i in asking])
    left = list(images)
    for i in asking:
        left[i] = images[i][1:]
    return left, queries


def _drawn_like(images: list[Floats], statistics: CaptionStatistics, seed: int = 0) -> list[Floats]:
    counts = [len(vectors) for vectors in images]
    made = CaptionVectors(len(images), max(counts), seed, statistics)
    drawn = np.concatenate(list(made.blocks()))
    return [vectors[:count] for vectors, count in zip(drawn, counts, strict=True)]


def _loss(
    statistics: CaptionStatistics, images: list[Floats], target: dict[str, NDArray[np.float64]]
) -> float:
    found = cosines(*_split(_drawn_like(images, statistics)))
    return float(sum(np.square(found[name] - target[name]).sum() for name in target))


def _changed(
    statistics: CaptionStatistics, rng: np.random.Generator, step: float
) -> CaptionStatistics:
    factors = np.exp(rng.normal(0, step, 7)).tolist()
    return dataclasses.replace(
        statistics,
        scene=statistics.scene * np.float32(factors[0]),
        image=statistics.image * np.float32(factors[1]),
        wording=statistics.wording * np.float32(factors[2]),
        image_spread=statistics.image_spread * factors[3],
        wording_spread=statistics.wording_spread * factors[4],
        caption_spread=statistics.caption_spread * factors[5],
        num_scenes=max(2, round(statistics.num_scenes * factors[6])),
    )


def _moments(images: list[Floats]) -> CaptionStatistics:
    """Return the variances of each part of the vectors along the principal axes.

    The kinds of places are k-means clusters.
    """
    from sklearn.cluster import KMeans

    every = np.concatenate(images)
    mean = every.mean(axis=0)
    axes = np.linalg.eigh(np.cov(every.T))[1][:, ::-1]
    centres = np.stack([vectors.mean(axis=0) for vectors in images])
    num_scenes = max(2, len(images) // 10)
    places = KMeans(num_scenes, n_init=1, random_state=_SEED).fit(centres)
    deviations = [vectors - vectors.mean(axis=0) for vectors in images if len(vectors) > 1]
    freedom = sum(len(vectors) - 1 for vectors in deviations)
    wording = np.square(np.concatenate(deviations) @ axes).sum(axis=0) / freedom
    scene_of = places.cluster_centers_[places.labels_]
    scene = np.square((scene_of - mean) @ axes).mean(axis=0)
    image = np.square((centres - scene_of) @ axes).mean(axis=0)
    return CaptionStatistics(
        mean=(mean @ axes).astype(np.float32),
        scene=scene.astype(np.float32),
        image=image.astype(np.float32),
        wording=wording.astype(np.float32),
        image_spread=0.3,
        wording_spread=0.3,
        caption_spread=0.3,
        num_scenes=num_scenes,
        num_images=len(images),
    )


if __name__ == "__main__":
    typer.run(main)
