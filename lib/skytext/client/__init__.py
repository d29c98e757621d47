"""A client of the HTTP service, for notebooks and programs.

    from skytext.client import Client

    with Client("https://search.example.org", key="skytext_…") as archive:
        found = archive.search("storage tanks beside a river", k=20, filter="gsd < 1")
        found.to_frame()
        archive.thumbnail(found[0])
        archive.search(like=found[0], version=found.table_version)

`AsyncClient` is the same with ``await``.
"""

from skytext.client.answers import (
    BatchAnswers,
    Found,
    FoundImage,
    Hit,
    TableInfo,
)
from skytext.client.asynchronous import AsyncClient
from skytext.client.errors import ClientError, ServiceError, TooBusyError, UnreachableError
from skytext.client.synchronous import Client

__all__ = [
    "AsyncClient",
    "BatchAnswers",
    "Client",
    "ClientError",
    "Found",
    "FoundImage",
    "Hit",
    "ServiceError",
    "TableInfo",
    "TooBusyError",
    "UnreachableError",
]
