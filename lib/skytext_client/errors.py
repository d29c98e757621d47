"""The errors of the client."""

from __future__ import annotations

from typing import Any


class ClientError(Exception):
    """A request failed, an argument is invalid, or a response is not from a skytext service."""


class UnreachableError(ClientError):
    """No service responded at the address, or the connection broke. Retries have also failed.

    Attributes:
        may_pass: true if a later attempt may succeed. The client then retries the request. False
            after a timeout, or if no request can be sent to the address.
    """

    def __init__(self, message: str, *, may_pass: bool) -> None:
        self.may_pass = may_pass
        super().__init__(message)


class ServiceError(ClientError):
    """The service refused a request, or the service failed to process it.

    The values of the attributes are from the problem details (RFC 9457) in the response.

    Attributes:
        status: the HTTP status.
        code: the kind of problem, e.g. ``bad-request``.
        detail: the problem, and how to solve it.
        request_id: the id of the request. The log of the service also contains this id.
    """

    def __init__(self, status: int, problem: dict[str, Any]) -> None:
        self.status = status
        self.code = str(problem.get("type", "")).rpartition(":")[2]
        self.detail = str(problem.get("detail", problem.get("title", "")))
        self.request_id = str(problem.get("request_id", ""))
        super().__init__(f"{status} {self.code}: {self.detail} (request {self.request_id})")


class TooBusyError(ServiceError):
    """The service still returned 429 or 503 after all retries.

    The service is overloaded or not available, or this client has exceeded the rate limit.

    Attributes:
        retry_after_s: the number of seconds to wait before the next request. The response contains
            this time.
    """

    def __init__(self, status: int, problem: dict[str, Any], retry_after_s: float) -> None:
        super().__init__(status, problem)
        self.retry_after_s = retry_after_s
