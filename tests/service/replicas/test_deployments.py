"""Test the construction of the deployments and the calls between them, without a cluster."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import ActorDiedError, RayTaskError
from ray.serve.exceptions import BackPressureError

from skytext.errors import CallError, ConfigError, TableError
from skytext.service.problem_details import ProblemError
from skytext.service.replicas import deployments
from skytext.service.replicas.deployment_calls import SearchHandle, call
from skytext.service.replicas.refusals import Refusal, hands_back_refusals
from skytext.service.served_tables import TableSet
from tests.service.app import make_config


class Method:
    """A method of a deployment. The test gives the result of each call."""

    def __init__(self, *ends: Any) -> None:
        self.ends = list(ends)
        self.cancelled = 0

    def remote(self, *_: Any) -> Any:
        return Response(self, self.ends.pop(0))


class Response:
    def __init__(self, method: Method, end: Any) -> None:
        self._method = method
        self._end = end

    def cancel(self) -> None:
        self._method.cancelled += 1

    def __await__(self) -> Any:
        return self._answer().__await__()

    async def _answer(self) -> Any:
        if isinstance(self._end, asyncio.Event):
            await self._end.wait()
        if isinstance(self._end, BaseException):
            raise self._end
        return self._end


def task_error(cause: Exception) -> Exception:
    return RayTaskError("f", "Traceback (most recent call last): …", cause).as_instanceof_cause()


def test_a_call_outlives_the_death_of_a_replica() -> None:
    method = Method(ActorDiedError(), ActorDiedError(), "found")
    assert asyncio.run(call(method)) == "found"


def test_a_call_that_no_replica_lives_for_is_a_503() -> None:
    with pytest.raises(ProblemError) as caught:
        asyncio.run(call(Method(*[ActorDiedError()] * 3)))
    assert (caught.value.status, caught.value.headers) == (503, {"Retry-After": "1"})


def test_a_full_queue_is_a_503() -> None:
    full = BackPressureError(num_queued_requests=9, max_queued_requests=8)
    with pytest.raises(ProblemError) as caught:
        asyncio.run(call(Method(full), retry_after_s=3))
    assert caught.value.headers == {"Retry-After": "3"}


@pytest.mark.parametrize(
    "error",
    [
        CallError("k is wrong"),
        ConfigError("say it"),
        ProblemError(410, "changed", "gone", {"a": "b"}),
    ],
)
def test_a_replicas_error_is_raised_unchanged(error: Exception) -> None:
    with pytest.raises(type(error)) as caught:
        asyncio.run(call(Method(task_error(error))))
    assert type(caught.value) is type(error)
    assert str(caught.value) == str(error)


def test_calls_that_change_something_are_not_repeated() -> None:
    method = Method(ActorDiedError(), "done")
    with pytest.raises(
        ProblemError, match="it is unknown whether the live version has changed"
    ) as caught:
        asyncio.run(call(method, may_repeat=False))
    assert (caught.value.status, caught.value.code) == (500, "unknown-outcome")
    assert method.ends == ["done"]


@pytest.mark.parametrize("name", ["promote", "rollback"])
def test_promotions_are_requested_once(name: str) -> None:
    method = Method(ActorDiedError(), "done")
    handle = SearchHandle(SimpleNamespace(promote=method, rollback=method))
    with pytest.raises(ProblemError, match="unknown-outcome"):
        asyncio.run(handle.promote(3) if name == "promote" else handle.rollback())
    assert method.ends == ["done"]


def test_a_refusal_is_returned_as_a_value_and_raised_by_the_caller() -> None:
    gone = ProblemError(410, "version-gone", "search again", {"a": "b"})
    with pytest.raises(ProblemError, match="410 version-gone: search again") as caught:
        asyncio.run(call(Method(pickle.loads(pickle.dumps(Refusal(gone))))))
    assert caught.value.headers == {"a": "b"}


def test_a_refusal_does_not_contain_the_address_of_the_table() -> None:
    class Worker:
        private_names: Mapping[str, str] = {"/home/me/t": "TABLE", "home/me/t": "TABLE"}

        @hands_back_refusals
        async def promote(self) -> int:
            raise TableError("/home/me/t has no version 9: Not found: home/me/t/_versions/9")

    refused = asyncio.run(Worker().promote())
    assert isinstance(refused, Refusal)
    assert type(refused.error) is TableError
    assert str(refused.error) == "TABLE has no version 9: Not found: TABLE/_versions/9"


def test_an_internal_error_stays_an_internal_error() -> None:
    with pytest.raises(RayTaskError):
        asyncio.run(call(Method(task_error(ZeroDivisionError("ours")))))


def test_cancelling_the_caller_cancels_the_call() -> None:
    async def go() -> int:
        method = Method(asyncio.Event())
        task = asyncio.create_task(call(method))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})
        return method.cancelled

    assert asyncio.run(go()) == 1


def test_an_ingress_behind_a_proxy_of_this_machine_wants_keys(
    served: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Test that keys are required, because every request would seem to come from this machine."""
    monkeypatch.setenv("RAY_SERVE_ENABLE_HA_PROXY", "1")
    monkeypatch.setattr(deployments, "configure_logs", lambda handlers: None)
    settings = make_config(served).model_dump(mode="json")
    tables = TableSet.parse([str(served)])
    with pytest.raises(ConfigError, match="HAProxy"):
        deployments.Ingress(tables, settings, None, None)  # type: ignore[arg-type]


def test_an_application_is_built_as_serve_builds_it(served: Path, served_two: list[Path]) -> None:
    from ray.serve._private.api import call_user_app_builder_with_args_if_necessary as built
    from ray.serve.deployment import Application

    from skytext.service.replicas.serve_application import build

    config = {"service": {"access": {"require_keys": False}}}
    several = [str(table) for table in served_two]
    for table in (str(served), several):
        assert isinstance(built(build, {"table": table, "config": config}), Application)
    with pytest.raises(CallError, match="named twice"):
        built(build, {"table": several * 2, "config": config})
    with pytest.raises(ConfigError, match="args of the application, field table: Field required"):
        built(build, {})
    with pytest.raises(ConfigError, match="unknown setting"):
        built(build, {"table": str(served), "config": {"service": {"colour": "red"}}})
