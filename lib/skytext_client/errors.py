"""What the client raises."""

from __future__ import annotations

from typing import Any


class ClientError(Exception):
    """The service cannot be reached, or answers what no skytext service answers."""


class UnreachableError(ClientError):
    """Nobody answers at the address, or the connection broke off, after all retries.

    Attributes:
        may_pass: the service may be back soon; False for an address that no request can be sent to.
    """

    def __init__(self, message: str, *, may_pass: bool) -> None:
        self.may_pass = may_pass
        super().__init__(message)


class ServiceError(ClientError):
    """The service refuses, or fails; from its problem details (RFC 9457).

    Attributes:
        status: HTTP status.
        code: kind of the problem, e.g. ``bad-request``.
        detail: what is wrong, and what to do.
        request_id: stands in the service's log.
    """

    def __init__(self, status: int, problem: dict[str, Any]) -> None:
        self.status = status
        self.code = str(problem.get("type", "")).rpartition(":")[2]
        self.detail = str(problem.get("detail", problem.get("title", "")))
        self.request_id = str(problem.get("request_id", ""))
        super().__init__(f"{status} {self.code}: {self.detail} (request {self.request_id})")


class TooBusyError(ServiceError):
    """The service has enough to do, or this key asks too often: 429 or 503, after all retries.

    Attributes:
        retry_after_s: what it told to wait.
    """

    def __init__(self, status: int, problem: dict[str, Any], retry_after_s: float) -> None:
        super().__init__(status, problem)
        self.retry_after_s = retry_after_s
