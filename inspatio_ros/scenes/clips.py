# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Clips to train and to measure on: a recording of a random scene, and true views from a path that leaves it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from inspatio_ros.geometry import PinholeCamera
from inspatio_ros.scenes.outdoors import random_outdoors
from inspatio_ros.scenes.paths import leave, random_path
from inspatio_ros.scenes.random_rooms import random_corridor, random_room
from inspatio_ros.scenes.raycast import Image, raycast_path
from inspatio_ros.scenes.scene import Scene

#: Looks at a scene from poses [F, 4, 4] at times [F], with samples x samples rays a pixel: `raycast_path`, or another
#: ray caster that gives the same.
Cast = Callable[[Scene, PinholeCamera, np.ndarray, np.ndarray, int], Image]

FRAME_RATE = 12.
#: Seeds that nothing is ever trained on: those of validation and of published figures.
HELD_OUT_SEEDS = range(0, 1000)
#: The least seed to train on; seeds from here on are for training only.
TRAIN_SEEDS_START = 1_000_000
#: How far a target path leaves the reference's path, in metres and radians.
LEAVE_DISTANCE, LEAVE_ANGLE = .5, np.radians(30.)


def random_scene(seed: int) -> Scene:
    """Draw a scene: a furnished room, a corridor or the outdoors; the same for the same seed."""
    rng = np.random.default_rng((seed, 1))
    kind = rng.random()
    if kind < .6:
        return random_room(rng)
    return random_corridor(rng) if kind < .75 else random_outdoors(rng)


def make_clip(seed: int, width: int, height: int, reference_frames: int, target_frames: int, samples: int = 2,
              frame_rate: float = FRAME_RATE, path: str = 'swing', scene: Scene | None = None,
              cast: Cast = raycast_path) -> dict[str, np.ndarray]:
    """Make the clip of a seed: what a camera recorded, and what another one would have seen at the same times.

    The target's frames are aligned with the middle of the reference's: target frame i has the time of reference frame
    `start` + i. `path` is the kind of the camera's path (scenes/paths.py), `scene` the seed's own if it is None.
    Returns image uint8 [F, H, W, 3], z_depth float32 [F, H, W], moving bool [F, H, W], T_world_camera
    float64 [F, 4, 4] and times [F], each under reference_... and target_...; `K` [3, 3]; and `start`.
    """
    if not 1 <= target_frames <= reference_frames:
        raise ValueError(f'{target_frames} target frames do not fit into {reference_frames} reference frames')
    scene, rng = random_scene(seed) if scene is None else scene, np.random.default_rng((seed, 2))
    focal = rng.uniform(.55, 1.) * width
    camera = PinholeCamera(focal, focal, (width - 1) / 2, (height - 1) / 2, width, height)
    times = np.arange(reference_frames) / frame_rate
    recorded = random_path(rng, scene, times, path)
    start = (reference_frames - target_frames) // 2
    window = slice(start, start + target_frames)
    target = leave(rng, scene, recorded[window], times[window], LEAVE_DISTANCE, LEAVE_ANGLE)
    return {'K': camera.K, 'start': np.int64(start),
            **_record('reference', cast(scene, camera, recorded, times, samples), recorded, times),
            **_record('target', cast(scene, camera, target, times[window], samples), target, times[window])}


def _record(name: str, seen: Image, path: np.ndarray, times: np.ndarray) -> dict[str, np.ndarray]:
    return {f'{name}_image': seen.image, f'{name}_z_depth': seen.z_depth, f'{name}_moving': seen.moving,
            f'{name}_T_world_camera': path, f'{name}_times': times}
