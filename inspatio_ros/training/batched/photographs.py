# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Photographs on surfaces, looked up in torch (scenes/textures.py: _photograph)."""

from __future__ import annotations

from math import log2

import torch
from torch import Tensor

from inspatio_ros.training.batched.textures import Surface, hashed


def photograph(atlas: Tensor, at: Surface) -> Tensor:
    """Give the colours [M, 3] of points on the photographs of an atlas [P, G, 2 G, 3]; lengths in patches."""
    size = atlas.shape[1]
    which = at.seed % len(atlas)
    x, y = at.u + hashed(at.seed, 1, 5), -at.v + hashed(at.seed, 2, 5)
    level = (at.width * size).clamp(min=1e-9).log2().clamp(0, log2(size))
    fine = level.long()
    part = (level - fine)[:, None]
    coarse = (fine + 1).clamp(max=round(log2(size)))
    return _level(atlas, which, fine, x, y) * (1 - part) + _level(atlas, which, coarse, x, y) * part


def _level(atlas: Tensor, which: Tensor, level: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Look at one size of photographs at (x, y) in patches, between its texels."""
    size = atlas.shape[1]
    side = torch.full_like(level, size) >> level
    left = 2 * size - 2 * side
    x, y = x * side - .5, y * side - .5
    fx, fy = x.floor(), y.floor()
    x, y, ix, iy = (x - fx)[:, None], (y - fy)[:, None], fx.long(), fy.long()
    x0, x1 = left + _texel(ix, side), left + _texel(ix + 1, side)
    y0, y1 = _texel(iy, side), _texel(iy + 1, side)
    upper = atlas[which, y0, x0] * (1 - x) + atlas[which, y0, x1] * x
    return upper * (1 - y) + (atlas[which, y1, x0] * (1 - x) + atlas[which, y1, x1] * x) * y


def _texel(x: Tensor, count: Tensor) -> Tensor:
    """Give the number of a texel of a row that goes on as its own mirror image."""
    x = x % (2 * count)
    return torch.where(x < count, x, 2 * count - 1 - x)
