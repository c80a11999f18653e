# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Match the exposure of views that are rendered together: cameras adapt theirs while they record.

Where two views see the same surface, the ratio of their colours is that of their exposures and white balances (sRGB's
curve is close to a power, so a factor stays a factor). Views are matched to the first, best one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from inspatio_ros.geometry import invert
from inspatio_ros.spatial.densify import DenseFrame

#: Points of a view, along one line of its image, that are compared.
SAMPLES = 40
#: Fewer common points than this tell nothing; the view is left as it is.
LEAST_COMMON = 50
#: Colours outside are too dark or too near to saturation to compare.
USABLE = (16, 240)
#: The strongest correction.
MOST_GAIN = 2.5
#: Relative depth within which a point is the surface that the other view sees there.
SAME_DEPTH = 0.03


def match_exposure(views: Sequence[DenseFrame]) -> np.ndarray:
    """Give the factors float32 [V, 3] that bring the colours of views to the exposure of the first."""
    gains = np.ones((len(views), 3), np.float32)
    for k in range(1, len(views)):
        pairs = [common_colours(views[k], views[j]) for j in range(k)]
        ratios = np.concatenate([gains[j] * theirs / own for j, (own, theirs) in enumerate(pairs)])
        if len(ratios) >= LEAST_COMMON:
            gains[k] = np.median(ratios, axis=0).clip(1 / MOST_GAIN, MOST_GAIN)
    return gains


def common_colours(view: DenseFrame, other: DenseFrame) -> tuple[np.ndarray, np.ndarray]:
    """Give the usable colours, float32 [N, 3] each, of points of `view` in both views."""
    step = max(1, view.z_depth.shape[1] // SAMPLES)
    rows, columns = np.mgrid[step // 2:view.z_depth.shape[0]:step, step // 2:view.z_depth.shape[1]:step].reshape(2, -1)
    z = view.z_depth[rows, columns]
    rows, columns, z = rows[z > 0], columns[z > 0], z[z > 0]
    T = invert(other.T_world_camera) @ view.T_world_camera
    rays = np.linalg.inv(view.K) @ np.stack([columns, rows, np.ones(len(rows))])
    points = other.K @ (T[:3, :3] @ (rays * z) + T[:3, 3:])
    front = points[2] > 0
    x, y = np.round(points[:2, front] / points[2, front]).clip(-1, 1e6).astype(int)
    height, width = other.z_depth.shape
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    x, y = x[inside], y[inside]
    own = view.colour[rows[front][inside], columns[front][inside]].astype(np.float32)
    theirs = other.colour[y, x].astype(np.float32)
    with np.errstate(invalid='ignore'):
        same = np.abs(other.z_depth[y, x] / points[2, front][inside] - 1) < SAME_DEPTH
    low, high = USABLE
    same &= (np.minimum(own, theirs).min(axis=1) >= low) & (np.maximum(own, theirs).max(axis=1) <= high)
    return own[same], theirs[same]
