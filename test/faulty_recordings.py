# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Recordings, and weights, with one fault each, and the words that every command and the node must find for it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from small_recording import HEIGHT, WIDTH, write_wall

from inspatio_ros.star.checkpoint import packaged_folder


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:path.stat().st_size // 2])


def _other_depth(folder: Path) -> None:
    cv2.imwrite(str(folder / 'depth' / '000002.png'), np.full((HEIGHT // 2, WIDTH // 2), 2000, np.uint16))


def _poses(folder: Path, change: Callable[[list[str]], list[str]]) -> None:
    """Change the lines of the trajectory; the first is a comment."""
    path = folder / 'trajectory.txt'
    path.write_text('\n'.join(change(path.read_text().splitlines())) + '\n')


def _lose_field(folder: Path) -> None:
    path = folder / 'intrinsics.json'
    path.write_text(json.dumps({name: value for name, value in json.loads(path.read_text()).items() if name != 'fy'}))


def _one_frame(folder: Path) -> None:
    for name in ('000001.png', '000002.png'):
        (folder / 'rgb' / name).unlink()
        (folder / 'depth' / name).unlink()
    _poses(folder, lambda lines: lines[:2])


# What is done to a good recording, and what must be said then.
FAULTS: dict[str, tuple[Callable[[Path], None], str]] = {
    'no such path': (shutil.rmtree, 'there is no such folder; name a folder of RGB-D frames or "sample"'),
    'empty folder': (lambda f: [shutil.rmtree(f), f.mkdir()], 'is empty; it should hold rgb/, depth/'),
    'truncated image': (lambda f: _cut(f / 'rgb' / '000001.png'), 'rgb/000001.png is truncated'),
    'depth of another size': (_other_depth, 'depth/000002.png: the depth is 32x24, but intrinsics.json says 64x48'),
    'fewer poses than frames': (lambda f: _poses(f, lambda lines: lines[:-1]),
                                'trajectory.txt has 2 poses for 3 frames'),
    'NaN in a pose': (lambda f: _poses(f, lambda lines: [*lines[:2], '0.5 nan 0 0 0 0 0 1', *lines[3:]]),
                      'trajectory.txt line 3: nan is not a finite number'),
    'non-rigid pose': (lambda f: _poses(f, lambda lines: [*lines[:2], '0.5 0.1 0 0 0 0 0 2', *lines[3:]]),
                       'trajectory.txt line 3: the quaternion has length 2, not 1'),
    'intrinsics missing a field': (_lose_field, "intrinsics.json: the field 'fy' is missing"),
    'a sequence of one frame': (_one_frame, 'holds a sequence of one frame; a recording needs at least two'),
}


def write_faulty(folder: Path, fault: str) -> Path:
    """Write a recording with a fault below a folder; give its path."""
    recording = folder / 'recording'
    recording.mkdir()
    FAULTS[fault][0](write_wall(recording))
    return recording


def write_truncated_weights(folder: Path) -> Path:
    """Write nano's weights with a transformer that was cut short; give their folder."""
    weights = folder / 'weights'
    weights.mkdir()
    for path in packaged_folder('nano').iterdir():
        (weights / path.name).write_bytes(path.read_bytes())
    _cut(weights / 'transformer.safetensors')
    return weights
