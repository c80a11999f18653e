# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""From a robot to camera poses: where it starts in a recording, how its camera is mounted, and how a twist moves it.

Frames (docs/conventions.md): `world` is the recording's; `map` has z up and lies at the robot's start; `base` is the
robot's body (base_link, REP 103: x forward, y left, z up); `camera` is the optical frame. Metres, radians, seconds.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from transforms3d import euler

from inspatio_ros.errors import ConfigurationError
from inspatio_ros.geometry import T_BODY_OPTICAL, invert, is_rigid, make_pose, se3_exp

if TYPE_CHECKING:
    from inspatio_ros.spatial.clearance import Clearance

#: How far the camera is above base_link where nothing else is said, metres.
CAMERA_HEIGHT = 1.0
#: Seconds after which a velocity command no longer counts.
COMMAND_TIMEOUT = 0.5
#: A camera whose axis is within this of the vertical (as a sine) has no heading of its own.
_MIN_HORIZONTAL = 1e-3


# --- where the robot starts -----------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Mount:
    """How the camera sits on the robot: `xyz` metres and `rpy` radians of camera_link (body axes) in base_link.

    `rpy` as in URDF: rotations about the fixed x, y, z axes, in this order; positive pitch looks down.
    """

    xyz: tuple[float, float, float] = (0., 0., CAMERA_HEIGHT)
    rpy: tuple[float, float, float] = (0., 0., 0.)

    def __post_init__(self) -> None:
        for name, values in (('xyz', self.xyz), ('rpy', self.rpy)):
            if len(values) != 3 or not all(math.isfinite(v) for v in values):
                raise ConfigurationError(f'mount {name} {list(values)} is not three finite numbers')

    @property
    def T_base_camera(self) -> np.ndarray:
        """Pose of the optical frame in base_link."""
        return make_pose(euler.euler2mat(*self.rpy, axes='sxyz'), np.array(self.xyz)) @ T_BODY_OPTICAL


@dataclass(frozen=True)
class StartFrame:
    """A robot's frames in a recording, fixed when it starts; all float64 [4, 4].

    `T_world_map`: the map frame: z up, x along the horizontal heading of the start camera, origin at the start base.
    `T_map_base`: base_link at the start. `T_base_camera`: the mount, optical frame in base_link.
    """

    T_world_map: np.ndarray
    T_map_base: np.ndarray
    T_base_camera: np.ndarray

    @property
    def T_base_camera_link(self) -> np.ndarray:
        """The mount in body axes (x forward, y left, z up), as TF's camera_link wants it."""
        return self.T_base_camera @ invert(T_BODY_OPTICAL)

    def camera_poses(self, T_map_base: np.ndarray) -> np.ndarray:
        """Turn base poses in the map [..., 4, 4] into `T_world_camera` [..., 4, 4]."""
        return self.T_world_map @ np.asarray(T_map_base, dtype=np.float64) @ self.T_base_camera

    def base_poses(self, T_world_camera: np.ndarray) -> np.ndarray:
        """Turn camera poses in the world [..., 4, 4] into `T_map_base` [..., 4, 4]."""
        return invert(self.T_world_map) @ np.asarray(T_world_camera, dtype=np.float64) @ invert(self.T_base_camera)

    def to_map(self, points: np.ndarray) -> np.ndarray:
        """Take world points [..., 3] to the map frame."""
        T_map_world = invert(self.T_world_map)
        return np.asarray(points, dtype=np.float64) @ T_map_world[:3, :3].T + T_map_world[:3, 3]


def start_frame(T_world_camera0: np.ndarray, up: np.ndarray, mount: Mount | None = None,
                camera_height: float = CAMERA_HEIGHT) -> StartFrame:
    """Place an upright robot so that its camera starts where the recording's does.

    `T_world_camera0` [4, 4]: the recording's start pose. `up` [3]: against gravity, in the world.
    Without a `mount` the camera sits `camera_height` metres straight above base_link with the start camera's own pitch
    and roll, so that the first view is the recording's start view exactly. With one, position and heading are the start
    camera's, pitch and roll are the mount's.

    Raises ConfigurationError for a pose that is not rigid, an `up` without direction, or a height that is not finite.
    """
    T_world_camera0 = np.asarray(T_world_camera0, dtype=np.float64)
    if not is_rigid(T_world_camera0):
        raise ConfigurationError('the start pose is not a rigid transform')
    if not math.isfinite(camera_height):
        raise ConfigurationError(f'camera_height {camera_height} is not a finite number of metres')
    R_world_map = _upright(T_world_camera0[:3, :3], _unit(up))
    position = T_world_camera0[:3, 3]
    if mount is None:
        T_world_map = make_pose(R_world_map, position - camera_height * R_world_map[:, 2])
        return StartFrame(T_world_map, np.eye(4), invert(T_world_map) @ T_world_camera0)
    T_base_camera = mount.T_base_camera
    # The camera's heading is the map's x, so the base is turned back by the camera's heading on the base.
    R_map_base = _upright(T_base_camera[:3, :3], np.array([0., 0., 1.])).T
    T_world_map = make_pose(R_world_map, position - R_world_map @ R_map_base @ T_base_camera[:3, 3])
    return StartFrame(T_world_map, make_pose(R_map_base), T_base_camera)


def _unit(up: np.ndarray) -> np.ndarray:
    up = np.asarray(up, dtype=np.float64)
    length = float(np.linalg.norm(up)) if up.shape == (3,) else 0.
    if not (math.isfinite(length) and length > 0):
        raise ConfigurationError(f'up {up.tolist()} is not a direction')
    return up / length


def _upright(R_frame_camera: np.ndarray, up: np.ndarray) -> np.ndarray:
    """Give the rotation [3, 3] of the frame with z = `up` whose x is the camera's horizontal heading."""
    _, down, forward = R_frame_camera.T
    heading = forward - (forward @ up) * up
    if np.linalg.norm(heading) < _MIN_HORIZONTAL:
        # Straight down the top of the image lies ahead, straight up its bottom does.
        heading = down * (1. if forward @ up > 0 else -1.)
        heading = heading - (heading @ up) * up
    x = heading / np.linalg.norm(heading)
    return np.stack([x, np.cross(up, x), up], axis=1)


# --- how it moves ---------------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Limits:
    """What the robot can do: lengths of its linear (m/s, m/s^2) and angular (rad/s, rad/s^2) velocity vectors.

    Infinite accelerations make it follow at once. Linear and angular velocity are limited each on its own, direction
    kept.
    """

    linear_speed: float = 1.0
    angular_speed: float = 1.5
    linear_acceleration: float = 1.5
    angular_acceleration: float = 4.0

    def __post_init__(self) -> None:
        for name in ('linear_speed', 'angular_speed', 'linear_acceleration', 'angular_acceleration'):
            value = getattr(self, name)
            if not value > 0:
                raise ConfigurationError(f'{name} {value} is not positive')

    def clip(self, twist: np.ndarray) -> np.ndarray:
        """Shorten the halves of a twist [6] (linear, angular) to the speeds allowed."""
        return np.concatenate([_shorten(twist[:3], self.linear_speed), _shorten(twist[3:], self.angular_speed)])


class TwistDriver:
    """Drives a robot by velocity commands: integrates twists on SE(3) within limits.

    A twist [6] is (vx, vy, vz, wx, wy, wz) in base_link, m/s and rad/s. The first pose given after the start, and after
    `set_pose`, is the pose itself; each further one is a frame later. May be commanded from one thread and advanced
    from another.
    """

    def __init__(self, T_map_base: np.ndarray | None = None, limits: Limits | None = None,
                 timeout: float = COMMAND_TIMEOUT, clearance: Clearance | None = None) -> None:
        """Start at a pose [4, 4]; `limits` and `timeout` (seconds) may be changed while driving.

        `clearance`: known geometry in the map frame that the robot stays clear of; None: nothing is in the way.
        """
        if not timeout > 0:
            raise ConfigurationError(f'cmd_vel_timeout {timeout} is not a positive number of seconds')
        self.limits = limits or Limits()
        self.timeout = timeout
        self.clearance = clearance
        self._lock = threading.Lock()
        self.set_pose(np.eye(4) if T_map_base is None else T_map_base)

    @property
    def T_map_base(self) -> np.ndarray:
        """The pose of the last frame given, [4, 4]."""
        with self._lock:
            return self._pose.copy()

    @property
    def twist(self) -> np.ndarray:
        """The velocity [6] at the last frame given, in base_link."""
        with self._lock:
            return self._twist.copy()

    def set_pose(self, T_map_base: np.ndarray) -> None:
        """Put the robot at a pose [4, 4], standing still, without a command. ConfigurationError if it is not rigid."""
        if not is_rigid(T_map_base):
            raise ConfigurationError('the pose to put the robot at is not a rigid transform')
        with self._lock:
            self._pose = np.array(T_map_base, dtype=np.float64)
            self._twist = np.zeros(6)
            self._command = np.zeros(6)
            self._command_stamp = -math.inf
            self._unheeded = False
            self._at_pose = True

    def command(self, twist: Sequence[float] | np.ndarray, stamp: float) -> bool:
        """Take a velocity command [6] received at `stamp` seconds; False if it is not finite and so was ignored."""
        twist = np.asarray(twist, dtype=np.float64)
        if twist.shape != (6,):
            raise ValueError(f'a twist has 6 numbers, not shape {twist.shape}')
        if not (np.isfinite(twist).all() and math.isfinite(stamp)):
            return False
        with self._lock:
            self._command = twist
            self._command_stamp = stamp
            self._unheeded = True
        return True

    def advance(self, now: float, count: int, frame_rate: float) -> tuple[np.ndarray, np.ndarray]:
        """Give the next `count` frames: base poses in the map [count, 4, 4] and velocities in base_link [count, 6].

        `now` in seconds, of the clock that stamps commands. Whether the command still counts is decided here, once: a
        command within `timeout` of `now`, or that came since frames were asked for last, is held for all frames asked
        for, as nobody can know the one that follows it yet; else the robot brakes to a stand. (A single command counts
        for one block of frames, however much longer than `timeout` that is.)
        """
        if count < 1 or not frame_rate > 0:
            raise ValueError(f'cannot advance {count} frames at {frame_rate} frames per second')
        poses, twists = np.empty((count, 4, 4)), np.empty((count, 6))
        with self._lock:
            unheeded, self._unheeded = self._unheeded and self._command_stamp <= now, False
            fresh = unheeded or abs(now - self._command_stamp) <= self.timeout
            # Clipped here, so that limits changed since the command came hold for it too.
            wanted = self.limits.clip(self._command) if fresh else np.zeros(6)
            for i in range(count):
                if self._at_pose:
                    self._at_pose = False
                else:
                    self._step(wanted, 1. / frame_rate)
                poses[i], twists[i] = self._pose, self._twist
        return poses, twists

    def _step(self, wanted: np.ndarray, dt: float) -> None:
        """Move on by `dt` seconds towards the velocity `wanted` [6]."""
        if self.clearance is not None:
            wanted = np.concatenate([self._stoppable(wanted[:3], dt), wanted[3:]])
        linear, mean_linear = _ramp(self._twist[:3], wanted[:3], self.limits.linear_acceleration, dt)
        angular, mean_angular = _ramp(self._twist[3:], wanted[3:], self.limits.angular_acceleration, dt)
        T_next = self._pose @ se3_exp(dt * np.concatenate([mean_linear, mean_angular]))
        T_next[:3, :3] = _orthonormal(T_next[:3, :3])
        if self.clearance is not None:
            fraction = self.clearance.limit(self._pose, T_next)
            if fraction < 1.:
                # On the straight line between the two, as that is what was found to be clear.
                T_next[:3, 3] = self._pose[:3, 3] + fraction * (T_next[:3, 3] - self._pose[:3, 3])
                linear = fraction * linear
        self._pose, self._twist = T_next, np.concatenate([linear, angular])

    def _stoppable(self, linear: np.ndarray, dt: float) -> np.ndarray:
        """Shorten a velocity [3], reached within `dt`, so that the robot can brake before it touches anything."""
        wanted, a = float(np.linalg.norm(linear)), self.limits.linear_acceleration
        if wanted == 0. or math.isinf(a):
            return linear
        direction = linear / wanted
        now = max(0., float(self._twist[:3] @ direction))
        fastest = max(now, wanted)
        ahead = fastest * dt + fastest**2 / (2 * a)
        free = ahead * self.clearance.limit(self._pose, self._pose @ make_pose(translation=direction * ahead))
        return _shorten(linear, _stoppable_speed(now, free, a, dt))


def _stoppable_speed(now: float, free: float, deceleration: float, dt: float) -> float:
    """Give the speed v to have after `dt`, coming from the speed `now`, to stand still within `free` metres.

    The way of this step and of the braking after it: (now + v) dt / 2 + v^2 / 2a where v is less than now, at most
    v dt + v^2 / 2a where it is more.
    """
    half = deceleration * dt / 2
    slower = math.sqrt(max(0., half**2 + 2 * deceleration * (free - now * dt / 2))) - half
    if slower <= now:
        return max(0., slower)
    return max(now, math.sqrt(4 * half**2 + 2 * deceleration * free) - 2 * half)


def _shorten(vector: np.ndarray, length: float) -> np.ndarray:
    # Scaled first, so that the square of a huge command does not overflow.
    largest = float(np.abs(vector).max())
    if largest == 0.:
        return vector
    norm = largest * float(np.linalg.norm(vector / largest))
    return vector * (length / norm) if norm > length else vector


def _ramp(start: np.ndarray, wanted: np.ndarray, acceleration: float, dt: float) -> tuple[np.ndarray, np.ndarray]:
    """Change a velocity [3] towards `wanted` for `dt` seconds: the velocity reached and the mean on the way."""
    change = wanted - start
    needed = float(np.linalg.norm(change)) / acceleration
    if needed > dt:
        reached = start + change * (dt / needed)
        return reached, (start + reached) / 2
    return wanted, wanted - change * (needed / (2 * dt))


def _orthonormal(R: np.ndarray) -> np.ndarray:
    """Take the rounding of many products off a rotation: one Newton step towards the nearest orthonormal matrix."""
    return R @ (1.5 * np.eye(3) - 0.5 * R.T @ R)
