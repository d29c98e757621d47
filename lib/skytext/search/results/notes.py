"""Notes for the user about the hits of a search."""

from __future__ import annotations

from skytext.search.request import SearchRequest
from skytext.search.results.hits import Hit
from skytext.table.index_facts import ChanceScore
from skytext_client.search_fields import Mode


def note_of(
    request: SearchRequest, mode: Mode, chance: ChanceScore | None, hits: tuple[Hit, ...]
) -> str | None:
    """Return a note for the user, or None.

    If there are no hits, the note gives the reason. If the best score is very low, the note says
    that no image fits well.

    Args:
        request: the request.
        mode: the search mode that was used.
        chance: the best scores for unrelated queries in this mode. None if they are not measured.
        hits: the hits on the page.
    """
    if not hits:
        return _why_nothing(request, mode)
    # Chance scores are valid only for queries that are texts. Mode text needs no such note, because
    # every hit contains at least one of the query words.
    if chance is None or mode == "text" or request.cursor is not None:
        return None
    if request.has_images or request.positive or request.negative:
        return None
    best = max((hit.score for hit in hits if hit.score is not None), default=-1.0)
    if best >= chance.score:
        return None
    return (
        f"no image fits well: the best score is {best:.3f}. In this table, {chance.quantile:.0%} "
        f"of queries about unrelated subjects have a best score of up to {chance.score:.3f}"
    )


def _why_nothing(request: SearchRequest, mode: Mode) -> str:
    if request.cursor is not None:
        return "no further image matches"
    if request.min_score is not None:
        return f"no image that matches has a score of {request.min_score:g} or more (min_score)"
    if mode == "text":
        filtered = "" if request.where is None else " that matches the filter"
        return (
            f"no image{filtered} has any of these words in its text (very common words, such as "
            "'the' and 'of', are ignored)"
        )
    if mode == "image":
        filtered = "in this table" if request.where is None else "that matches the filter"
        return f"no image {filtered} has an image vector"
    return "no image in this table" if request.where is None else "no image matches the filter"
