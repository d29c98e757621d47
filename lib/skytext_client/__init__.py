"""A client of the HTTP service, for notebooks and programs.

    from skytext_client import Client

    with Client("https://search.example.org", key="skytext_…") as archive:
        found = archive.search("storage tanks beside a river", k=20, filter="gsd < 1")
        found.to_frame()
        archive.thumbnail(found[0])
        archive.search(like=found[0], version=found.table_version)

`AsyncClient` has the same methods, but you must call them with ``await``. This package needs httpx,
pydantic and tenacity. You can install this package without skytext. If skytext is installed, this
package is also available as `skytext.client`.
"""

from skytext_client.answers import (
    BatchAnswers,
    Found,
    FoundImage,
    Hit,
    TableInfo,
)
from skytext_client.asynchronous import AsyncClient
from skytext_client.errors import ClientError, ServiceError, TooBusyError, UnreachableError
from skytext_client.synchronous import Client

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

__version__ = "0.1.0"
