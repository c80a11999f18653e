# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Text files of numbers, and TUM's among them: a time, a position and a quaternion a line."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from inspatio_ros.errors import TrajectoryError
from inspatio_ros.geometry import is_rigid, pose_from_quaternion, quaternion_xyzw

#: A quaternion whose length differs from 1 by more than this is a fault of the file, not of its rounding.
QUATERNION_TOLERANCE = 1e-2

TUM_COLUMNS = 't tx ty tz qx qy qz qw'

#: A line of numbers with its place in the file, counted from 1.
Row = tuple[int, list[float]]


def read_tum(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Read camera-to-world poses: times float64 [N] seconds, rising, and T_world_camera float64 [N, 4, 4].

    Raises TrajectoryError naming the file and the line that is wrong.
    """
    path = Path(path)
    return tum_poses(path, read_rows(path))


def read_rows(path: Path) -> list[Row]:
    """Read the numbers of each line, with its number; comments and blank lines are left out."""
    try:
        text = path.read_text(encoding='utf-8-sig')
    except FileNotFoundError:
        raise TrajectoryError(f'{path}: there is no such trajectory file') from None
    except UnicodeDecodeError:
        raise TrajectoryError(f'{path} line 1: this is not a text file') from None
    except OSError as error:
        raise TrajectoryError(f'{path} cannot be read: {error.strerror or error}') from error
    rows = []
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split('#', 1)[0].split()
        if words:
            rows.append((number, [_number(path, number, word) for word in words]))
    if not rows:
        raise TrajectoryError(f'{path} line 1: the file is empty; it should hold three text lines, 4x4 matrices or TUM')
    return rows


def _number(path: Path, line: int, word: str) -> float:
    try:
        value = float(word)
    except ValueError:
        raise TrajectoryError(f'{path} line {line}: {word!r} is not a number') from None
    if not math.isfinite(value):
        raise TrajectoryError(f'{path} line {line}: {word} is not a finite number')
    return value


def is_unit_quaternion(quaternion: Sequence[float]) -> bool:
    """Say whether a quaternion has the length 1, to what a file's digits allow."""
    return abs(math.hypot(*quaternion) - 1.) <= QUATERNION_TOLERANCE


def check_width(path: Path, line: int, row: list[float], width: int, what: str) -> None:
    """Raise TrajectoryError unless a line holds `width` numbers; `what` says what they are."""
    if len(row) != width:
        raise TrajectoryError(f'{path} line {line}: {len(row)} numbers instead of {width} ({what})')


def tum_poses(path: Path, rows: list[Row]) -> tuple[np.ndarray, np.ndarray]:
    """Turn the lines of a TUM file into times [N] and poses [N, 4, 4]."""
    times, poses = [], []
    for line, row in rows:
        check_width(path, line, row, 8, TUM_COLUMNS)
        if times and row[0] <= times[-1]:
            raise TrajectoryError(f'{path} line {line}: time {row[0]} is not after {times[-1]}, the one before it')
        if not is_unit_quaternion(row[4:]):
            raise TrajectoryError(f'{path} line {line}: the quaternion has length {math.hypot(*row[4:]):.6g}, not 1')
        times.append(row[0])
        poses.append(pose_from_quaternion(row[1:4], row[4:]))
    return np.array(times), np.array(poses)


def write_tum(path: str | Path, times: np.ndarray, T_world_camera: np.ndarray) -> None:
    """Write poses [N, 4, 4] at `times` [N] seconds as TUM lines, so that reading gives the very same numbers.

    The file appears whole or not at all. Raises TrajectoryError where a pose is not rigid, times do not rise, or the
    place is not writable.
    """
    path = Path(path)
    times, poses = np.asarray(times, dtype=np.float64), np.asarray(T_world_camera, dtype=np.float64)
    if poses.shape != (len(times), 4, 4):
        raise TrajectoryError(f'{path}: {len(times)} times do not go with poses of shape {poses.shape}')
    lines = [f'# {TUM_COLUMNS} (camera to world, OpenCV optical axes, metres, seconds)']
    for i, (time, T) in enumerate(zip(times, poses, strict=True)):
        if not is_rigid(T):
            raise TrajectoryError(f'{path}: pose {i} is not a rigid transform')
        if not math.isfinite(time) or i > 0 and time <= times[i - 1]:
            raise TrajectoryError(f'{path}: the time of pose {i}, {time}, is not after the one before it')
        lines.append(' '.join(repr(float(v)) for v in (time, *T[:3, 3], *quaternion_xyzw(T))))
    _write_whole(path, '\n'.join(lines) + '\n')


def _write_whole(path: Path, text: str) -> None:
    temporary = path.with_name(f'.{path.name}.{os.getpid()}')
    try:
        temporary.write_text(text, encoding='utf-8')
        os.replace(temporary, path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise TrajectoryError(f'{path} cannot be written: {error.strerror or error}') from error
