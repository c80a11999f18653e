# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The GPU kernels of `splat_triton.py`; thresholds are arguments, so that they are typed in one place."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _project(z_depth, motion, frame, pixel, count, source_width):
    """Give target column, row and depth of source pixels, and whether they count."""
    z = tl.load(z_depth + frame * count + pixel, mask=pixel < count, other=0.)
    x, y = (pixel % source_width).to(tl.float32), (pixel // source_width).to(tl.float32)
    m = motion + frame * 12
    u = (tl.load(m) * x + tl.load(m + 1) * y + tl.load(m + 2)) * z + tl.load(m + 3)
    v = (tl.load(m + 4) * x + tl.load(m + 5) * y + tl.load(m + 6)) * z + tl.load(m + 7)
    w = (tl.load(m + 8) * x + tl.load(m + 9) * y + tl.load(m + 10)) * z + tl.load(m + 11)
    good = (pixel < count) & (z > 0) & (w > 0) & (w < float('inf'))
    w = tl.where(good, w, 1.)
    return u / w, v / w, w, good


@triton.jit
def _tap(column, row, good, width, height, min_share, dx: tl.constexpr, dy: tl.constexpr):
    """Give the index of one of the four pixels around a position, its share, and whether it counts."""
    inside = good & (column > -1.) & (row > -1.) & (column < width) & (row < height)
    left, top = tl.floor(tl.where(inside, column, 0.)), tl.floor(tl.where(inside, row, 0.))
    fx, fy = column - left, row - top
    share = (fx if dx else 1. - fx) * (fy if dy else 1. - fy)
    x, y = left.to(tl.int32) + dx, top.to(tl.int32) + dy
    inside = inside & (x >= 0) & (x < width) & (y >= 0) & (y < height) & (share >= min_share)
    return y * width + x, share, inside


@triton.jit
def lower_nearest(z_depth, motion, nearest, count, source_width, width, height, min_share, BLOCK: tl.constexpr):
    """Lower the depth of every pixel that a source pixel falls on."""
    frame, pixel = tl.program_id(1), tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    column, row, z, good = _project(z_depth, motion, frame, pixel, count, source_width)
    for tap in tl.static_range(4):
        index, _, counts = _tap(column, row, good, width, height, min_share, tap % 2, tap // 2)
        tl.atomic_min(nearest + frame * width * height + index, z, mask=counts)


@triton.jit
def add(image, z_depth, motion, nearest, sums, count, source_width, width, height, min_share, behind,
        SQUARINGS: tl.constexpr, SUMS: tl.constexpr, BLOCK: tl.constexpr):
    """Add what is not hidden to the sums [frames, cells, SUMS] of w * (red, green, blue, z) and w."""
    frame, pixel = tl.program_id(1), tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    column, row, z, good = _project(z_depth, motion, frame, pixel, count, source_width)
    colour = image + frame * 3 * count + pixel
    red = tl.load(colour, mask=good, other=0.)
    green = tl.load(colour + count, mask=good, other=0.)
    blue = tl.load(colour + 2 * count, mask=good, other=0.)
    for tap in tl.static_range(4):
        index, share, counts = _tap(column, row, good, width, height, min_share, tap % 2, tap // 2)
        front = tl.load(nearest + frame * width * height + index, mask=counts, other=0.)
        counts = counts & (z <= front * behind)
        factor = front / z
        for _ in tl.static_range(SQUARINGS):
            factor = factor * factor
        weight = share * factor
        cell = sums + (frame * width * height + index) * SUMS
        tl.atomic_add(cell, weight * red, mask=counts)
        tl.atomic_add(cell + 1, weight * green, mask=counts)
        tl.atomic_add(cell + 2, weight * blue, mask=counts)
        tl.atomic_add(cell + 3, weight * z, mask=counts)
        tl.atomic_add(cell + 4, weight, mask=counts)


@triton.jit
def resolve(sums, image, mask, z_depth, cells, hole, SUMS: tl.constexpr, BLOCK: tl.constexpr):
    """Divide the sums by their weight, and write holes where there is none."""
    frame, pixel = tl.program_id(1), tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = pixel < cells
    cell = sums + (frame * cells + pixel) * SUMS
    weight = tl.load(cell + 4, mask=inside, other=0.)
    known = weight > 0.
    weight = tl.where(known, weight, 1.)
    for channel in tl.static_range(3):
        value = tl.load(cell + channel, mask=inside, other=0.) / weight
        tl.store(image + (frame * 3 + channel) * cells + pixel, tl.where(known, value, hole), mask=inside)
    z = tl.load(cell + 3, mask=inside, other=0.) / weight
    tl.store(z_depth + frame * cells + pixel, tl.where(known, z, float('nan')), mask=inside)
    tl.store(mask + frame * cells + pixel, known.to(tl.float32), mask=inside)
