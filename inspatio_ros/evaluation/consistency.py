# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Does a picture stay what it was, from one frame to the next and from one visit to the next."""

from __future__ import annotations

import numpy as np

from inspatio_ros.geometry import PinholeCamera, lift, project

#: A point is the same surface in the next frame when the depths agree to this share.
_DEPTH_AGREEMENT = 0.02


def warp_error(image0: np.ndarray, image1: np.ndarray, z_depth0: np.ndarray, z_depth1: np.ndarray,
               camera: PinholeCamera, T_world_camera0: np.ndarray, T_world_camera1: np.ndarray,
               still: np.ndarray | None = None) -> tuple[float, float]:
    """Compare a frame with the next one, warped back onto it by true depth and true poses.

    Args:
        image0, image1: uint8 RGB [H, W, 3], neighbours in time.
        z_depth0, z_depth1: float32 [H, W] true depth in metres.
        camera: intrinsics of both.
        T_world_camera0, T_world_camera1: 4x4 poses.
        still: bool [H, W] of frame 0, where nothing moves; everywhere by default.

    Returns:
        Sum of squared differences (0..255, over colours) and the number of values compared; sums so that the caller
        may pool over frames.

    """
    import cv2
    pixels, expected = project(lift(z_depth0, camera, T_world_camera0), camera, T_world_camera1)
    x, y = pixels[..., 0].astype(np.float32), pixels[..., 1].astype(np.float32)
    seen_z = cv2.remap(z_depth1.astype(np.float32), x, y, cv2.INTER_NEAREST, borderValue=float('nan'))
    with np.errstate(invalid='ignore'):
        same = np.abs(seen_z - expected) < _DEPTH_AGREEMENT * expected
    same &= (x >= 0) & (x <= camera.width - 1) & (y >= 0) & (y <= camera.height - 1)
    if still is not None:
        same &= still
    back = cv2.remap(image1, x, y, cv2.INTER_LINEAR).astype(np.float64)
    difference = (back - image0)[same]
    return float(np.sum(difference ** 2)), int(difference.size)


def gradient_energy(image: np.ndarray, where: np.ndarray) -> float:
    """Sum the squared brightness differences between neighbours, both of which lie in `where` (bool [H, W])."""
    grey = image.astype(np.float64).mean(axis=-1)
    total = 0.
    for axis in (0, 1):
        both = np.logical_and(*_neighbours(where, axis))
        a, b = _neighbours(grey, axis)
        total += float(np.sum((a - b)[both] ** 2))
    return total


def _neighbours(field: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    ahead, behind = [slice(None), slice(None)], [slice(None), slice(None)]
    ahead[axis], behind[axis] = slice(1, None), slice(None, -1)
    return field[tuple(ahead)], field[tuple(behind)]
