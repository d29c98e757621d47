"""Cases made from the OpenAPI document, against the application in this process."""

from __future__ import annotations

from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import load_all_checks
from schemathesis.python import asgi

from tests.service.app import Application, make_config

load_all_checks()
# Access is checked in test_access.py. Valid documents with an invalid meaning (a filter on a
# missing column, an unknown image_id) are refused.
_EXCLUDED = ("ignored_auth", "positive_data_acceptance", "use_after_free")


async def _describe(data: bytes, key: str) -> list[str]:
    return ["a brown river", "water in fields"]


class FromHere:
    """An application that treats every request as local."""

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
    """Try every operation with so many cases each; return how many were tried.

    Raises:
        FailureGroup: an answer broke the contract, or was a 5xx without being documented.
    """
    config = make_config(table, access__key_rate=None, limits__max_wait_s=30.0)
    application = FromHere(Application(table, config, _describe).asgi)
    schema = schemathesis.openapi.from_asgi("/openapi.json", application)
    checks = [
        schemathesis.checks.CHECKS.get_one(name)
        for name in schemathesis.checks.CHECKS.get_all_names()
        if name not in _EXCLUDED
    ]
    tried = 0
    # One client for all, because starting one takes as long as a case.
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
