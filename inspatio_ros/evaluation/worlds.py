# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Recordings whose truth is known: of procedural scenes from any pose, of real places at the frames held out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from inspatio_ros.geometry import PinholeCamera
from inspatio_ros.reference.base import Reference, ReferenceFrame
from inspatio_ros.scenes.raycast import raycast
from inspatio_ros.scenes.scene import Scene

#: Rays along each side of a pixel.
SAMPLES = 2
#: Frames of a recording that are kept in memory.
_FRAMES_KEPT = 64


@dataclass(frozen=True)
class Truth:
    """What a camera would have seen: image uint8 [H, W, 3], z_depth float32 [H, W] metres, moving bool [H, W]."""

    image: np.ndarray
    z_depth: np.ndarray
    moving: np.ndarray


class SceneRecording(Reference):
    """A recording of a procedural scene, ray-cast when asked for.

    Args:
        name: what it is called in reports.
        scene: the scene; z is up, metres.
        camera: the camera of all frames.
        times: float64 [N] seconds of the recording.
        T_world_camera: float64 [N, 4, 4].
        frozen: the scene stands still as it is at time 0.
        is_static: every frame may serve any time; by default if the scene is frozen.

    """

    def __init__(self, name: str, scene: Scene, camera: PinholeCamera, times: np.ndarray, T_world_camera: np.ndarray,
                 frozen: bool = True, is_static: bool | None = None) -> None:
        self.name, self.camera, self.times, self.T_world_camera = name, camera, times, T_world_camera
        self.is_static = frozen if is_static is None else is_static
        self.up = np.array([0., 0., 1.])
        self._scene, self._frozen = scene, frozen
        self._kept = lru_cache(maxsize=_FRAMES_KEPT)(self._record)

    def frame(self, index: int) -> ReferenceFrame:
        """Give one frame."""
        return self._kept(int(index))

    def look(self, camera: PinholeCamera, T_world_camera: np.ndarray, time: float) -> Truth:
        """Look at the scene from any pose [4, 4] at a time of the recording."""
        seen = raycast(self._scene, camera, T_world_camera, 0. if self._frozen else time, SAMPLES)
        return Truth(seen.image, seen.z_depth, np.zeros_like(seen.moving) if self._frozen else seen.moving)

    def truth(self, camera: PinholeCamera, T_world_camera: np.ndarray, time: float) -> tuple[np.ndarray, np.ndarray]:
        """Give the true image and z_depth from any pose at any time."""
        seen = self.look(camera, T_world_camera, time)
        return seen.image, seen.z_depth

    def _record(self, index: int) -> ReferenceFrame:
        time, T = float(self.times[index]), self.T_world_camera[index]
        seen = self.look(self.camera, T, time)
        return ReferenceFrame(index, time, seen.image, seen.z_depth, T)


def recorded_truth(reference: Reference, index: int, camera: PinholeCamera) -> Truth:
    """Give a recorded frame resized and cropped to a camera that was fitted from the recording's own."""
    from inspatio_ros.spatial.densify import grid_of_target, nearest_depth, resample_colour
    frame = reference.frame(index)
    image = resample_colour(frame.image, grid_of_target(reference.camera, camera))
    z_depth = nearest_depth(frame.z_depth, reference.camera, camera)
    return Truth(image, z_depth, np.zeros(z_depth.shape, bool))
