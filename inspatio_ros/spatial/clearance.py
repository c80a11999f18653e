# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Known geometry that a robot does not drive through.

The robot is an upright cylinder. Points within its band of heights above the floor are obstacles; seen along `up`
they are points of a plane, the robot is a disc there, and touching is a question of distances in that plane.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from inspatio_ros.errors import ConfigurationError
from inspatio_ros.geometry import lift

if TYPE_CHECKING:
    from inspatio_ros.reference.base import Reference
    from inspatio_ros.spatial.motion import StartFrame

#: Heights above the floor, metres, in which things are in a robot's way: over carpets and noise, under lamps.
HEIGHT_BAND = (0.15, 1.5)
ROBOT_RADIUS = 0.25
#: Edge of the cells, metres, that keep one obstacle point each; far below any robot's radius.
_CELL = 0.02
#: One frame for every so many metres that the camera went, or degrees that it turned, is looked at, so that two of them
#: see a surface however long the recording is; but so many at least, and at most.
_WAY, _TURN, _LEAST_FRAMES, MAX_FRAMES = 0.5, 20., 16, 160
#: Kept between robot and obstacle, metres, so that rounding never makes a touch a crossing.
_SKIN = 1e-4
#: What is this little above the camera, metres, is still in its way.
_HEADROOM = 0.1


def clearance_of(reference: Reference, start: StartFrame, radius: float = ROBOT_RADIUS) -> Clearance:
    """Give the clearance, in the map frame, of a robot that starts so in a recording.

    Obstacles reach from above the floor to 1.5 m, or to just over the camera where that is higher, wherever on the
    robot base_link is taken to be.
    """
    points = start.to_map(points_from_reference(reference))
    floor = estimate_floor(points, np.array([0., 0., 1.]))
    camera_height = float((start.T_map_base @ start.T_base_camera)[2, 3]) - floor
    low, high = HEIGHT_BAND
    return Clearance(points, radius=radius, height_band=(low, max(high, camera_height + _HEADROOM)), floor=floor)


class Clearance:
    """Says how far a robot may go before it touches known points.

    Points, `up` and the poses asked about are in one frame (the node uses the map). Obstacles are points: a surface
    whose points are further apart than the robot is wide does not hold it.
    """

    def __init__(self, points: np.ndarray, up: np.ndarray = (0., 0., 1.), radius: float = ROBOT_RADIUS,
                 height_band: tuple[float, float] = HEIGHT_BAND, floor: float | None = None) -> None:
        """Take points [N, 3] metres (rows with NaN are left out) as the known geometry.

        `up` [3] against gravity; `radius` of the robot, metres; `height_band` (low, high) metres above `floor`, the
        coordinate of the floor along `up` (None: estimated from the points).
        """
        low, high = height_band
        if not (radius > 0 and math.isfinite(radius)):
            raise ConfigurationError(f'robot radius {radius} is not a positive number of metres')
        if not low < high:
            raise ConfigurationError(f'height band {low} to {high} metres holds nothing')
        points = np.asarray(points, dtype=np.float64).reshape(-1, 3)
        points = points[np.isfinite(points).all(axis=1)]
        up = np.asarray(up, dtype=np.float64) / np.linalg.norm(up)
        self.radius = radius
        self.floor = estimate_floor(points, up) if floor is None else floor
        self._plane = _plane_axes(up)
        height = points @ up - self.floor
        self.obstacles = thin(points[(height >= low) & (height <= high)] @ self._plane.T, _CELL)
        from scipy.spatial import cKDTree
        self._tree = cKDTree(self.obstacles) if len(self.obstacles) else None

    def distance(self, positions: np.ndarray) -> np.ndarray:
        """Give the horizontal distance [...] in metres from positions [..., 3] to the nearest obstacle; inf if none."""
        flat = np.asarray(positions, dtype=np.float64) @ self._plane.T
        return np.full(flat.shape[:-1], np.inf) if self._tree is None else self._tree.query(flat)[0]

    def limit(self, T_base0: np.ndarray, T_base1: np.ndarray) -> float:
        """Give the fraction (0 to 1) of the straight way between two poses [4, 4] that the robot may go.

        The way is checked as a whole, not at its ends. Turning is always allowed; so is moving away from what is
        touched already.
        """
        if self._tree is None:
            return 1.
        start = self._plane @ T_base0[:3, 3]
        way = self._plane @ T_base1[:3, 3] - start
        length = math.hypot(*way)
        if length == 0.:
            return 1.
        reach = self.radius + _SKIN
        near = self._tree.query_ball_point(start + 0.5 * way, reach + 0.5 * length)
        if not near:
            return 1.
        return _first_contact(self.obstacles[near] - start, way / length, reach, length) / length


def _first_contact(points: np.ndarray, direction: np.ndarray, reach: float, length: float) -> float:
    """Give how far a disc of radius `reach` goes from the origin along `direction` [2] before it touches points [N, 2].

    A disc touches a point where its centre is within `reach`: along @ along is the part of the point's distance ahead
    of the disc, `aside` the part beside its way (the closed form of a ray entering a circle).
    """
    along = points @ direction
    aside = points @ np.array([-direction[1], direction[0]])
    half_chord_squared = reach**2 - aside**2
    hit = (along > 0) & (half_chord_squared > 0)
    if not hit.any():
        return length
    enter = along[hit] - np.sqrt(half_chord_squared[hit])
    return float(np.clip(enter.min(), 0., length))


def _plane_axes(up: np.ndarray) -> np.ndarray:
    """Give two unit vectors [2, 3] that span the plane across `up`."""
    first = np.cross(up, np.eye(3)[int(np.argmin(np.abs(up)))])
    first /= np.linalg.norm(first)
    return np.stack([first, np.cross(up, first)])


def estimate_floor(points: np.ndarray, up: np.ndarray, thickness: float = 0.05, search: float = 0.5) -> float:
    """Estimate the floor's coordinate along `up` [3] from points [N, 3]: the fullest layer near the lowest points.

    Layers are `thickness` metres; those within `search` metres above the lowest hundredth of the points count, as noise
    lies below floors. 0 without points.
    """
    height = points @ np.asarray(up, dtype=np.float64)
    if len(height) == 0:
        return 0.
    lowest = float(np.percentile(height, 1.))
    near = height[(height >= lowest - thickness) & (height <= lowest + search)]
    count, edges = np.histogram(near, bins=max(1, round((search + thickness) / thickness)))
    fullest = int(np.argmax(count))
    return float(np.median(near[(near >= edges[fullest]) & (near <= edges[fullest + 1])]))


def thin(points: np.ndarray, cell: float, min_count: int = 1) -> np.ndarray:
    """Keep the first of the points [N, D] in each cell of edge `cell` that holds at least `min_count` of them."""
    if len(points) == 0:
        return points
    cells = np.floor(points / cell).astype(np.int64)
    _, first, count = np.unique(cells, axis=0, return_index=True, return_counts=True)
    return points[np.sort(first[count >= min_count])]


def points_from_reference(reference: Reference, max_frames: int = MAX_FRAMES, stride: int = 4,
                          voxel: float = 0.05, max_depth: float = 8., min_frames: int = 2) -> np.ndarray:
    """Fuse a recording's depth into sparse world points float64 [N, 3], metres.

    At most `max_frames` frames spread over the camera's way, every `stride`-th pixel both ways, depth up to
    `max_depth`. One point stays per voxel of edge `voxel` metres, where at least `min_frames` frames (or all, if the
    recording has fewer) saw something: what one frame alone saw is noise at a depth edge, or has moved on.
    """
    chosen = _spread_over_the_way(reference.T_world_camera, max_frames)
    seen = [_frame_points(reference, int(i), stride, voxel, max_depth) for i in chosen]
    # Each frame gives a voxel at most one point, so the points of a voxel are the frames that saw it.
    return thin(np.concatenate(seen), voxel, min(min_frames, len(chosen)))


def _spread_over_the_way(T_world_camera: np.ndarray, most: int) -> np.ndarray:
    """Choose frames of poses [N, 4, 4], evenly over how far the camera went and turned."""
    ways = np.linalg.norm(np.diff(T_world_camera[:, :3, 3], axis=0), axis=1)
    # The trace of a relative rotation is 1 + 2 cos(angle).
    traces = (T_world_camera[:-1, :3, :3] * T_world_camera[1:, :3, :3]).sum(axis=(1, 2))
    turns = np.degrees(np.arccos(((traces - 1.) / 2.).clip(-1., 1.)))
    # A little for each frame, so that a camera that stands still is looked through all along.
    way = np.concatenate([[0.], np.cumsum(ways / _WAY + turns / _TURN + 1e-6)])
    count = min(most, len(way), max(_LEAST_FRAMES, math.ceil(way[-1]) + 1))
    return np.unique(np.abs(way[:, None] - np.linspace(0., way[-1], count)).argmin(axis=0))


def _frame_points(reference: Reference, index: int, stride: int, voxel: float, max_depth: float) -> np.ndarray:
    frame = reference.frame(index)
    points = lift(frame.z_depth, reference.camera, frame.T_world_camera)[::stride, ::stride]
    z = frame.z_depth[::stride, ::stride]
    with np.errstate(invalid='ignore'):
        known = (z > 0) & (z <= max_depth)
    return thin(points[known], voxel)
