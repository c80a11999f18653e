# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The loops over sparse points of `views.py`."""

from __future__ import annotations

import numpy as np

from inspatio_ros.compiled import compiled

#: A frame recorded a distance d away from the target camera counts 1 / (1 + this d / z) for what lies at depth z: it
#: sees other sides of things, and errors of its depth show.
PARALLAX_WEIGHT = 2.
#: The largest magnification that is told apart.
MOST_MAGNIFIED = 8.
#: A frame that lies behind what another sees in the same cell, beyond this ratio of depths, is probably hidden.
HIDDEN_RATIO = 1.3
#: The share of a cell that a frame must cover to count as evidence that something is there.
ENOUGH = 0.25


@compiled()
def cover_cells(visible, points, source_z, distance, R, t, cells, piece, cover, depth, magnification):
    """Lay the pieces of visible frames over the GRID cells: sums of cover and of cover * depth [N, rows, columns]."""
    rows, columns = cover.shape[1:]
    fx, fy, cx, cy = cells
    ratios = np.empty(source_z.shape[1])
    for f in visible:
        seen = 0
        for i in range(source_z.shape[1]):
            px, py, pz = points[f, i]
            z = R[2, 0] * px + R[2, 1] * py + R[2, 2] * pz + t[2]
            if not z > 0:
                continue
            x = fx * (R[0, 0] * px + R[0, 1] * py + R[0, 2] * pz + t[0]) / z + cx
            y = fy * (R[1, 0] * px + R[1, 1] * py + R[1, 2] * pz + t[1]) / z + cy
            if x < 0 or x >= columns or y < 0 or y >= rows:
                continue
            ratio = source_z[f, i] / z
            ratios[seen] = ratio
            seen += 1
            quality = min(1., 1. / ratio) / (1. + PARALLAX_WEIGHT * distance[f] / z)
            _lay(cover[f], depth[f], x, y, z, min(ratio, MOST_MAGNIFIED), quality, piece)
        if seen:
            magnification[f] = np.median(ratios[:seen])


@compiled()
def _lay(cover, depth, x, y, z, ratio, quality, piece):
    """Add one piece, `ratio` times as large as recorded, about (x, y) to the cells that it overlaps."""
    rows, columns = cover.shape
    half_x, half_y = 0.5 * ratio * piece[0], 0.5 * ratio * piece[1]
    for r in range(max(int(y - half_y), 0), min(int(y + half_y), rows - 1) + 1):
        height = min(y + half_y, r + 1.) - max(y - half_y, r * 1.)
        for c in range(max(int(x - half_x), 0), min(int(x + half_x), columns - 1) + 1):
            share = quality * height * (min(x + half_x, c + 1.) - max(x - half_x, c * 1.))
            cover[r, c] += share
            depth[r, c] += share * z


@compiled()
def discount_hidden(visible, cover, depth):
    """Turn summed depths to means, limit cover to 1, and discount what lies behind what another frame sees."""
    rows, columns = cover.shape[1:]
    nearest = np.full((rows, columns), np.float32(np.inf))
    for f in visible:
        for r in range(rows):
            for c in range(columns):
                if cover[f, r, c] > ENOUGH:
                    nearest[r, c] = min(nearest[r, c], depth[f, r, c] / cover[f, r, c])
    for f in visible:
        for r in range(rows):
            for c in range(columns):
                if cover[f, r, c] > 0:
                    behind = min(HIDDEN_RATIO * nearest[r, c] * cover[f, r, c] / depth[f, r, c], 1.)
                    cover[f, r, c] = min(cover[f, r, c], 1.) * (behind * behind) * (behind * behind)
