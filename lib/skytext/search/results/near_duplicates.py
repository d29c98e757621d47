"""Group near-duplicates. They are identical files, or images with very similar descriptions."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from skytext.search.ranking_inputs import Ranking, Searched
from skytext.table.queries.caption_queries import Floats, Variants

_AT_ONCE = 256


def group_duplicates(
    served: Searched, ranking: Ranking, cosine: float
) -> Iterator[tuple[int, list[int]]]:
    """Yield the groups of a ranking as (index of the best image, indices of its near-duplicates).

    Each image is added to a group by the first rule that applies:

    1. Another image with identical bytes is in a group: add the image to this group.
    2. The best image of a group is similar to the image: add the image to the first such group. Two
       images are similar if the cosine of their mean description vectors is at least ``cosine``.
    3. Otherwise, start a new group.

    An image is compared only with the best image of each group. So every image of a group is
    similar to the best image, or identical to an image of the group.

    Args:
        served: the searched tables.
        ranking: the images. The best image is first.
        cosine: minimum cosine of the mean vectors, above 0 and at most 1.
    """
    groups: list[tuple[int, list[int]]] = []
    of_bytes: dict[str, int] = {}
    heads = np.empty((0, served.dim), np.float32)
    for start in range(0, len(ranking.ids), _AT_ONCE):
        ids = ranking.ids[start : start + _AT_ONCE]
        contents = served.values(ids, "content_sha256")
        for i, mean in enumerate(mean_vectors(served.variants(ids))):
            content = contents[i]
            near = np.flatnonzero(heads @ mean >= cosine)
            found = of_bytes.get(content) if content else None
            if found is None and len(near):
                found = int(near[0])
            if found is None:
                found = len(groups)
                groups.append((start + i, []))
                heads = np.concatenate([heads, mean[None]])
            else:
                groups[found][1].append(start + i)
            if content:
                of_bytes.setdefault(content, found)
    yield from groups


def mean_vectors(variants: Variants) -> Floats:
    """Return the mean vector of each image, scaled to length 1: float32, shape (images, dim)."""
    sums = np.add.reduceat(variants.vectors, variants.offsets, axis=0)
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    means: Floats = sums / np.maximum(lengths, np.finfo(np.float32).tiny)
    return means
