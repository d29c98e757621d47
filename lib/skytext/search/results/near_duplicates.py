"""Group near-duplicates: identical files, and images whose descriptions have the same meaning."""

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

    An image joins the first group with an image of the same bytes. Otherwise it joins the first
    group whose best image is similar: the cosine of the two mean vectors is at least ``cosine``.
    Otherwise the image starts a new group. Similarity to another image of a group does not count,
    so a chain of small differences does not form a group.

    Args:
        served: the table or tables of the ranking.
        ranking: the images, best first.
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
    """Return the unit mean vector of each image, float32, shape (images, dim)."""
    sums = np.add.reduceat(variants.vectors, variants.offsets, axis=0)
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    means: Floats = sums / np.maximum(lengths, np.finfo(np.float32).tiny)
    return means
