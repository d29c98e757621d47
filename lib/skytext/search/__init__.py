"""Search a table in plain words. Ray is not used.

Dense search uses the rule of the TRSLLaVA paper (arXiv 2512.10596). A text model embeds the query
and the descriptions. The score of an image is the highest cosine between the query and a variant of
the image's description. Text search compares words (BM25). Hybrid search combines dense search and
text search. docs/reference/retrieval.md explains how the scores are combined.
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
