"""Refusals as return values between deployments.

If a method of a deployment raises an error, Ray Serve logs it with a traceback, which may contain
the text of the request. An invalid request is not an error of the service and must not be logged
like this. So the method returns the error as a value, and the caller raises it.
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
        """The replacement for each address that a response must not contain, in order of use."""


W = TypeVar("W", bound=_Refusing)


def hands_back_refusals(
    method: Callable[Concatenate[W, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[W, P], Coroutine[Any, Any, T | Refusal]]:
    """Make a worker's method return a `Refusal` instead of raising it."""

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
    """Return the result of a worker's method.

    Raises:
        ProblemError: the method refused.
        CallError: the method refused.
    """
    if isinstance(answer, Refusal):
        # Remove the worker's traceback. The error has a traceback if the worker runs in this
        # process.
        raise answer.error.with_traceback(None)
    return answer
