"""Cases made from the OpenAPI document, against the application in this process."""

from __future__ import annotations

from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import load_all_checks
from schemathesis.python import asgi

from tests.service.app import Application, make_config

load_all_checks()
# Access is tested in test_access.py. A request can match its schema and still be invalid: a filter
# on a column that the table does not have, an image_id of no image.
_EXCLUDED = ("ignored_auth", "positive_data_acceptance", "use_after_free")
# The table has no image vectors: 501 is right, where the document has it.
_EXPECTED_STATUSES = ["2xx", "3xx", "4xx", "501"]


async def _describe(data: bytes, key: str) -> list[str]:
    return ["a brown river", "water in fields"]


class FromHere:
    """An application that gets every request as a request from this machine."""

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
    """Try every operation with `max_examples` requests; return the number of all requests.

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
    # One client for all: a start takes as long as a request.
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
