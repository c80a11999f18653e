# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What every recording looks like once it is open."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from inspatio_ros.errors import RecordingError
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


#: How far the x axes must have turned, as a sine, to say what is across them; and the least length of a mean of
#: directions that is one.
_LEAST_TURN, _LEAST_LENGTH = 0.25, 0.1
#: How far y axes turn about x axes that do not only where the camera lies on its side: nobody nods so far.
_MOST_NOD = 0.5
#: Within how many degrees of an axis up is that axis: where the x axes told (carried by hand, the office's are 2
#: degrees off), and where the mean of the cameras' own up had to do.
_SNAP_TOLD, _SNAP_GUESSED = 4., 20.


def estimate_up(T_world_camera: np.ndarray) -> np.ndarray:
    """Estimate the direction against gravity from camera poses [N, 4, 4].

    People and robots hold cameras level, so a camera's x axis lies across it, however far the camera looks up or down:
    where they turned, it is what all x axes are across to. Where they did not, the mean of the cameras' own up (-y) is
    close to it. A recording whose world was gravity-aligned has it on an axis, so a direction near an axis is taken to
    be that axis: within 20 degrees where it is such a mean, within 4 where the x axes told. Many a recording's world is
    its first camera, which looked a little down.

    Raises:
        RecordingError: the cameras were held every way round, or turned far while held on their side.

    """
    up, told = _across(T_world_camera)
    length = float(np.linalg.norm(up))
    held = 'every way round' if length < _LEAST_LENGTH else 'on their side' if _on_their_side(T_world_camera) else ''
    if held:
        raise RecordingError(f'the cameras seem to have been held {held}, so which way is up cannot be told; say it in '
                             'metadata.json, "up": [x, y, z]')
    up = up / length
    axis = int(np.argmax(np.abs(up)))
    if abs(up[axis]) >= np.cos(np.radians(_SNAP_TOLD if told else _SNAP_GUESSED)):
        up = np.sign(up[axis]) * np.eye(3)[axis]
    return up


def _across(T_world_camera: np.ndarray) -> tuple[np.ndarray, bool]:
    """Give what the x axes are across to [3] and True, where they tell; else the mean of the cameras' own up, False."""
    held = -T_world_camera[:, :3, 1].mean(axis=0)
    x = T_world_camera[:, :3, 0]
    least, middle = _spread(x)
    if middle < _LEAST_TURN or least > middle / 3:
        return held, False
    across = np.linalg.eigh(x.T @ x)[1][:, 0]
    # Cameras that look straight down tell by where they look.
    sign = across @ held
    if abs(sign) < _LEAST_LENGTH:
        sign = -across @ T_world_camera[:, :3, 2].mean(axis=0)
    return np.copysign(1., sign) * across, True


def _on_their_side(T_world_camera: np.ndarray) -> bool:
    return _spread(T_world_camera[:, :3, 0])[1] < _LEAST_TURN and _spread(T_world_camera[:, :3, 1])[1] > _MOST_NOD


def _spread(axes: np.ndarray) -> tuple[float, float]:
    """Give how far directions [N, 3] leave a plane, and a line, as root mean squares."""
    least, middle, _ = np.sqrt(np.linalg.eigvalsh(axes.T @ axes / len(axes)).clip(0.))
    return float(least), float(middle)
