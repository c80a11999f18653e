# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Two ways to be driven behind one interface: by velocity commands, or along the odometry received.

Neither knows ROS. Messages come in from the executor's thread, plans are asked for by the worker's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from inspatio_ros.geometry import invert
from inspatio_ros.spatial.clearance import Clearance
from inspatio_ros.spatial.motion import Limits, TwistDriver
from inspatio_ros.spatial.odometry import NANOSECONDS, OdometryAligner, OdometryLimits, OdometryPath, PushStatus


@dataclass(frozen=True)
class Plan:
    """Where the robot is in each frame of the next block.

    `T_map_base` float64 [F, 4, 4]; `T_map_odom` float64 [4, 4], of all of them; `twists` float64 [F, 6] in base_link
    (zeros where nobody knows); `elapsed` float64 [F] seconds of scene time since the start; `stamps` int64 [F]
    nanoseconds that the frames carry, None if they are stamped when they are shown.
    """

    T_map_base: np.ndarray
    T_map_odom: np.ndarray
    twists: np.ndarray
    elapsed: np.ndarray
    stamps: np.ndarray | None


class Drive(Protocol):
    """Says where the robot is in the frames to come."""

    def plan(self, count: int, now: float, stride: int = 1) -> Plan | None:
        """Plan the next `count` frames; None if nobody can know them yet.

        `now` is the node's clock in seconds; with `stride` n only every n-th frame is planned.
        """

    def foresee(self, count: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Give `T_map_base` [F, 4, 4] and `elapsed` [F] of the coming plan, if nothing will change them."""

    def move_to(self, T_map_base: np.ndarray, T_odom_base: np.ndarray | None = None) -> None:
        """Go on from another pose [4, 4]; `T_odom_base` [4, 4] is where odometry was last said to be, None: nowhere."""

    def resume(self) -> None:
        """Go on after a pause, from where the robot was."""

    def reset(self) -> None:
        """Go back to the start, in space and in scene time."""


class TwistDrive:
    """Interactive: the next block's poses are predicted from the newest command."""

    def __init__(self, T_map_base: np.ndarray, frame_rate: float, limits: Limits, timeout: float,
                 clearance: Clearance | None = None) -> None:
        self._start, self._frame_rate = T_map_base, frame_rate
        self._driver = TwistDriver(T_map_base, limits, timeout, clearance)
        self.reset()

    def command(self, twist: Sequence[float] | np.ndarray, now: float) -> bool:
        """Take a velocity command [6]; False if it is not finite and so was ignored."""
        return self._driver.command(twist, now)

    def configure(self, limits: Limits, timeout: float) -> None:
        """Change the limits while driving."""
        self._driver.limits, self._driver.timeout = limits, timeout

    def plan(self, count: int, now: float, stride: int = 1) -> Plan:
        """Plan the next `count` frames from the newest command."""
        poses, twists = self._driver.advance(now, count, self._frame_rate / stride)
        elapsed = self._elapsed + np.arange(count) * stride / self._frame_rate
        self._elapsed = float(elapsed[-1]) + stride / self._frame_rate
        return Plan(poses, self._T_map_odom, twists, elapsed, None)

    def foresee(self, count: int) -> None:
        """Say nothing: the newest command decides, and it may still come."""

    def move_to(self, T_map_base: np.ndarray, T_odom_base: np.ndarray | None = None) -> None:
        """Go on from another pose; the odometry does not jump, the map moves under it (REP 105).

        It goes on from `T_odom_base`, which may lie before what is planned already; None: from the last pose planned.
        """
        if T_odom_base is None:
            T_odom_base = invert(self._T_map_odom) @ self._driver.T_map_base
        self._driver.set_pose(T_map_base)
        self._T_map_odom = T_map_base @ invert(T_odom_base)

    def resume(self) -> None:
        """Forget the command of before the pause, and stand."""
        self._driver.set_pose(self._driver.T_map_base)

    def reset(self) -> None:
        """Go back to the start."""
        self._driver.set_pose(self._start)
        self._T_map_odom = np.eye(4)
        self._elapsed = 0.


class OdometryDrive:
    """Exact: frames lie on the path received and carry the stamps of their samples."""

    def __init__(self, T_map_base: np.ndarray, frame_rate: float, overload: str,
                 limits: OdometryLimits | None = None) -> None:
        self._start = T_map_base
        self._path = OdometryPath(frame_rate, overload, limits)
        self._aligner = OdometryAligner(T_map_base)
        self._realign = False
        self._T_map_base = T_map_base
        self._first_stamp: int | None = None

    @property
    def dropped(self) -> int:
        """Frames that were due but never given."""
        return self._path.dropped

    @property
    def newest_stamp(self) -> int | None:
        """Stamp of the newest pose, nanoseconds."""
        return self._path.newest_stamp

    @property
    def lag(self) -> float:
        """Seconds between the newest pose and the next frame to be planned; 0 if it is still to come."""
        return self._path.lag

    def push(self, stamp: int, position: Sequence[float], orientation: Sequence[float]) -> PushStatus:
        """Take a pose of the base in odom: metres, quaternion (x, y, z, w), nanoseconds; say what became of it."""
        status = self._path.push_message(stamp, position, orientation)
        if status is PushStatus.RESTARTED:
            self._realign = True
        return status

    def plan(self, count: int, now: float, stride: int = 1) -> Plan | None:
        """Plan the next `count` frames once the path covers them all."""
        if self._realign:
            self._realign = False
            # The start itself, wherever `move_to` had laid the pose before.
            self._aligner.reset(self._start)
            self._first_stamp = None
        taken = self._path.take(count)
        if taken is None:
            return None
        stamps, T_odom_base = taken
        poses = self._aligner.align(T_odom_base)
        self._T_map_base = poses[-1]
        if self._first_stamp is None:
            self._first_stamp = int(stamps[0])
        elapsed = (stamps - self._first_stamp) / NANOSECONDS
        return Plan(poses, self._aligner.T_map_odom, np.zeros((count, 6)), elapsed, stamps)

    def foresee(self, count: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Give the poses and times of the coming plan once the path covers them."""
        coming = self._path.foresee(count)
        if coming is None or self._realign or self._first_stamp is None or self._aligner.T_map_odom is None:
            return None
        stamps, T_odom_base = coming
        return self._aligner.align(T_odom_base), (stamps - self._first_stamp) / NANOSECONDS

    def move_to(self, T_map_base: np.ndarray, T_odom_base: np.ndarray | None = None) -> None:
        """Lay the next pose of the odometry here, whatever was shown before."""
        self._path.reset()
        self._aligner.reset(T_map_base)

    def resume(self) -> None:
        """Leave out what the robot drove meanwhile, and follow it from where it is now."""
        self._path.reset()

    def reset(self) -> None:
        """Lay the next pose of the odometry at the start."""
        self.move_to(self._start)
        self._first_stamp = None
