# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""From the tensors inside to the bytes at the edge."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numba
import numpy as np

from inspatio_ros.compiled import compiled

if TYPE_CHECKING:
    from torch import Tensor


def to_uint8(image: Tensor, out: np.ndarray | None = None) -> np.ndarray:
    """Turn images float32 [F, 3, H, W] in [-1, 1] into uint8 RGB [F, H, W, 3] on the host: -1 is 0, 1 is 255.

    `out`: where to write them, if the images are on the CPU. One kernel there reads and writes every value once; torch
    takes five passes and a strided copy for the same.
    """
    if image.device.type == 'cpu':
        source = image.contiguous().numpy()
        frames, channels, height, width = source.shape
        out = np.empty((frames, height, width, channels), np.uint8) if out is None else out
        _interleave(source, out)
        return out
    return to_bytes(image).cpu().numpy()


def to_bytes(image: Tensor) -> Tensor:
    """Turn images float32 [F, 3, H, W] in [-1, 1] into uint8 RGB [F, H, W, 3] on their device, rounded to nearest."""
    import torch
    scaled = (image + 1.).mul_(127.5).round_().clamp_(0., 255.).to(torch.uint8)
    return scaled.permute(0, 2, 3, 1).contiguous()


def mask_to_uint8(mask: Tensor) -> np.ndarray:
    """Turn masks float32 [F, 1, H, W], 1 known and 0 hole, into uint8 [F, H, W], 255 and 0, on the host."""
    if mask.device.type == 'cpu':
        return np.where(mask[:, 0].numpy() > 0.5, np.uint8(255), np.uint8(0))
    import torch
    return (mask[:, 0] > 0.5).to(torch.uint8).mul_(255).cpu().numpy()


@compiled(parallel=True, nogil=True)
def _interleave(source: np.ndarray, out: np.ndarray) -> None:
    frames, channels, height, width = source.shape
    half, one = np.float32(127.5), np.float32(1.)
    low, high = np.float32(0.), np.float32(255.)
    for row in numba.prange(frames * height):
        frame, y = row // height, row % height
        for x in range(width):
            for c in range(channels):
                # Half to even, as torch rounds.
                value = np.rint((source[frame, c, y, x] + one) * half)
                out[frame, y, x, c] = np.uint8(min(max(value, low), high))
