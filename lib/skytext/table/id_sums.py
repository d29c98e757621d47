"""Image ids as numbers: to look up many at once, and to compare sets of them by count and sum."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

ID_BYTES = 16


class IdSum(NamedTuple):
    """A set of image ids, as far as two sets are compared by it.

    Attributes:
        num: how many.
        total: the sum of their first 64 bits, modulo 2^64.
    """

    num: int
    total: int


NO_IDS = IdSum(0, 0)


def hash_bytes(texts: pa.Array) -> NDArray[np.bytes_]:
    """Return the first 16 bytes of each hexadecimal text, of dtype S16; empty for null."""
    # Null and only null becomes zeros: a hash never is.
    filled = pc.utf8_slice_codeunits(texts.fill_null("0" * 2 * ID_BYTES), 0, 2 * ID_BYTES)
    joined = "".join(filled.to_pylist())
    return np.frombuffer(bytes.fromhex(joined), dtype=f"S{ID_BYTES}")


def id_texts(ids: NDArray[np.bytes_]) -> list[str]:
    """Return ids of `hash_bytes` as hexadecimal texts."""
    joined, width = np.ascontiguousarray(ids).tobytes().hex(), 2 * ID_BYTES
    return [joined[start : start + width] for start in range(0, len(joined), width)]


def heads(ids: NDArray[np.bytes_]) -> NDArray[np.uint64]:
    """Return the first 64 bits of each id of `hash_bytes`."""
    # numpy cuts trailing zeros off single values, never in the buffer.
    pairs = np.frombuffer(np.ascontiguousarray(ids).tobytes(), ">u8").reshape(-1, 2)
    return pairs[:, 0].astype(np.uint64)


def id_sum(ids: NDArray[np.bytes_]) -> IdSum:
    """Return the sum of ids of `hash_bytes`."""
    return IdSum(len(ids), int(heads(ids).sum(dtype=np.uint64)))
