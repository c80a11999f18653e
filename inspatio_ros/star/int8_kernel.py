# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Rounding to 8 bits into a part of a wider array, in one pass over memory."""

from __future__ import annotations

import numba
import numpy as np

from inspatio_ros.compiled import compiled


@compiled(parallel=True)
def round_into(source: np.ndarray, factor: np.float32, zero: np.float32, out: np.ndarray, start: int) -> None:
    """Write source [rows, C] * factor + zero, rounded to uint8, to out[:, start:start + C]."""
    rows, channels = source.shape
    # Half a step up, because the conversion cuts off.
    above = zero + np.float32(0.5)
    for row in numba.prange(rows):
        # Rows of their own, or every access would be checked for a negative index, one number at a time.
        given, rounded = source[row], out[row, start:start + channels]
        for c in range(channels):
            rounded[c] = np.uint8(given[c] * factor + above)
