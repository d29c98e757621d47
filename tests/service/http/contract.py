"""Check the application in this process with requests that are generated from its OpenAPI
document."""

from __future__ import annotations

from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import load_all_checks
from schemathesis.python import asgi

from tests.service.app import Application, make_config

load_all_checks()
# These checks are excluded. Access is tested in tests/service/access. A request that matches its
# schema can be invalid. For example, a filter can use a column that the table does not have, or no
# image has the image_id.
_EXCLUDED = ("ignored_auth", "positive_data_acceptance", "use_after_free")
# The table has no image vectors. Therefore the status 501 is correct if the document contains it.
_EXPECTED_STATUSES = ["2xx", "3xx", "4xx", "501"]


async def _describe(data: bytes, key: str) -> list[str]:
    return ["a brown river", "water in fields"]


class FromHere:
    """A wrapper of an application. It makes every request look like a request from this machine."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            headers = [(k, v) for k, v in scope["headers"] if k != b"host"]
            scope = {
                **scope,
                "client": ("127.0.0.1", 1),
                "headers": [*headers, (b"host", b"localhost")],
            }
        await self._inner(scope, receive, send)


def check_contract(table: str, max_examples: int) -> int:
    """Try every operation with `max_examples` requests. Return the total number of requests.

    Raises:
        FailureGroup: a response does not conform to the document, or is a server error.
    """
    config = make_config(table, access__key_rate=None, limits__max_wait_s=30.0)
    application = FromHere(Application(table, config, _describe).asgi)
    schema = schemathesis.openapi.from_asgi("/openapi.json", application)
    schema.config.checks.not_a_server_error.expected_statuses = _EXPECTED_STATUSES
    checks = [
        schemathesis.checks.CHECKS.get_one(name)
        for name in schemathesis.checks.CHECKS.get_all_names()
        if name not in _EXCLUDED
    ]
    tried = 0
    # Use one client for all operations, because the start of a client takes as long as a request.
    with asgi.get_client(application) as session:
        for found in schema.get_all_operations():
            tried += _check_operation(found.ok(), session, max_examples, checks)
    return tried


def _check_operation(operation: Any, session: Any, max_examples: int, checks: list[Any]) -> int:
    tried = 0

    @given(case=operation.as_strategy())
    @settings(
        max_examples=max_examples,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.explicit, Phase.generate),
    )
    def try_one(case: Any) -> None:
        nonlocal tried
        tried += 1
        case.call_and_validate(session=session, checks=checks)

    try_one()
    return tried
