"""Convert image ids to fixed-length bytes. In this form, many ids can be compared fast.

Two sets of ids are treated as equal if the numbers of ids and the sums of the ids are equal.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

ID_BYTES = 16


class IdSum(NamedTuple):
    """The number and the sum of the image ids in a set. Equal sets have equal numbers and sums.

    Attributes:
        num: number of ids.
        total: sum of the first 64 bits of the ids, modulo 2^64.
    """

    num: int
    total: int


NO_IDS = IdSum(0, 0)


def hash_bytes(texts: pa.Array) -> NDArray[np.bytes_]:
    """Return the first 16 bytes of each hexadecimal string, dtype S16. Null becomes empty bytes."""
    # Null is converted to zero bytes. No real hash consists only of zeros.
    filled = pc.utf8_slice_codeunits(texts.fill_null("0" * 2 * ID_BYTES), 0, 2 * ID_BYTES)
    joined = "".join(filled.to_pylist())
    return np.frombuffer(bytes.fromhex(joined), dtype=f"S{ID_BYTES}")


def id_texts(ids: NDArray[np.bytes_]) -> list[str]:
    """Convert the ids that `hash_bytes` returns to hexadecimal strings."""
    joined, width = np.ascontiguousarray(ids).tobytes().hex(), 2 * ID_BYTES
    return [joined[start : start + width] for start in range(0, len(joined), width)]


def heads(ids: NDArray[np.bytes_]) -> NDArray[np.uint64]:
    """Return the first 64 bits of each id that `hash_bytes` returns."""
    # numpy removes trailing zeros from single values of dtype S16, but not from the buffer.
    pairs = np.frombuffer(np.ascontiguousarray(ids).tobytes(), ">u8").reshape(-1, 2)
    return pairs[:, 0].astype(np.uint64)


def id_sum(ids: NDArray[np.bytes_]) -> IdSum:
    """Return the number and the sum of ids that `hash_bytes` returns."""
    return IdSum(len(ids), int(heads(ids).sum(dtype=np.uint64)))
