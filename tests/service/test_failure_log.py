"""Test the log of consecutive failures."""

from __future__ import annotations

import logging

import pytest

from skytext.errors import StoreFaultError
from skytext.service.failure_log import FailureLog


def test_only_the_first_of_several_failures_in_a_row_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING, logger="work")
    failures = FailureLog(logging.getLogger("work"))

    def work(table: str, error: Exception | None) -> None:
        with failures.catch("cannot work", table=table):
            if error is not None:
                raise error

    fault = StoreFaultError("no answer")
    for table, error in (("a", fault), ("a", fault), ("b", OSError("full")), ("a", None)):
        work(table, error)
    found = [(r.message, r.__dict__["table"], r.__dict__["error"]) for r in caplog.records]
    assert found == [("cannot work", "a", "no answer"), ("cannot work", "b", "full")]
    # After a success, the next failure is logged again. Other errors are not caught.
    work("a", fault)
    assert len(caplog.records) == 3
    with pytest.raises(ZeroDivisionError):
        work("a", ZeroDivisionError())
