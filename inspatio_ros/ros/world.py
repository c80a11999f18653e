# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What the node shows: a simulator, a robot in it, and the frames that come of the two."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from inspatio_ros.block import Block, BlockStream
from inspatio_ros.geometry import invert
from inspatio_ros.reference.base import Reference
from inspatio_ros.ros.drive import Drive, OdometryDrive, TwistDrive
from inspatio_ros.ros.parameters import Settings
from inspatio_ros.simulator import WorldSimulator
from inspatio_ros.spatial.motion import StartFrame, start_frame
from inspatio_ros.spatial.odometry import OdometryLimits

#: Position (x, y, z) and quaternion (x, y, z, w), as messages hold them.
PoseTuple = tuple[tuple[float, float, float], tuple[float, float, float, float]]

#: Frames of a moving recording that are read before it is shown: all of the sample's.
_READ_AHEAD = 48


def pose_tuples(T: np.ndarray) -> list[PoseTuple]:
    """Turn transforms [F, 4, 4] into what messages hold, all at once: one by one it would cost the executor's time."""
    quaternions = Rotation.from_matrix(T[:, :3, :3]).as_quat(canonical=True)
    return list(zip(map(tuple, T[:, :3, 3].tolist()), map(tuple, quaternions.tolist()), strict=True))


@dataclass(frozen=True)
class Frame:
    """One frame to be shown. `block` is None where nobody listened and no image was made.

    `periods`: how many frame periods after the one before it is due. `planned`: the monotonic clock, seconds, when its
    pose was decided. `index`: which frame of `block` it is, which may be a part of the one that was planned; `count`:
    frames that were planned together. `odom_pose`: the base in the odometry's frame. See Plan for the rest.
    """

    T_map_base: np.ndarray
    T_map_odom: np.ndarray
    odom_pose: PoseTuple
    twist: np.ndarray
    stamp: int | None
    periods: int
    planned: float
    block: Block | None
    index: int
    count: int

    @property
    def age(self) -> float:
        """Seconds since its pose was decided."""
        return time.monotonic() - self.planned


@dataclass
class World:
    """What the worker owns: the simulator, where the robot starts in it, and how it is driven.

    `now` gives the node's clock in seconds; `frame_rate` is that of the frames shown.
    """

    simulator: WorldSimulator
    start: StartFrame
    drive: Drive
    frame_rate: float
    overload: str
    now: Callable[[], float]

    @property
    def block_seconds(self) -> float:
        """Seconds that a block's frames are shown for."""
        return self.simulator.frames_in_next_block() / self.frame_rate

    def make(self, heard: bool, stride: int) -> Iterator[list[Frame]] | None:
        """Make the next block's frames, in parts as they are decoded; without images, all at once, if not `heard`.

        None if the drive has nothing to go by. All parts must be taken before the next block, unless `reset` is first.
        """
        planned = time.monotonic()
        plan = self.drive.plan(self.simulator.frames_in_next_block(), self.now(), stride)
        if plan is None:
            return None
        odom_poses, count = pose_tuples(invert(plan.T_map_odom) @ plan.T_map_base), len(plan.T_map_base)

        def frame(i: int, block: Block | None, index: int) -> Frame:
            return Frame(plan.T_map_base[i], plan.T_map_odom, odom_poses[i], plan.twists[i],
                         None if plan.stamps is None else int(plan.stamps[i]), stride, planned, block, index, count)
        if not heard:
            return iter([[frame(i, None, i) for i in range(count)]])
        return self._parts(self.simulator.stream(*self._seen_from(plan.T_map_base, plan.elapsed)), frame)

    def _parts(self, stream: BlockStream, frame: Callable[[int, Block, int], Frame]) -> Iterator[list[Frame]]:
        done, foreseen = 0, self._look_ahead()
        for block in stream:
            yield [frame(done + index, block, index) for index in range(len(block))]
            done += len(block)
            # Odometry that came meanwhile may reach to the end of the coming block now.
            foreseen = foreseen or self._look_ahead()

    def _look_ahead(self) -> bool:
        """Have the coming block's render made meanwhile, if the drive knows its poses already; say whether it does."""
        coming = self.drive.foresee(self.simulator.frames_in_next_block()) if self.simulator.looks_ahead else None
        if coming is not None:
            self.simulator.prepare(*self._seen_from(*coming))
        return coming is not None

    def _seen_from(self, T_map_base: np.ndarray, elapsed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Give the camera's poses in the recording's world, and its times."""
        return self.start.camera_poses(T_map_base), self.simulator.reference.times[0] + elapsed

    def reset(self) -> None:
        """Go back to the start and draw from the seed anew."""
        self.drive.reset()
        self.simulator.reset()


def open_world(settings: Settings, now: Callable[[], float]) -> World:
    """Open the recording, load the generator, and warm both up; takes seconds, and is done by the worker's thread.

    `now` gives the node's clock in seconds. Raises InspatioError with what is missing.
    """
    from inspatio_ros.reference import open_reference
    reference = open_reference(settings.reference)
    simulator = WorldSimulator(
        reference, settings.generator, settings.width or None, settings.height or None, settings.seed, settings.device,
        settings.fill, settings.weights or None, settings.max_views, settings.frames_per_block or None,
        settings.speed, texture=settings.texture)
    start = start_frame(reference.T_world_camera[0], reference.up, settings.mount, settings.mount_height)
    frame_rate = settings.frame_rate or simulator.frame_rate
    _read_ahead(reference)
    drive = _open_drive(settings, simulator, start, frame_rate)
    simulator.warm_up()
    return World(simulator, start, drive, frame_rate, settings.overload, now)


def _read_ahead(reference: Reference) -> None:
    """Read the frames that a moving recording shows first, so that it does not stutter before it is known.

    The first ones last, as a recording keeps those read most recently. (Each of the sample's takes a quarter of a
    second of processor time to cast, and it shows twelve a second.)
    """
    if not reference.is_static:
        for index in reversed(range(min(len(reference), _READ_AHEAD))):
            reference.frame(index)


def _open_drive(settings: Settings, simulator: WorldSimulator, start: StartFrame, frame_rate: float) -> Drive:
    if settings.drive == 'odometry':
        limits = OdometryLimits(linear_speed=settings.odometry_max_speed)
        return OdometryDrive(start.T_map_base, frame_rate, settings.overload, limits)
    clearance = None
    if settings.clearance_enabled:
        from inspatio_ros.spatial.clearance import clearance_of
        clearance = clearance_of(simulator.reference, start, settings.clearance_radius)
    return TwistDrive(start.T_map_base, frame_rate, settings.limits, settings.cmd_vel_timeout, clearance)
