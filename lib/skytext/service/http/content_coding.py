"""Decompress request bodies (RFC 9110, 8.4)."""

from __future__ import annotations

import zlib

from skytext.service.problem_details import ProblemError

_GZIP = 16 + zlib.MAX_WBITS
"""The window size for zlib. With this value, zlib accepts only data in the gzip format."""


class TooLongError(Exception):
    """The decompressed body is longer than the limit."""


def decoded(body: bytes, coding: str, max_bytes: int) -> bytes:
    """Return the decompressed body.

    Args:
        body: the received bytes.
        coding: the value of the header ``Content-Encoding``. Empty if the body is not compressed.
        max_bytes: the maximum size of the decompressed body. The function decompresses at most one
            byte more than this.

    Raises:
        ProblemError: 415: the content encoding is not supported. 422: the body is incomplete or is
            not valid gzip data.
        TooLongError: the decompressed body has more than ``max_bytes`` bytes.
    """
    name = coding.strip().lower()
    if name in ("", "identity"):
        return body
    if name not in ("gzip", "x-gzip"):
        raise ProblemError(
            415,
            "unsupported-encoding",
            "send the body uncompressed, or with Content-Encoding: gzip",
            {"Accept-Encoding": "gzip"},
        )
    parts, size = [], 0
    while body:
        one = zlib.decompressobj(_GZIP)
        try:
            parts.append(one.decompress(body, max_bytes + 1 - size))
        except zlib.error as error:
            raise _damaged() from error
        size += len(parts[-1])
        if size > max_bytes:
            raise TooLongError
        if not one.eof:
            raise _damaged()
        # A gzip file may consist of several members (RFC 1952, 2.2).
        body = one.unused_data
    return b"".join(parts)


def _damaged() -> ProblemError:
    return ProblemError(422, "bad-request", "the body is incomplete or is not gzip data")
