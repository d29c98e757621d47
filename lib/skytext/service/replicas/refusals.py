"""Refusals: errors that a deployment returns as values.

If a method of a deployment raises an error, Ray Serve logs the error with a traceback. The
traceback may contain the text of the request. An invalid request is not a fault of the service, so
it must not be logged in this way. Therefore, the method returns the error as a value, and the
caller raises the error.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from skytext.errors import CallError
from skytext.service.problem_details import ProblemError

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Refusal:
    """The result of a method that refused a request.

    Attributes:
        error: the error that the caller must raise.
    """

    error: ProblemError | CallError


class _Refusing(Protocol):
    @property
    def private_names(self) -> Mapping[str, str]:
        """A dictionary from table addresses to the names that error messages contain instead."""


W = TypeVar("W", bound=_Refusing)


def hands_back_refusals(
    method: Callable[Concatenate[W, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[W, P], Coroutine[Any, Any, T | Refusal]]:
    """Decorate a method of a worker. If the method refuses a request, return a `Refusal`."""

    @functools.wraps(method)
    async def handing_back(worker: W, /, *arguments: P.args, **named: P.kwargs) -> T | Refusal:
        try:
            return await method(worker, *arguments, **named)
        except ProblemError as error:
            return Refusal(error)
        except CallError as error:
            message = str(error)
            for name, shown in worker.private_names.items():
                message = message.replace(name, shown)
            return Refusal(type(error)(message))

    return handing_back


def answer_of(answer: Any) -> Any:
    """Return the result of a worker's method. If it is a `Refusal`, raise the error in it.

    Raises:
        ProblemError: the method refused the request.
        CallError: the method refused the request, because the request is invalid.
    """
    if isinstance(answer, Refusal):
        # If the worker runs in this process, the error already has a traceback. Remove it.
        raise answer.error.with_traceback(None)
    return answer
