"""``skytext search --mode image`` and ``image+dense``: by the images' own vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from skytext.config.settings import Config
    from skytext.search.image_vector_search import ImageHit, ImageMode
    from skytext.search.request import SearchRequest

IMAGE_MODES = ("image", "image+dense")
"""As in `skytext.search.image_vector_search`, which is not imported before it is needed."""


def search_images(
    table: str,
    request: SearchRequest,
    mode: str,
    version: int | None,
    embedding_model: str | None,
    *,
    config: Config,
    as_json: bool,
) -> None:
    """Search, and print what was found; of the request its words, filter, k and exactness."""
    from skytext.cli.output import answers, note, print_json
    from skytext.search.image_vector_search import ImageSearcher

    chosen: ImageMode = "image+dense" if mode == "image+dense" else "image"
    searcher = ImageSearcher.open(
        table,
        mode=chosen,
        version=version,
        embedding_model=embedding_model,
        embed=config.embed,
        image_embed=config.image_embed,
        images=config.images,
    )
    result = searcher.search(str(request.text), request.k, exact=request.exact, where=request.where)
    if as_json:
        print_json(result.to_json())
        return
    how = "exact search" if result.exact else "vector index"
    note(f"table version {result.table_version}, {how}, {mode}")
    if not result.hits:
        answers.print("no image with a vector of its own matches")
    for rank, hit in enumerate(result.hits, start=1):
        for line in _lines(rank, hit):
            answers.print(line, markup=False, soft_wrap=True)


def _lines(rank: int, hit: ImageHit) -> list[str]:
    score = f"{hit.score:.3f}"
    if hit.text_score is not None:
        own = "–" if hit.image_score is None else f"{hit.image_score:.3f}"
        score = f"image {own} text {hit.text_score:.3f}"
    return [f"{rank:3}. {score}  {hit.uri}", f"            {hit.one_sentence}"]
