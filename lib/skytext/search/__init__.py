"""Search a table in plain words (no Ray).

The dense rule is the paper's (arXiv 2512.10596): query and descriptions are embedded as text, and
an image has the cosine of its best variant as score. Text search compares words (BM25); hybrid
search does both. docs/reference/retrieval.md describes the fusion and its reasons.
"""

from __future__ import annotations

from skytext.search.cursor import cursor_version, cursor_versions
from skytext.search.hits import Hit, SearchResult
from skytext.search.request import Example, SearchRequest
from skytext.search.searcher import Searcher
from skytext_client.search_fields import MAX_K

__all__ = [
    "MAX_K",
    "Example",
    "Hit",
    "SearchRequest",
    "SearchResult",
    "Searcher",
    "cursor_version",
    "cursor_versions",
]
