# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What every recording looks like once it is open."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from inspatio_ros.geometry import PinholeCamera


@dataclass(frozen=True)
class ReferenceFrame:
    """One frame: image uint8 RGB [H, W, 3], z_depth float32 metres [H, W] (NaN unknown), pose and time."""

    index: int
    time: float
    image: np.ndarray
    z_depth: np.ndarray
    T_world_camera: np.ndarray


class Reference(ABC):
    """A recording: frames with depth, poses, intrinsics and times. Frames are read when asked for.

    Attributes: `name`; `camera` (PinholeCamera of all frames); `times` float64 [N] seconds, rising;
    `T_world_camera` float64 [N, 4, 4]; `is_static` (nothing in it moves, so every frame may serve any time);
    `scale` 'metric' or 'relative'; `up` unit vector [3] against gravity, in the world.
    """

    name: str
    camera: PinholeCamera
    times: np.ndarray
    T_world_camera: np.ndarray
    is_static: bool = True
    scale: str = 'metric'
    up: np.ndarray

    def __len__(self) -> int:
        """Count the frames."""
        return len(self.times)

    @abstractmethod
    def frame(self, index: int) -> ReferenceFrame:
        """Read one frame; recently read frames are kept, a bounded number of them."""

    def truth(self, camera: PinholeCamera, T_world_camera: np.ndarray,
              time: float) -> tuple[np.ndarray, np.ndarray] | None:
        """Give the true image uint8 [H, W, 3] and z_depth float32 [H, W] from a pose at a time, None if unknown."""
        return None

    def without(self, indices: Iterable[int]) -> Reference:
        """Give this recording less some frames, which are kept out to be compared with."""
        return _Without(self, indices)


class _Without(Reference):
    def __init__(self, whole: Reference, indices: Iterable[int]) -> None:
        out = {int(i) % len(whole) for i in indices}
        self._whole = whole
        self._kept = [i for i in range(len(whole)) if i not in out]
        self.name, self.camera, self.is_static = whole.name, whole.camera, whole.is_static
        self.scale, self.up = whole.scale, whole.up
        self.times, self.T_world_camera = whole.times[self._kept], whole.T_world_camera[self._kept]

    def frame(self, index: int) -> ReferenceFrame:
        frame = self._whole.frame(self._kept[index])
        return ReferenceFrame(index, frame.time, frame.image, frame.z_depth, frame.T_world_camera)

    def truth(self, camera: PinholeCamera, T_world_camera: np.ndarray,
              time: float) -> tuple[np.ndarray, np.ndarray] | None:
        return self._whole.truth(camera, T_world_camera, time)


def estimate_up(T_world_camera: np.ndarray, snap_degrees: float = 20.) -> np.ndarray:
    """Estimate the direction against gravity from camera poses [N, 4, 4].

    People and robots hold cameras upright, so the mean of the cameras' own up (-y) is close to it; a recording whose
    world was gravity-aligned has it on an axis, so a mean within `snap_degrees` of an axis is taken to be that axis.
    """
    mean = -T_world_camera[:, :3, 1].mean(axis=0)
    mean /= np.linalg.norm(mean)
    axis = int(np.argmax(np.abs(mean)))
    if abs(mean[axis]) >= np.cos(np.radians(snap_degrees)):
        mean = np.sign(mean[axis]) * np.eye(3)[axis]
    return mean
