# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The fills of `fill.py` on the CPU: the same pyramid, and the exact nearest pixel, in bands of rows on all cores."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from inspatio_ros.compiled import compiled
from inspatio_ros.spatial.parallel import bands, run_parallel

_ZERO, _ONE = np.float32(0), np.float32(1)
_NEAR, _FAR = np.float32(0.75), np.float32(0.25)


def fill_smooth(image: Tensor, mask: Tensor) -> Tensor:
    """Fill by pull-push; image float32 [F, 3, H, W], mask [F, 1, H, W] -> [F, 3, H, W]."""
    out = torch.empty_like(image, memory_format=torch.contiguous_format)
    frames, _, height, width = image.shape
    shape = (frames, (height + 1) // 2, (width + 1) // 2, 4)
    half = np.empty(shape, np.float32)
    planes = list(zip(image.numpy(), mask.numpy()[:, 0], out.numpy(), half, strict=True))
    rows = bands(frames, shape[1])
    run_parallel(_pull_first, [(i, m, h, *band) for i, m, _, h in planes for band in rows])
    run_parallel(_complete, [(h,) for *_, h in planes])
    run_parallel(_push_last, [(*plane, 2 * top, min(2 * bottom, height)) for plane in planes for top, bottom in rows])
    return out


def fill_nearest(image: Tensor, mask: Tensor) -> Tensor:
    """Fill with the nearest known colour; image float32 [F, 3, H, W], mask [F, 1, H, W] -> [F, 3, H, W]."""
    out = torch.empty_like(image, memory_format=torch.contiguous_format)
    frames, _, height, width = image.shape
    nearest_row = np.empty((frames, height, width), np.int32)
    planes = list(zip(image.numpy(), mask.numpy()[:, 0], nearest_row, out.numpy(), strict=True))
    run_parallel(_nearest_in_column, [(m, r, *band) for _, m, r, _ in planes for band in bands(frames, width)])
    run_parallel(_take_nearest, [(*plane, *band) for plane in planes for band in bands(frames, height)])
    return out


@compiled()
def _pull_first(image, mask, half, top, bottom):
    """Write rows [top, bottom) of the first coarser level (colour, weight): half [(H + 1) / 2, (W + 1) / 2, 4]."""
    height, width = mask.shape
    for y in range(top, bottom):
        y1 = min(2 * y + 1, height - 1)
        row_weight = _ONE if 2 * y + 1 < height else _ZERO
        for x in range(half.shape[1]):
            x0, x1 = 2 * x, min(2 * x + 1, width - 1)
            column_weight = _ONE if 2 * x + 1 < width else _ZERO
            wa, wb = mask[2 * y, x0], mask[2 * y, x1] * column_weight
            wc, wd = mask[y1, x0] * row_weight, mask[y1, x1] * row_weight * column_weight
            total = wa + wb + wc + wd
            inverse = _ONE / total if total > 0 else _ZERO
            for channel in range(3):
                half[y, x, channel] = inverse * (wa * image[channel, 2 * y, x0] + wb * image[channel, 2 * y, x1]
                                                 + wc * image[channel, y1, x0] + wd * image[channel, y1, x1])
            half[y, x, 3] = min(total, _ONE)


@compiled()
def _pull(fine):
    """Give the next coarser level of fine [h, w, 4]."""
    height, width = fine.shape[:2]
    coarse = np.zeros(((height + 1) // 2, (width + 1) // 2, 4), np.float32)
    for y in range(height):
        for x in range(width):
            weight = fine[y, x, 3]
            for channel in range(3):
                coarse[y // 2, x // 2, channel] += weight * fine[y, x, channel]
            coarse[y // 2, x // 2, 3] += weight
    for y in range(coarse.shape[0]):
        for x in range(coarse.shape[1]):
            total = coarse[y, x, 3]
            if total > 0:
                for channel in range(3):
                    coarse[y, x, channel] /= total
                coarse[y, x, 3] = min(total, _ONE)
    return coarse


@compiled()
def _between(coarse, y, x):
    """Give the three colours of the coarser level [h, w, 4] at pixel (y, x) of the finer, bilinearly."""
    height, width = coarse.shape[:2]
    y0, x0 = y // 2, x // 2
    y1 = min(max(y0 + (1 if y & 1 else -1), 0), height - 1)
    x1 = min(max(x0 + (1 if x & 1 else -1), 0), width - 1)
    a, b, c, d = _NEAR * _NEAR, _NEAR * _FAR, _FAR * _NEAR, _FAR * _FAR
    red = a * coarse[y0, x0, 0] + b * coarse[y0, x1, 0] + c * coarse[y1, x0, 0] + d * coarse[y1, x1, 0]
    green = a * coarse[y0, x0, 1] + b * coarse[y0, x1, 1] + c * coarse[y1, x0, 1] + d * coarse[y1, x1, 1]
    blue = a * coarse[y0, x0, 2] + b * coarse[y0, x1, 2] + c * coarse[y1, x0, 2] + d * coarse[y1, x1, 2]
    return red, green, blue


@compiled()
def _complete(level):
    """Complete level [h, w, 4], in place, from ever coarser ones."""
    levels = [level]
    while max(levels[-1].shape[0], levels[-1].shape[1]) > 1:
        levels.append(_pull(levels[-1]))
    for i in range(len(levels) - 2, -1, -1):
        fine, coarse = levels[i], levels[i + 1]
        for y in range(fine.shape[0]):
            for x in range(fine.shape[1]):
                weight = fine[y, x, 3]
                if weight < 1:
                    red, green, blue = _between(coarse, y, x)
                    fine[y, x, 0] = weight * fine[y, x, 0] + (_ONE - weight) * red
                    fine[y, x, 1] = weight * fine[y, x, 1] + (_ONE - weight) * green
                    fine[y, x, 2] = weight * fine[y, x, 2] + (_ONE - weight) * blue


@compiled()
def _push_last(image, mask, out, half, top, bottom):
    """Write rows [top, bottom) of the result: known pixels as they are, the others from the first coarser level."""
    for y in range(top, bottom):
        for channel in range(3):
            out[channel, y] = image[channel, y]
        for x in range(mask.shape[1]):
            if mask[y, x] == 0:
                red, green, blue = _between(half, y, x)
                out[0, y, x], out[1, y, x], out[2, y, x] = red, green, blue


@compiled()
def _nearest_in_column(mask, nearest_row, left, right):
    """Write for columns [left, right) the row of the nearest known pixel of the same column, -1 if there is none."""
    height = len(mask)
    for y in range(height):
        for x in range(left, right):
            above = nearest_row[y - 1, x] if y > 0 else -1
            nearest_row[y, x] = y if mask[y, x] > 0 else above
    for y in range(height - 2, -1, -1):
        for x in range(left, right):
            here, below = nearest_row[y, x], nearest_row[y + 1, x]
            if below >= 0 and (here < 0 or below - y < y - here):
                nearest_row[y, x] = below


@compiled()
def _take_nearest(image, mask, nearest_row, out, top, bottom):
    """Write rows [top, bottom): along a row, the nearest pixel is on the lower envelope of parabolas over columns.

    Felzenszwalb and Huttenlocher, Distance transforms of sampled functions, 2012.
    """
    width = mask.shape[1]
    column = np.empty(width, np.int64)
    start = np.empty(width + 1, np.float64)
    for y in range(top, bottom):
        count = 0
        for x in range(width):
            if nearest_row[y, x] < 0:
                continue
            own = (nearest_row[y, x] - y) ** 2 + x * x
            crossing = -np.inf
            while count > 0:
                other = column[count - 1]
                crossing = (own - (nearest_row[y, other] - y) ** 2 - other * other) / (2. * (x - other))
                if crossing > start[count - 1]:
                    break
                count -= 1
            column[count] = x
            start[count] = crossing if count > 0 else -np.inf
            count += 1
        start[count] = np.inf
        k = 0
        for x in range(width):
            if mask[y, x] > 0 or count == 0:
                for channel in range(3):
                    out[channel, y, x] = image[channel, y, x] if count > 0 else _ZERO
                continue
            while start[k + 1] < x:
                k += 1
            r, c = nearest_row[y, column[k]], column[k]
            for channel in range(3):
                out[channel, y, x] = image[channel, r, c]
