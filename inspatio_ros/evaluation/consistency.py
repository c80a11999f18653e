# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Does a picture stay what it was, from one frame to the next and from one visit to the next."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from inspatio_ros.geometry import PinholeCamera, lift, project

#: A point is the same surface in the next frame when the depths agree to this share.
_DEPTH_AGREEMENT = 0.02


@dataclass(frozen=True)
class Correspondence:
    """Where the points that a frame shows are seen in another frame.

    `x`, `y` float32 [H, W]: pixels of the other frame; `same` bool [H, W]: the point is inside it and not hidden.
    """

    x: np.ndarray
    y: np.ndarray
    same: np.ndarray

    def fetch(self, image: np.ndarray, nearest: bool = False) -> np.ndarray:
        """Warp an image [H, W] or [H, W, C] of the other frame onto this one; what is not `same` is arbitrary."""
        import cv2
        return cv2.remap(image, self.x, self.y, cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR)

    def error(self, image: np.ndarray, other: np.ndarray, where: np.ndarray | None = None) -> tuple[float, int]:
        """Compare images uint8 [H, W, 3] of both frames, `where` (bool [H, W]) of this one.

        Gives the sum of squared differences (0..255, over colours) and the number of values compared: sums, so that
        the caller may pool over frames.
        """
        compared = self.same if where is None else self.same & where
        difference = (self.fetch(other).astype(np.float64) - image)[compared]
        return float(np.sum(difference ** 2)), int(difference.size)


def correspond(z_depth: np.ndarray, z_depth_other: np.ndarray, camera: PinholeCamera, T_world_camera: np.ndarray,
               T_world_other: np.ndarray) -> Correspondence:
    """Find the points of one frame in another, by true depth float32 [H, W] and true poses [4, 4] of both."""
    import cv2
    pixels, expected = project(lift(z_depth, camera, T_world_camera), camera, T_world_other)
    x, y = pixels[..., 0].astype(np.float32), pixels[..., 1].astype(np.float32)
    seen_z = cv2.remap(z_depth_other.astype(np.float32), x, y, cv2.INTER_NEAREST, borderValue=float('nan'))
    with np.errstate(invalid='ignore'):
        same = np.abs(seen_z - expected) < _DEPTH_AGREEMENT * expected
    same &= (x >= 0) & (x <= camera.width - 1) & (y >= 0) & (y <= camera.height - 1)
    return Correspondence(x, y, same)


def warp_error(image0: np.ndarray, image1: np.ndarray, z_depth0: np.ndarray, z_depth1: np.ndarray,
               camera: PinholeCamera, T_world_camera0: np.ndarray, T_world_camera1: np.ndarray,
               still: np.ndarray | None = None) -> tuple[float, int]:
    """Compare a frame with the next one, warped back onto it by true depth and true poses; see Correspondence.error.

    Args:
        image0, image1: uint8 RGB [H, W, 3], neighbours in time.
        z_depth0, z_depth1: float32 [H, W] true depth in metres.
        camera: intrinsics of both.
        T_world_camera0, T_world_camera1: 4x4 poses.
        still: bool [H, W] of frame 0, where nothing moves; everywhere by default.

    """
    return correspond(z_depth0, z_depth1, camera, T_world_camera0, T_world_camera1).error(image0, image1, still)


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
