"""Search a table in plain words (no Ray).

Dense search uses the rule of the paper (arXiv 2512.10596). The query and the descriptions are
embedded as text. The score of an image is the cosine of the query and the image's best variant.
Text search compares words (BM25). Hybrid search combines dense search and text search.
docs/reference/retrieval.md describes how the scores are combined, and why.
"""

from __future__ import annotations

from skytext.search.request import Example, SearchRequest
from skytext.search.results.cursor import cursor_version, cursor_versions
from skytext.search.results.hits import Hit, SearchResult
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
