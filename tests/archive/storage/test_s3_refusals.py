"""Refusals of S3 are distinguished from bad images. These tests use no store."""

from __future__ import annotations

import io
from unittest.mock import Mock

import pytest
from botocore.exceptions import ClientError

from skytext.archive import is_store_fault, read_range
from skytext.archive.storage import s3 as storage


def answer(monkeypatch: pytest.MonkeyPatch, answers: object) -> None:
    """Make the store return these answers in order, or always raise the same error."""
    get_object = Mock(side_effect=answers)
    monkeypatch.setattr(storage, "_client", lambda: Mock(get_object=get_object))


def refusal(code: str, status: int) -> ClientError:
    error = {"Code": code, "Message": "the reason"}
    return ClientError(
        {"Error": error, "ResponseMetadata": {"HTTPStatusCode": status}}, "GetObject"
    )


@pytest.mark.parametrize(
    ("code", "status", "is_fault", "message"),
    [
        ("RequestTimeTooSkewed", 403, True, "returned RequestTimeTooSkewed for .*the reason"),
        ("InvalidObjectState", 403, True, "refuses access to s3://maps/a.jpg: .*the reason"),
        ("AnyOther", 401, True, r"refuses access to s3://maps/a.jpg: .*\(AnyOther\)"),
        ("InvalidRange", 416, False, "InvalidRange"),
    ],
)
def test_refusals_are_store_faults_not_image_failures(
    monkeypatch: pytest.MonkeyPatch, code: str, status: int, is_fault: bool, message: str
) -> None:
    answer(monkeypatch, refusal(code, status))
    with pytest.raises(OSError, match=message) as caught:
        read_range("s3://maps/a.jpg", 0, 9, retry_s=0.2)
    assert is_store_fault(caught.value) == is_fault


def test_a_request_that_was_signed_too_long_ago_is_sent_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answer(monkeypatch, [refusal("RequestTimeTooSkewed", 403), {"Body": io.BytesIO(b"ab")}])
    assert read_range("s3://maps/a.jpg", 0, 2) == b"ab"
