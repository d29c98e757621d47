"""Refusals as return values between deployments.

If a method of a deployment raises, Ray Serve logs an error with a traceback that may contain the
request's text. An invalid request is not an error of the service. So it is returned as a value, and
raised on the caller's side.
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
    """The reason of a refusal.

    Attributes:
        error: the error for the caller to raise.
    """

    error: ProblemError | CallError


class _Refusing(Protocol):
    @property
    def private_names(self) -> Mapping[str, str]:
        """Replacements for addresses that an answer must not contain, in order."""


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
        # Drop the worker's traceback: the error still has it if the worker runs in this process.
        raise answer.error.with_traceback(None)
    return answer
