# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A recording that is quick to make and to open: a few frames before a painted wall."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from inspatio_ros.geometry import make_pose
from inspatio_ros.tum import write_tum

WIDTH, HEIGHT = 64, 48
#: Metres from the camera to the wall.
DISTANCE = 2.
_FOCAL = 60.


def sideways(offsets: Sequence[float]) -> np.ndarray:
    """Give poses [N, 4, 4] that look along z from these x."""
    return np.stack([make_pose(translation=np.array([x, 0., 0.])) for x in offsets])


def write_wall(folder: Path, frames: int = 3) -> Path:
    """Write the folder: the camera moves to the right by 0.1 m a frame, which is 3 pixels on the wall."""
    (folder / 'rgb').mkdir()
    (folder / 'depth').mkdir()
    paint = cv2.resize(np.random.default_rng(0).integers(0, 255, (12, 24, 3), dtype=np.uint8), (WIDTH * 2, HEIGHT))
    for i in range(frames):
        cv2.imwrite(str(folder / 'rgb' / f'{i:06d}.png'), paint[:, 3 * i:3 * i + WIDTH])
        cv2.imwrite(str(folder / 'depth' / f'{i:06d}.png'), np.full((HEIGHT, WIDTH), DISTANCE * 1000, np.uint16))
    (folder / 'intrinsics.json').write_text(json.dumps(
        {'fx': _FOCAL, 'fy': _FOCAL, 'cx': (WIDTH - 1) / 2, 'cy': (HEIGHT - 1) / 2, 'width': WIDTH, 'height': HEIGHT,
         'depth_scale': 1000.}))
    write_tum(folder / 'trajectory.txt', np.arange(frames) * 0.5, sideways(np.arange(frames) * 0.1))
    return folder
