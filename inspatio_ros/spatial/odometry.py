# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""From odometry to frames on the very path that was driven: alignment with the start, and sampling at the frame rate.

`odom` is the frame of the messages, `map` and `base` are those of spatial/motion.py. Stamps are integer nanoseconds.
"""

from __future__ import annotations

import enum
import math
import threading
from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from inspatio_ros.errors import ConfigurationError
from inspatio_ros.geometry import interpolate, invert, is_rigid, make_pose, pose_from_quaternion
from inspatio_ros.reference.transforms import NANOSECONDS

#: A quaternion whose length differs from 1 by more than this is not an orientation.
QUATERNION_TOLERANCE = 1e-2
#: What to do when frames are generated slower than they are due.
OVERLOADS = ('slow_down', 'drop')
#: Poses that are held.
MOST_POSES = 20_000


class OdometryAligner:
    """Moves an odometry frame so that the first pose aligned lies at the robot's start; later ones follow rigidly.

    Both frames have z up (REP 103), so they differ in place and heading alone: a robot whose first pose is tilted, on a
    ramp or in the air, is tilted at the start, and the map is not.
    """

    def __init__(self, T_map_base: np.ndarray) -> None:
        """`T_map_base` [4, 4]: where the first pose aligned shall be."""
        self._T_map_base = np.array(T_map_base, dtype=np.float64)
        self._T_map_odom: np.ndarray | None = None

    @property
    def T_map_odom(self) -> np.ndarray | None:
        """The alignment [4, 4], None before the first pose."""
        return self._T_map_odom

    def align(self, T_odom_base: np.ndarray) -> np.ndarray:
        """Take odometry poses [..., 4, 4] to the map; the first pose ever given fixes the alignment."""
        T_odom_base = np.asarray(T_odom_base, dtype=np.float64)
        if self._T_map_odom is None:
            self._T_map_odom = self._T_map_base @ invert(upright(T_odom_base.reshape(-1, 4, 4)[0]))
        return self._T_map_odom @ T_odom_base

    def reset(self, T_map_base: np.ndarray | None = None) -> None:
        """Forget the alignment; the next pose is put at `T_map_base` [4, 4], or at the start given before."""
        if T_map_base is not None:
            self._T_map_base = np.array(T_map_base, dtype=np.float64)
        self._T_map_odom = None


def upright(T: np.ndarray) -> np.ndarray:
    """Give a pose [4, 4] without its roll and pitch: its place, and where its x axis heads on the floor."""
    yaw = math.atan2(T[1, 0], T[0, 0])
    cosine, sine = math.cos(yaw), math.sin(yaw)
    return make_pose(np.array([[cosine, -sine, 0.], [sine, cosine, 0.], [0., 0., 1.]]), T[:3, 3])


class PushStatus(enum.Enum):
    """What became of an odometry pose."""

    #: It continues the path.
    ACCEPTED = 'accepted'
    #: It continues the path, but so many poses wait that the oldest and their frames are given up.
    FULL = 'full'
    #: It is further from the one before than the robot can have gone: the path starts anew from it.
    JUMPED = 'jumped'
    #: It comes too long after the one before to say what was between: the path starts anew from it.
    GAP = 'gap'
    #: Time went back so far that it was set back (a simulator's reset): everything starts anew from it.
    RESTARTED = 'restarted'
    #: Not after the one before: ignored.
    BACKWARDS = 'backwards'
    #: Not finite, or not an orientation: ignored.
    REFUSED = 'refused'

    @property
    def is_kept(self) -> bool:
        """Whether the pose is part of the path."""
        return self not in (PushStatus.BACKWARDS, PushStatus.REFUSED)


@dataclass(frozen=True)
class OdometryLimits:
    """What a path of odometry may look like.

    A step further than `linear_speed` (m/s) and `linear_slack` (m) allow for its time, or the angular pair (rad/s and
    rad), is a jump; the slack is for what a filter corrects at once. Poses more than `max_gap` seconds apart do not
    connect; a stamp more than `reset_after` seconds before the last one means that the clock was set back.
    """

    linear_speed: float = 30.
    linear_slack: float = 0.1
    angular_speed: float = 10.
    angular_slack: float = 0.2
    max_gap: float = 2.
    reset_after: float = 1.


class OdometryPath:
    """Poses received, sampled at the frame rate; at most `max_poses` are held.

    Frame k is due at first stamp + round(k / frame rate), so stamps are on one grid without drift, and strictly
    rising until the clock itself is set back. After a jump or a gap the frames go on at the first grid stamp that
    the new path covers: no frame shows a place between. A single stamp far ahead makes no gap: where the pose
    behind it goes on from those before it, it is left out again. (Up to `max_gap` ahead cannot be told from a pose
    that came late.) Alignment is not touched, so the camera goes where the odometry says it is; after `RESTARTED`
    the caller resets its aligner. May be pushed from one thread and taken from another.
    """

    def __init__(self, frame_rate: float, overload: str = 'slow_down', limits: OdometryLimits | None = None,
                 max_poses: int = MOST_POSES) -> None:
        """`overload`: 'slow_down' gives every frame while `max_poses` hold it; 'drop' skips to the newest block."""
        if not (frame_rate > 0 and math.isfinite(frame_rate)):
            raise ConfigurationError(f'frame rate {frame_rate} is not a positive number')
        if overload not in OVERLOADS:
            raise ConfigurationError(f'overload {overload!r} is unknown; choose one of {", ".join(OVERLOADS)}')
        if max_poses < 2:
            raise ConfigurationError(f'max_poses {max_poses} holds no path; give at least 2')
        # 1001 in the denominator: the film rates, 24000 / 1001 and its kin, are exact.
        self._period = NANOSECONDS / Fraction(frame_rate).limit_denominator(1001)
        self._overload = overload
        self._limits = limits or OdometryLimits()
        self._poses: deque[tuple[int, np.ndarray]] = deque(maxlen=max_poses)
        self._lock = threading.Lock()
        #: Of the newest pose ever, which outlives `reset`: a clock may be set back while nobody listens.
        self._newest: int | None = None
        self._forget()

    def _forget(self) -> None:
        self._poses.clear()
        #: The path before a gap, its next frame and its count of dropped ones, as long as one pose is all behind it.
        self._before_gap: tuple[deque[tuple[int, np.ndarray]], int, int] | None = None
        self._origin = 0
        self._next = 0
        self._started = False
        self._dropped = 0

    @property
    def dropped(self) -> int:
        """Frames that were due but never given, since the start or the last restart: behind, or where a path broke."""
        with self._lock:
            return self._confirmed()[2]

    @property
    def newest_stamp(self) -> int | None:
        """Stamp of the newest pose, nanoseconds; a pose behind a gap counts when another one follows it."""
        with self._lock:
            poses = self._confirmed()[0]
            return poses[-1][0] if poses else None

    @property
    def lag(self) -> float:
        """Seconds between the newest pose and the next frame due; 0 if it is still to come."""
        with self._lock:
            poses, following, _ = self._confirmed()
            return max(0, poses[-1][0] - self._stamp(following)) / NANOSECONDS if poses else 0.

    def reset(self) -> None:
        """Forget the path; the next pose starts another."""
        with self._lock:
            self._forget()

    def push_message(self, stamp: int, position: Sequence[float], orientation: Sequence[float]) -> PushStatus:
        """Add a pose as messages hold it: `position` (x, y, z) metres, `orientation` quaternion (x, y, z, w)."""
        if not (np.isfinite(position).all() and np.isfinite(orientation).all()):
            return PushStatus.REFUSED
        if abs(math.hypot(*orientation) - 1.) > QUATERNION_TOLERANCE:
            return PushStatus.REFUSED
        return self._push(stamp, pose_from_quaternion(np.asarray(position), np.asarray(orientation)))

    def push(self, stamp: int, T_odom_base: np.ndarray) -> PushStatus:
        """Add the pose [4, 4] of the base at `stamp` nanoseconds; say what became of it."""
        if not is_rigid(T_odom_base):
            return PushStatus.REFUSED
        return self._push(stamp, np.array(T_odom_base, dtype=np.float64))

    def _push(self, stamp: int, T_odom_base: np.ndarray) -> PushStatus:
        with self._lock:
            if self._was_no_gap(stamp, T_odom_base):
                (self._poses, self._next, self._dropped), self._before_gap = self._before_gap, None
            status = self._judge(stamp, T_odom_base)
            if not status.is_kept:
                return status
            before = (self._poses, self._next, self._dropped) if status is PushStatus.GAP else None
            if before is None:
                self._newest = stamp
            if status is PushStatus.RESTARTED:
                self._forget()
            elif status is not PushStatus.ACCEPTED:
                self._poses = deque(maxlen=self._poses.maxlen)
            self._before_gap = before
            if not self._started:
                self._started, self._origin = True, stamp
            full = len(self._poses) == self._poses.maxlen
            self._poses.append((stamp, T_odom_base))
            if status is not PushStatus.ACCEPTED or full:
                given_up = self._skip_to(self._poses[0][0])
                status = PushStatus.FULL if full and given_up else status
            return status

    def _confirmed(self) -> tuple[deque[tuple[int, np.ndarray]], int, int]:
        """Give the poses, the next frame and the frames dropped; those before a gap as long as it may be none."""
        return self._before_gap or (self._poses, self._next, self._dropped)

    def _was_no_gap(self, stamp: int, T_odom_base: np.ndarray) -> bool:
        """Say whether a pose is of the time before a gap, so that the one behind it had a stamp of another time."""
        if self._before_gap is None or stamp > self._poses[-1][0]:
            return False
        step = self._step(*self._before_gap[0][-1], stamp, T_odom_base)
        return step not in (PushStatus.GAP, PushStatus.RESTARTED)

    def _judge(self, stamp: int, T_odom_base: np.ndarray) -> PushStatus:
        if not self._poses:
            back = self._newest is not None and (self._newest - stamp) / NANOSECONDS > self._limits.reset_after
            return PushStatus.RESTARTED if back else PushStatus.ACCEPTED
        return self._step(*self._poses[-1], stamp, T_odom_base)

    def _step(self, last_stamp: int, last: np.ndarray, stamp: int, T_odom_base: np.ndarray) -> PushStatus:
        """Judge a pose by one before it."""
        seconds, limits = (stamp - last_stamp) / NANOSECONDS, self._limits
        if seconds <= 0:
            return PushStatus.RESTARTED if seconds < -limits.reset_after else PushStatus.BACKWARDS
        if seconds > limits.max_gap:
            return PushStatus.GAP
        way = float(np.linalg.norm(T_odom_base[:3, 3] - last[:3, 3]))
        # The trace of a relative rotation, 1 + 2 cos(angle), without multiplying the matrices out.
        turn = math.acos(min(1., max(-1., (float((last[:3, :3] * T_odom_base[:3, :3]).sum()) - 1.) / 2)))
        if (way > limits.linear_speed * seconds + limits.linear_slack
                or turn > limits.angular_speed * seconds + limits.angular_slack):
            return PushStatus.JUMPED
        return PushStatus.ACCEPTED

    def ready(self, count: int) -> bool:
        """Say whether the path covers the next `count` frames."""
        with self._lock:
            return self._covers(count)

    def take(self, count: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Give the next `count` frames once the path covers them all, else None.

        Stamps int64 [count] nanoseconds, and the base's poses in odom [count, 4, 4], interpolated on SE(3).
        """
        if count < 1:
            raise ValueError(f'cannot take {count} frames')
        with self._lock:
            if self._overload == 'drop':
                self._drop_backlog(count)
            if not self._covers(count):
                return None
            stamps, poses = self._sample(count)
            self._next += count
            # Frames are asked for in order, so what lies before the last one's pair of poses is done with.
            while len(self._poses) > 1 and self._poses[1][0] <= stamps[-1]:
                self._poses.popleft()
        return stamps, poses

    def foresee(self, count: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Give what `take` would give, and leave it where it is; None too if `take` might skip frames."""
        with self._lock:
            if not self._covers(count) or (self._overload == 'drop' and self._covers(2 * count)):
                return None
            return self._sample(count)

    def _sample(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Give stamps [count] and poses [count, 4, 4] of the next frames, which the path covers."""
        stamps = [self._stamp(self._next + i) for i in range(count)]
        known = list(self._poses)
        known_stamps = [stamp for stamp, _ in known]
        poses = []
        for stamp in stamps:
            at = bisect_right(known_stamps, stamp) - 1
            stamp0, T0 = known[at]
            if stamp != stamp0:
                stamp1, T1 = known[at + 1]
                T0 = interpolate(T0, T1, (stamp - stamp0) / (stamp1 - stamp0))
            poses.append(T0)
        return np.array(stamps, dtype=np.int64), np.array(poses)

    def _covers(self, count: int) -> bool:
        if self._before_gap is not None or not self._poses:
            return False
        return self._stamp(self._next + count - 1) <= self._poses[-1][0]

    def _drop_backlog(self, count: int) -> None:
        """Skip to the newest `count` frames if another whole block waits behind the next."""
        if not self._covers(2 * count):
            return
        newest = self._index(self._poses[-1][0] + 1) - 1
        self._dropped += newest + 1 - count - self._next
        self._next = newest + 1 - count

    def _skip_to(self, stamp: int) -> bool:
        """Give up the frames due before `stamp`, the first that is covered; say whether there were any."""
        index = self._index(stamp)
        if index <= self._next:
            return False
        self._dropped += index - self._next
        self._next = index
        return True

    def _stamp(self, index: int) -> int:
        """Give the stamp of frame `index`, rounded to the nearest nanosecond in integers."""
        numerator, denominator = self._period.numerator, self._period.denominator
        return self._origin + (2 * index * numerator + denominator) // (2 * denominator)

    def _index(self, stamp: int) -> int:
        """Give the first frame due at `stamp` or later."""
        index = max(0, (stamp - self._origin) * self._period.denominator // self._period.numerator)
        while self._stamp(index) < stamp:
            index += 1
        return index
