"""Search a table in plain words (no Ray).

The dense rule is the paper's (arXiv 2512.10596): query and descriptions are embedded as text, and
an image scores by the cosine of the best of its variants. Text search goes by words (BM25), hybrid
search by both; docs/reference/retrieval.md says how they are fused and why.
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
