# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Trajectory files: the release's three text lines, 4x4 world-to-camera lines, and TUM.

Which kind a file is follows from what is in it. All three become `T_world_camera` (OpenCV optical axes), metres and
seconds. Text lines describe a motion relative to a recording's camera; the other two kinds hold poses in its world.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from inspatio_ros.errors import TrajectoryError
from inspatio_ros.geometry import interpolate, invert, is_rigid
from inspatio_ros.tum import TUM_COLUMNS, Row, check_width, is_unit_quaternion, read_rows, tum_poses

#: Frames per second of files that carry no times.
FRAME_RATE = 24.
#: Frames of a text trajectory whose angles ask for neither more nor fewer.
DEFAULT_FRAME_COUNT = 121
#: The release's bounds on the angle between two frames, degrees: slower is tedious, faster is jerky.
ANGLE_PER_FRAME = (0.3, 0.8)
#: Up to this many keys a text line is interpolated linearly.
MAX_LINEAR_KEYS = 3


@dataclass(frozen=True)
class Trajectory:
    """Camera poses in time: `times` float64 [N] seconds, rising; `T_world_camera` float64 [N, 4, 4]."""

    times: np.ndarray
    T_world_camera: np.ndarray

    def __len__(self) -> int:
        """Count the poses."""
        return len(self.times)


@dataclass(frozen=True)
class TextKeys:
    """The three lines of the release's text file; lengths may differ, each line is spread evenly over the whole time.

    `pitch` and `yaw` in degrees: positive pitch moves the camera up, looking down; positive yaw moves it left, looking
    right. `displacement` is the distance ahead of the point that is orbited; where both angle lines are 0 throughout it
    is the way the camera moves ahead instead (a zoom).
    """

    pitch: tuple[float, ...]
    yaw: tuple[float, ...]
    displacement: tuple[float, ...]

    @property
    def is_zoom(self) -> bool:
        """Whether nothing turns, so that `displacement` moves the camera."""
        return not any(self.pitch) and not any(self.yaw)

    @property
    def total_angle(self) -> float:
        """Degrees turned along the line that turns more."""
        return float(max(np.abs(np.diff(line)).sum() for line in (self.pitch, self.yaw)))


def read_trajectory(path: str | Path, frame_count: int | None = None, frame_rate: float = FRAME_RATE,
                    source_T_world_camera: np.ndarray | None = None, relative_to_source: bool = False,
                    rotation_only: bool = False, release: bool = False) -> Trajectory:
    """Read a trajectory file of any of the three kinds.

    `frame_count`: poses wanted; a pose file is resampled on SE(3) over its own duration. Without it a pose file gives
    exactly its own poses, and a text file as many as keep the angle between frames within `ANGLE_PER_FRAME`.
    `frame_rate`: frames per second of files without times.
    `source_T_world_camera` [N, 4, 4]: the recording's camera poses. A text trajectory starts at the first of them.
    `relative_to_source`: the file describes a motion relative to the recording's own, which runs forth and back as
    often as it takes: pose i is source[i] @ file[i].
    `rotation_only`: the camera turns but stays where it starts.
    `release`: text files exactly as the released code reads them: lines of more than three keys are smoothed and miss
    their keys, the first frame is not the source's, poses are composed in the inverse of the first source pose, and
    `rotation_only` leaves a zoom as it is.

    Raises TrajectoryError that names the file and the line.
    """
    path = Path(path)
    _check_options(path, frame_count, frame_rate, source_T_world_camera, relative_to_source)
    rows = read_rows(path)
    kind = _detect_kind(path, rows)
    if kind == 'text':
        keys = _text_keys(path, rows)
        count = frame_count or _default_frame_count(keys, source_T_world_camera if relative_to_source else None)
        poses = keyed_poses(keys, count, rotation_only, release)
        poses = compose_with_source(poses, source_T_world_camera, relative_to_source, release)
        return Trajectory(np.arange(count) / frame_rate, poses)
    times, poses = tum_poses(path, rows) if kind == 'tum' else _read_matrices(path, rows, frame_rate)
    if frame_count is not None:
        times, poses = resample(times, poses, frame_count)
    if rotation_only:
        poses[:, :3, 3] = poses[0, :3, 3]
    if relative_to_source:
        poses = source_T_world_camera[bounce_indices(len(source_T_world_camera), len(poses))] @ poses
    return Trajectory(times, poses)


# --- text lines: keys to poses --------------------------------------------------------------------------------------

def frame_count_bounds(keys: TextKeys) -> tuple[int, int] | None:
    """Give the fewest and the most frames that keep the angle between frames within `ANGLE_PER_FRAME`.

    None where nothing turns, so that any number will do. As in the release, `total_angle` stands for the motion.
    """
    slowest, fastest = ANGLE_PER_FRAME
    if keys.total_angle == 0:
        return None
    return math.ceil(keys.total_angle / fastest) + 1, math.floor(keys.total_angle / slowest) + 1


def _default_frame_count(keys: TextKeys, source: np.ndarray | None) -> int:
    wanted = DEFAULT_FRAME_COUNT if source is None else len(source)
    bounds = frame_count_bounds(keys)
    if bounds is None:
        return wanted
    fewest, most = bounds
    if source is None:
        wanted = min(wanted, most)
    return max(wanted, fewest)


def interpolate_keys(keys: Sequence[float], count: int, release: bool = False) -> np.ndarray:
    """Interpolate the keys of one text line at `count` points evenly over its length: float64 [count].

    Up to three keys: linear. More: a monotone cubic spline (PCHIP) through every key, which never leaves the range of
    the two keys it is between, so that a camera told to rest does rest. `release`: FITPACK's smoothing spline with its
    default smoothing (as large as the number of keys), which passes by its keys.
    """
    keys = np.asarray(keys, dtype=np.float64)
    at, key_at = np.linspace(0., 1., count), np.linspace(0., 1., len(keys))
    if len(keys) <= MAX_LINEAR_KEYS:
        return np.interp(at, key_at, keys)
    from scipy.interpolate import PchipInterpolator, UnivariateSpline
    if release:
        return UnivariateSpline(key_at, keys, k=3)(at)
    return PchipInterpolator(key_at, keys)(at)


def keyed_poses(keys: TextKeys, count: int, rotation_only: bool = False, release: bool = False) -> np.ndarray:
    """Give the camera poses [count, 4, 4] of a text trajectory, relative to the camera it starts from.

    The camera orbits the point (0, 0, r) ahead of it, its axis always through that point; in a zoom it moves to
    (0, 0, r). With `rotation_only` it stays at the origin.
    """
    pitch, yaw, r = (interpolate_keys(line, count, release) for line in (keys.pitch, keys.yaw, keys.displacement))
    if release:
        # The release keeps the ends of this line only, and rounds to single precision before it takes sines.
        r[0], r[-1] = keys.displacement[0], keys.displacement[-1]
        pitch, yaw, r = (line.astype(np.float32).astype(np.float64) for line in (pitch, yaw, r))
    if keys.is_zoom:
        poses = np.tile(np.eye(4), (count, 1, 1))
        if release or not rotation_only:
            poses[:, 2, 3] = r
        return poses
    return orbit_poses(np.radians(pitch), np.radians(yaw), np.zeros(count) if rotation_only else r)


def orbit_poses(pitch: np.ndarray, yaw: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """Give poses [N, 4, 4] on a sphere of `radius` [N] about (0, 0, radius), looking at it; `pitch`, `yaw` [N] radians.

    Rotation Ry(yaw) @ Rx(-pitch) in optical axes: positive pitch raises the camera (towards -y) and looks down.
    """
    sin_p, cos_p, sin_y, cos_y = np.sin(pitch), np.cos(pitch), np.sin(yaw), np.cos(yaw)
    zero = np.zeros_like(sin_p)
    forward = np.stack([cos_p * sin_y, sin_p, cos_p * cos_y], axis=-1)
    poses = np.tile(np.eye(4), (len(sin_p), 1, 1))
    poses[:, :3, 0] = np.stack([cos_y, zero, -sin_y], axis=-1)
    poses[:, :3, 1] = np.stack([-sin_p * sin_y, cos_p, -sin_p * cos_y], axis=-1)
    poses[:, :3, 2] = forward
    poses[:, :3, 3] = radius[:, None] * (np.array([0., 0., 1.]) - forward)
    return poses


def compose_with_source(poses: np.ndarray, source_T_world_camera: np.ndarray | None, relative_to_source: bool = False,
                        release: bool = False) -> np.ndarray:
    """Put poses [N, 4, 4] relative to a source camera into the world: first source pose @ pose, or source[i] @ pose[i].

    `release`: as released; the inverse of the first source pose where the pose itself belongs.
    """
    if source_T_world_camera is None:
        return poses
    source = np.asarray(source_T_world_camera, dtype=np.float64)
    moving = source[bounce_indices(len(source), len(poses))] if relative_to_source else None
    if not release:
        return (source[0] if moving is None else moving) @ poses
    to_first = invert(source[0])
    return to_first @ poses if moving is None else to_first @ moving @ to_first @ poses


def bounce_indices(source_count: int, target_count: int) -> list[int]:
    """Pick `target_count` of `source_count` frames: forth and back if those are too few, else spread evenly."""
    if target_count <= source_count:
        # In integers: the release's floor of a rounded fraction can be one short.
        steps = max(1, target_count - 1)
        return [i * (source_count - 1) // steps for i in range(target_count)]
    period = max(1, 2 * (source_count - 1))
    return [min(i % period, period - i % period) if source_count > 1 else 0 for i in range(target_count)]


def resample(times: np.ndarray, T_world_camera: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Resample poses [N, 4, 4] at `count` times evenly from the first to the last of `times` [N], along SE(3)."""
    if len(times) == 1:
        raise TrajectoryError(f'one pose cannot be resampled to {count}; give the trajectory a second pose')
    at = np.linspace(times[0], times[-1], count)
    before = np.clip(np.searchsorted(times, at, side='right') - 1, 0, len(times) - 2)
    fraction = (at - times[before]) / (times[before + 1] - times[before])
    poses = [interpolate(T_world_camera[i], T_world_camera[i + 1], f) for i, f in zip(before, fraction, strict=True)]
    return at, np.array(poses)


# --- files: lines to numbers ----------------------------------------------------------------------------------------

def _check_options(path: Path, frame_count: int | None, frame_rate: float, source: np.ndarray | None,
                   relative_to_source: bool) -> None:
    if frame_count is not None and frame_count < 1:
        raise TrajectoryError(f'{path}: {frame_count} frames were asked for; ask for at least 1')
    if not (math.isfinite(frame_rate) and frame_rate > 0):
        raise TrajectoryError(f'{path}: frame rate {frame_rate} is not positive')
    if relative_to_source and source is None:
        raise TrajectoryError(f'{path}: a trajectory relative to its source needs the poses of the recording')
    if source is not None and (np.ndim(source) != 3 or np.shape(source)[1:] != (4, 4) or len(source) == 0):
        raise TrajectoryError(f'{path}: source poses have shape {np.shape(source)}, not [N, 4, 4]')


def _detect_kind(path: Path, rows: list[Row]) -> str:
    """Tell 'tum', 'matrices' or 'text' from the numbers.

    Three lines of 8 or 16 numbers could be poses or keys of text: they are poses where most of them look like poses.
    """
    as_tum = sum(len(row) == 8 and is_unit_quaternion(row[4:]) for _, row in rows)
    as_matrix = sum(len(row) == 16 and is_rigid(np.reshape(row, (4, 4))) for _, row in rows)
    if len(rows) == 3:
        return 'tum' if as_tum >= 2 else 'matrices' if as_matrix >= 2 else 'text'
    for kind, width in (('tum', 8), ('matrices', 16)):
        if 2 * sum(len(row) == width for _, row in rows) >= len(rows):
            return kind
    line, row = rows[0]
    raise TrajectoryError(
        f'{path} line {line}: {len(row)} numbers in the first of {len(rows)} lines; a line holds 8 ({TUM_COLUMNS}) or '
        '16 (world-to-camera 4x4), or the file has exactly three lines (pitch, yaw, displacement)')


def _text_keys(path: Path, rows: list[Row]) -> TextKeys:
    pitch, yaw, displacement = (tuple(row) for _, row in rows)
    return TextKeys(pitch, yaw, displacement)


def _read_matrices(path: Path, rows: list[Row], frame_rate: float) -> tuple[np.ndarray, np.ndarray]:
    poses = []
    for line, row in rows:
        check_width(path, line, row, 16, 'a 4x4 world-to-camera matrix, row by row')
        T_camera_world = np.reshape(row, (4, 4))
        if not is_rigid(T_camera_world):
            raise TrajectoryError(f'{path} line {line}: the matrix is not a rotation with a translation')
        poses.append(invert(T_camera_world))
    return np.arange(len(poses)) / frame_rate, np.array(poses)
