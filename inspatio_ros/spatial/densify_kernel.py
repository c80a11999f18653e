# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The loops over pixels of `densify.py`. Depth is float32 [h, w], unknown where it is not a finite number above 0."""

from __future__ import annotations

import numpy as np

from inspatio_ros.compiled import compiled

_NAN = np.float32(np.nan)


@compiled()
def drop_flying(z_depth, per_pixel):
    """Give z_depth with NaN where unknown, and where depth rises (or falls) by `per_pixel` a pixel on both sides."""
    height, width = z_depth.shape
    out = np.empty_like(z_depth)
    for y in range(height):
        for x in range(width):
            z = z_depth[y, x]
            known = z > 0 and z < np.inf
            for reach in (1, 2):
                limit = np.float32(per_pixel * reach) * z
                if known and x >= reach and x + reach < width:
                    before, after = z - z_depth[y, x - reach], z_depth[y, x + reach] - z
                    known = not ((before > limit and after > limit) or (before < -limit and after < -limit))
                if known and y >= reach and y + reach < height:
                    before, after = z - z_depth[y - reach, x], z_depth[y + reach, x] - z
                    known = not ((before > limit and after > limit) or (before < -limit and after < -limit))
            out[y, x] = z if known else _NAN
    return out


@compiled()
def _reach(z_depth, y, x, dy, dx, limit):
    """Give the steps (0: none within limit) to the first known depth from (y, x) along (dy, dx)."""
    height, width = z_depth.shape
    for step in range(1, limit + 1):
        r, c = y + step * dy, x + step * dx
        if r < 0 or r >= height or c < 0 or c >= width:
            return 0
        if z_depth[r, c] > 0:
            return step
    return 0


@compiled()
def close_gaps(z_depth, widest, agreement):
    """Fill unknown pixels that lie in a gap of at most `widest` pixels between depths that agree."""
    height, width = z_depth.shape
    out = z_depth.copy()
    for y in range(height):
        for x in range(width):
            if z_depth[y, x] > 0:
                continue
            best = widest + 2
            for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
                ahead = _reach(z_depth, y, x, dy, dx, widest)
                if ahead == 0:
                    continue
                behind = _reach(z_depth, y, x, -dy, -dx, widest + 1 - ahead)
                if behind == 0 or ahead + behind >= best:
                    continue
                za = z_depth[y + ahead * dy, x + ahead * dx]
                zb = z_depth[y - behind * dy, x - behind * dx]
                if abs(za - zb) <= agreement * min(za, zb):
                    best = ahead + behind
                    out[y, x] = best / (behind / za + ahead / zb)
    return out


@compiled()
def resample_depth(z_depth, scale_x, scale_y, left, top, width, height, agreement):
    """Resample to a grid (see densify.Grid): bilinear in inverse depth on a surface, the nearest pixel at its edges."""
    source_height, source_width = z_depth.shape
    out = np.empty((height, width), np.float32)
    columns = np.minimum(np.maximum((np.arange(width) - left + 0.5) / scale_x - 0.5, 0.), source_width - 1.)
    for y in range(height):
        v = min(max((y - top + 0.5) / scale_y - 0.5, 0.), source_height - 1.)
        y0 = int(v)
        y1, fy = min(y0 + 1, source_height - 1), np.float32(v - y0)
        for x in range(width):
            u = columns[x]
            x0 = int(u)
            x1, fx = min(x0 + 1, source_width - 1), np.float32(u - x0)
            a, b, c, d = z_depth[y0, x0], z_depth[y0, x1], z_depth[y1, x0], z_depth[y1, x1]
            low, high = min(min(a, b), min(c, d)), max(max(a, b), max(c, d))
            if a > 0 and b > 0 and c > 0 and d > 0 and high - low <= agreement * low:
                upper = (1 - fx) * (b * c * d) + fx * (a * c * d)
                lower = (1 - fx) * (a * b * d) + fx * (a * b * c)
                # One division for the four inverses: 1 / (sum of w_i / z_i), multiplied out.
                out[y, x] = a * b * c * d / ((1 - fy) * upper + fy * lower)
            else:
                nearest = (b if fx > 0.5 else a) if fy <= 0.5 else (d if fx > 0.5 else c)
                out[y, x] = nearest if nearest > 0 else _NAN
    return out


@compiled()
def _overlaps(scale, offset, count, source_count):
    """Give for each grid pixel the first source pixel that its area touches, and one past the last."""
    first, last = np.empty(count, np.int64), np.empty(count, np.int64)
    for i in range(count):
        first[i] = min(max(int(np.floor((i - offset) / scale)), 0), source_count - 1)
        last[i] = max(min(int(np.ceil((i + 1 - offset) / scale)), source_count), first[i] + 1)
    return first, last


@compiled()
def _share(i, pixel, scale, offset):
    """Give how much of a source pixel the area of grid pixel i covers; a sliver where the image ends."""
    low, high = (i - offset) / scale, (i + 1 - offset) / scale
    return max(min(high, pixel + 1.) - max(low, pixel * 1.), 1e-6)


@compiled()
def area_mean(image, scale_x, scale_y, left, top, width, height):
    """Give the mean uint8 colour of the source area of each grid pixel, [height, width, 3]."""
    x_first, x_last = _overlaps(scale_x, left, width, image.shape[1])
    y_first, y_last = _overlaps(scale_y, top, height, image.shape[0])
    out = np.empty((height, width, 3), np.uint8)
    row = np.empty((image.shape[1], 3), np.float32)
    for y in range(height):
        row[:] = 0
        rows = 0.
        for r in range(y_first[y], y_last[y]):
            share = np.float32(_share(y, r, scale_y, top))
            rows += share
            for c in range(image.shape[1]):
                for channel in range(3):
                    row[c, channel] += share * image[r, c, channel]
        for x in range(width):
            red, green, blue, columns = 0., 0., 0., 0.
            for c in range(x_first[x], x_last[x]):
                share = _share(x, c, scale_x, left)
                red, green, blue = red + share * row[c, 0], green + share * row[c, 1], blue + share * row[c, 2]
                columns += share
            scale = 1. / (rows * columns)
            out[y, x, 0] = np.uint8(red * scale + 0.5)
            out[y, x, 1] = np.uint8(green * scale + 0.5)
            out[y, x, 2] = np.uint8(blue * scale + 0.5)
    return out
