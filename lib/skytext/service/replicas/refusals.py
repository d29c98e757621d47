"""Refusals as values, for the way between deployments.

What a method of a deployment raises, Ray Serve writes into its log as an error with its traceback,
in the words of whoever asked. A search that cannot be meant is no error of the service: it goes
back as a value, and is raised on the side that asked.
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
    """Why a request is refused.

    Attributes:
        error: to be raised by the side that asked.
    """

    error: ProblemError | CallError


class _Refusing(Protocol):
    @property
    def private_names(self) -> Mapping[str, str]:
        """What stands in an answer for places that it must not name, in the order of replacing."""


W = TypeVar("W", bound=_Refusing)


def hands_back_refusals(
    method: Callable[Concatenate[W, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[W, P], Coroutine[Any, Any, T | Refusal]]:
    """Make a worker's method return a `Refusal` where it raises one."""

    @functools.wraps(method)
    async def handing_back(worker: W, /, *arguments: P.args, **named: P.kwargs) -> T | Refusal:
        try:
            return await method(worker, *arguments, **named)
        except ProblemError as error:
            return Refusal(error)
        except CallError as error:
            said = str(error)
            for name, shown in worker.private_names.items():
                said = said.replace(name, shown)
            return Refusal(type(error)(said))

    return handing_back


def answer_of(answer: Any) -> Any:
    """Return what a worker's method returned.

    Raises:
        ProblemError: it refused.
        CallError: the same.
    """
    if isinstance(answer, Refusal):
        # Without the traceback of the other side, which an answer in this process still has.
        raise answer.error.with_traceback(None)
    return answer
