"""The client's errors."""

from __future__ import annotations

from typing import Any


class ClientError(Exception):
    """The service cannot be reached, or the response is not from a skytext service."""


class UnreachableError(ClientError):
    """No service answers at the address, or the connection broke, after all retries.

    Attributes:
        may_pass: a later request may succeed; False if no request can be sent to the address.
    """

    def __init__(self, message: str, *, may_pass: bool) -> None:
        self.may_pass = may_pass
        super().__init__(message)


class ServiceError(ClientError):
    """The service refused or failed; from its problem details (RFC 9457).

    Attributes:
        status: HTTP status.
        code: kind of the problem, e.g. ``bad-request``.
        detail: the problem, and how to solve it.
        request_id: identifies the request in the service's log.
    """

    def __init__(self, status: int, problem: dict[str, Any]) -> None:
        self.status = status
        self.code = str(problem.get("type", "")).rpartition(":")[2]
        self.detail = str(problem.get("detail", problem.get("title", "")))
        self.request_id = str(problem.get("request_id", ""))
        super().__init__(f"{status} {self.code}: {self.detail} (request {self.request_id})")


class TooBusyError(ServiceError):
    """The service is overloaded, or this key exceeds its rate limit: 429 or 503 after all retries.

    Attributes:
        retry_after_s: seconds to wait, from the response.
    """

    def __init__(self, status: int, problem: dict[str, Any], retry_after_s: float) -> None:
        super().__init__(status, problem)
        self.retry_after_s = retry_after_s
