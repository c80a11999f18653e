# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The built-in recording: a robot's short drive through a procedural room in which a toy train and a ball move.

It needs no download, and what any camera would have seen at any time is known.
"""

from __future__ import annotations

import threading
import weakref

import numpy as np
from transforms3d import euler

from inspatio_ros.errors import ConfigurationError
from inspatio_ros.geometry import T_BODY_OPTICAL, PinholeCamera, make_pose
from inspatio_ros.reference.base import Reference, ReferenceFrame
from inspatio_ros.scenes.raycast import raycast
from inspatio_ros.scenes.rooms import sample_room

#: Size of the recording's images. Their shape is that of the released model's, so that nothing is cropped for it.
WIDTH, HEIGHT = 416, 240
FRAME_RATE = 12.
FRAMES = 48
#: Focal length by image width: a field of view of 78 degrees, as of common robot cameras.
_FOCAL = .62
#: Rays along each side of a pixel.
_SAMPLES = 2
#: Frames cast before they are asked for: two seconds.
_AHEAD = 24
#: Frames kept in memory: 34 MB at the default size.
_KEPT = FRAMES
_START, _HEADING = np.array([2.15, -1.45, 1.12]), np.radians(166.)
_SPEED, _TURN, _PITCH = .45, np.radians(-5.), np.radians(-9.)


class SampleRoom(Reference):
    """The built-in recording; frames are ray-cast when asked for, and the next ones in the background."""

    def __init__(self, width: int = WIDTH, height: int = HEIGHT, frames: int = FRAMES, frame_rate: float = FRAME_RATE,
                 ahead: int = _AHEAD) -> None:
        """Record `frames` images of width x height; `ahead` of them are cast before they are asked for."""
        if frames < 2 or min(width, height) < 1 or not frame_rate > 0.:
            raise ConfigurationError(f'a recording of {frames} frames of {width}x{height} at {frame_rate} per second '
                                     'cannot be; ask for two frames or more, and for positive numbers')
        focal = _FOCAL * max(width, height * WIDTH / HEIGHT)
        self.name, self.is_static, self.up = 'sample', False, np.array([0., 0., 1.])
        self.camera = PinholeCamera(focal, focal, (width - 1) / 2, (height - 1) / 2, width, height)
        self.times = np.arange(frames) / frame_rate
        self.T_world_camera = _drive(self.times)
        self._scene, self._ahead = sample_room(), ahead
        self._frames: dict[int, ReferenceFrame] = {}
        self._lock, self._worker = threading.Lock(), None
        self._cast_ahead(-1)

    def frame(self, index: int) -> ReferenceFrame:
        """Give one frame."""
        index = int(index)
        if not -len(self) <= index < len(self):
            raise IndexError(f'frame {index} of a recording of {len(self)} frames')
        index %= len(self)
        self._cast_ahead(index)
        return self._cast(index)

    def truth(self, camera: PinholeCamera, T_world_camera: np.ndarray, time: float) -> tuple[np.ndarray, np.ndarray]:
        """Give the true image uint8 [H, W, 3] and z_depth float32 [H, W] from any pose [4, 4] at any time."""
        view = raycast(self._scene, camera, T_world_camera, time, _SAMPLES)
        return view.image, view.z_depth

    def _cast(self, index: int, threads: int | None = None) -> ReferenceFrame:
        frame = self._frames.get(index)
        if frame is None:
            T_world_camera, time = self.T_world_camera[index], float(self.times[index])
            view = raycast(self._scene, self.camera, T_world_camera, time, _SAMPLES, threads)
            with self._lock:
                frame = self._frames.setdefault(index, ReferenceFrame(index, time, view.image, view.z_depth,
                                                                      T_world_camera))
                while len(self._frames) > _KEPT:
                    del self._frames[next(iter(self._frames))]
        return frame

    def _cast_ahead(self, index: int) -> None:
        """Let a thread cast the frames that follow, unless one is still at it."""
        with self._lock:
            if self._worker is None or not self._worker.is_alive():
                following = range(index + 1, min(index + 1 + self._ahead, len(self)))
                missing = [i for i in following if i not in self._frames]
                if missing:
                    self._worker = threading.Thread(target=_cast_all, args=(weakref.ref(self), missing), daemon=True)
                    self._worker.start()


def _cast_all(room: weakref.ref[SampleRoom], indices: list[int]) -> None:
    """Cast frames on one core, as the machine has other work to do, until nobody holds the recording any more."""
    for index in indices:
        held = room()
        if held is None:
            break
        held._cast(index, threads=1)
        del held


def _drive(times: np.ndarray) -> np.ndarray:
    """Drive along an arc, nodding and swaying a little as robots do: T_world_camera [N, 4, 4]."""
    yaw = _HEADING + _TURN * times
    # The integral of the heading's direction at constant speed and turn.
    along = np.stack([np.sin(yaw) - np.sin(_HEADING), np.cos(_HEADING) - np.cos(yaw)], axis=-1) * _SPEED / _TURN
    sway = np.stack([.003 * np.sin(7.3 * times), .003 * np.sin(6.1 * times + 1.), .004 * np.sin(9.7 * times)], axis=-1)
    place = _START + np.concatenate([along, np.zeros((len(times), 1))], axis=1) + sway
    pitch = _PITCH + np.radians(.4) * np.sin(5.3 * times)
    roll = np.radians(.3) * np.sin(4.1 * times + 2.)
    return np.stack([_look(p, *angles) for p, *angles in zip(place, yaw, pitch, roll, strict=True)])


def _look(place: np.ndarray, yaw: float, pitch: float, roll: float) -> np.ndarray:
    """Give the pose of a camera at a place [3] that looks along its yaw, up by its pitch (radians)."""
    return make_pose(euler.euler2mat(roll, -pitch, yaw), place) @ T_BODY_OPTICAL
