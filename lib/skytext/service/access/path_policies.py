"""The access policy of each path. All paths that this module does not name have the policy of
searches."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.types import Scope

from skytext.config.service import LimitsConfig
from skytext.service.access.api_keys import Right
from skytext.service.access.rate_limits import Turns

_IMAGE_SEARCH = "/v1/search/image"
_OPEN = frozenset({"/", "/page.json", "/openapi.json"})
_MULTIPART_BYTES = 64 * 2**10
"""The maximum size of a multipart form, without the file that it contains."""


@dataclass(frozen=True, slots=True)
class Policy:
    """The policy of a path.

    Attributes:
        right: the required permission. None means that the path is public.
        turns: the queue in which a request waits after its body was read. None means that the
            request does not wait.
        body_turns: the queue in which a request waits before its body is read. Large bodies need
            such a queue, because large bodies need much memory. None means that the request does
            not wait.
        max_body_bytes: the maximum size of the body. If the body is compressed, the decompressed
            body has the same limit.
        timeout_s: the maximum time to process a request, in seconds.
        is_health: true if the path is a health check. Then every host name is allowed, and
            successful requests are not logged.
        while_ending: true if requests are also accepted during a shutdown.
    """

    right: Right | None
    turns: Turns | None
    max_body_bytes: int
    timeout_s: float
    body_turns: Turns | None = None
    is_health: bool = False
    while_ending: bool = False


class Policies:
    """The policies of all paths.

    Args:
        limits: the maximum sizes and times.
        searches: the queue for searches.
        images: the queue for requests that read images.
        uploads: the queue for uploads.
    """

    def __init__(
        self, limits: LimitsConfig, searches: Turns, images: Turns, uploads: Turns
    ) -> None:
        size, seconds = limits.max_body_bytes, limits.request_timeout_s
        self._upload = Policy(
            Right.SEARCH,
            None,
            limits.max_upload_bytes + _MULTIPART_BYTES,
            limits.caption_timeout_s,
            body_turns=uploads,
        )
        self._images = Policy(Right.SEARCH, images, size, seconds)
        self._searches = Policy(Right.SEARCH, searches, size, seconds)
        self._admin = Policy(Right.ADMIN, None, size, limits.caption_timeout_s)
        self._alive = Policy(None, None, size, seconds, is_health=True, while_ending=True)
        self._ready = Policy(None, None, size, seconds, is_health=True)
        self._open = Policy(None, None, size, seconds)

    def of(self, scope: Scope) -> Policy:
        """Return the policy of a request."""
        path = route_path(scope)
        if path == "/healthz":
            return self._alive
        if path == "/readyz":
            return self._ready
        if path in _OPEN or path.startswith("/page/"):
            return self._open
        if path == "/metrics" or path.startswith("/v1/admin/"):
            return self._admin
        if path == _IMAGE_SEARCH:
            return self._upload
        return self._images if path.startswith("/v1/images/") else self._searches


def route_path(scope: Scope) -> str:
    """Return the path of a request, relative to the mount point of the application."""
    path, root = str(scope["path"]), str(scope.get("root_path", "")).rstrip("/")
    if root and (path == root or path.startswith(f"{root}/")):
        return path[len(root) :]
    return path
