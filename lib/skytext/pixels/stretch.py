"""Convert bands with more than 8 bits to 8-bit RGB.

In each band, the values between the 2nd and the 98th percentile are scaled linearly to 0 … 255.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

_STRETCH_PERCENTILES = (2.0, 98.0)
_MAX_PERCENTILE_SAMPLES = 1 << 20
ROWS_AT_ONCE = 512


def inks_to_rgb(inks: npt.NDArray[Any]) -> Image.Image:
    """Convert a CMYK array of any bit depth to RGB.

    The function converts a few rows at a time, so that memory does not contain several copies of a
    large image.
    """
    height, width = inks.shape[:2]
    result = Image.new("RGB", (width, height))
    for top in range(0, height, ROWS_AT_ONCE):
        rows = inks[top : top + ROWS_AT_ONCE] >> (8 * (inks.dtype.itemsize - 1))
        result.paste(Image.fromarray(rows.astype(np.uint8), "CMYK").convert("RGB"), (0, top))
    return result


def bands_to_rgb(
    array: npt.NDArray[Any],
    max_side_px: int,
    *,
    plain: bool = False,
    nodata: tuple[float, float] | None = None,
    valid: npt.NDArray[np.bool_] | None = None,
    inverted: bool = False,
    chosen: tuple[int, ...] | None = None,
) -> Image.Image:
    """Convert an array of bands to an RGB image.

    Args:
        array: the bands, shape (height, width, bands), of any numeric dtype.
        max_side_px: the side length that the caller needs. A large array is reduced in size, but
            its longest side is never reduced to less than twice this length.
        plain: true if the values are already 8-bit pixels. In this case, they are not scaled.
        nodata: the lowest and the highest value of a range. A pixel with a value in this range is
            missing.
        valid: a mask, shape (height, width). It is False at each missing pixel.
        inverted: true if the value 0 means white.
        chosen: the numbers of the bands to use, from 1. There are one or three numbers. If it is
            None, the first three bands are used, or the first band if there are fewer than three.
    """
    step = max(1, max(array.shape[:2]) // (2 * max_side_px))
    array = array[::step, ::step]
    if valid is not None:
        valid = valid[::step, ::step]
    chosen = chosen or ((1, 2, 3) if array.shape[2] >= 3 else (1,))
    bands = [array[..., number - 1] for number in chosen]
    if plain:
        done = [255 - band if inverted else band for band in bands]
    else:
        done = [_stretch(band, nodata, valid, inverted) for band in bands]
    return Image.fromarray(np.stack(done if len(done) == 3 else done * 3, axis=-1))


def _stretch(
    band: npt.NDArray[Any],
    nodata: tuple[float, float] | None,
    valid: npt.NDArray[np.bool_] | None,
    inverted: bool,
) -> npt.NDArray[np.uint8]:
    """Scale the valid values of a band. The 2nd percentile becomes 0, and the 98th becomes 255."""
    values = np.abs(band) if band.dtype.kind == "c" else band
    values = values.astype(np.float64 if values.dtype.itemsize > 4 else np.float32)
    # In a float band, the largest number of the type means a missing pixel.
    use = np.isfinite(values) & (np.abs(values) != np.finfo(values.dtype).max)
    if nodata is not None:
        with np.errstate(over="ignore"):  # a bound that is too large for the type becomes infinity
            least, greatest = (values.dtype.type(bound) for bound in nodata)
        use &= (values < least) | (values > greatest)
    if valid is not None:
        use &= valid
    known = values[use]
    if known.size == 0:
        return np.zeros(band.shape, np.uint8)
    # Compute the percentiles from about a million pixels. They are accurate enough.
    some = known[:: max(1, known.size // _MAX_PERCENTILE_SAMPLES)].astype(np.float64)
    low, high = np.percentile(some, _STRETCH_PERCENTILES)
    if high <= low:
        low, high = float(known.min()), float(known.max())
    if high <= low:
        return np.zeros(band.shape, np.uint8)
    result = np.empty(band.shape, np.uint8)
    for top in range(0, band.shape[0], ROWS_AT_ONCE):
        rows = slice(top, top + ROWS_AT_ONCE)
        # Clip before the subtraction, because the difference of two large floats may overflow.
        scaled = (np.clip(values[rows], low, high) - low) / (high - low) * 255
        scaled = 255 - scaled if inverted else scaled
        result[rows] = np.where(use[rows], np.rint(scaled), 0).astype(np.uint8)
    return result
