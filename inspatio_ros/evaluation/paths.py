# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Camera paths of the suites: how a scene is recorded, and how another camera leaves that path."""

from __future__ import annotations

import numpy as np

from inspatio_ros.geometry import T_BODY_OPTICAL, PinholeCamera, make_pose, se3_exp
from inspatio_ros.scenes.raycast import clearance, raycast
from inspatio_ros.scenes.scene import Scene

#: Room that cameras keep to what is around them, in metres.
CLEAR = 0.25
_TRIES = 300
#: Directions of which the one with the farthest view is taken, and the camera that finds out.
_DIRECTIONS, _GLIMPSE = 4, PinholeCamera(14., 14., 11.5, 7.5, 24, 16)


def camera_pose(place: np.ndarray, yaw: float, pitch: float = 0.) -> np.ndarray:
    """Give T_world_camera of a level camera at `place` [3] that looks along `yaw`, down by `pitch` (radians)."""
    cy, sy, cp, sp = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch)
    R = np.array([[cy, -sy, 0.], [sy, cy, 0.], [0., 0., 1.]]) @ np.array([[cp, 0., sp], [0., 1., 0.], [-sp, 0., cp]])
    return make_pose(R, place) @ T_BODY_OPTICAL


def standpoint(rng: np.random.Generator, scene: Scene, time: float = 0.) -> tuple[np.ndarray, float, float]:
    """Draw a place with room around it (the roomiest of many), a direction in which one sees far, and a pitch."""
    places = rng.uniform(*scene.inside, size=(_TRIES, 3))
    places[:, 2] = places[:, 2].clip(0.9, 1.5)
    place = places[int(np.argmax(clearance(scene, places, time)))]
    pitch = float(np.radians(rng.uniform(0., 12.)))
    yaws = rng.uniform(-np.pi, np.pi, _DIRECTIONS)
    far = [np.nanmedian(raycast(scene, _GLIMPSE, camera_pose(place, yaw, pitch), time).z_depth) for yaw in yaws]
    return place, float(yaws[int(np.argmax(far))]), pitch


def recorded_path(rng: np.random.Generator, scene: Scene, t: np.ndarray, scene_times: np.ndarray) -> np.ndarray:
    """Draw the path of a robot that records, a gentle curve: T_world_camera [F, 4, 4].

    `t` [F] are seconds since its start, `scene_times` [F] when the scene is seen (all alike if it is frozen).
    """
    best, most = None, -np.inf
    for _ in range(_TRIES):
        place, yaw, pitch = rng.uniform(*scene.inside), rng.uniform(-np.pi, np.pi), np.radians(rng.normal(6., 6.))
        speed, course, turn = rng.uniform(0.1, 0.7), rng.normal(0., 0.6), rng.normal(0., 0.2)
        heading = yaw + course + turn * t
        step = speed * np.gradient(t)[:, None] * np.stack([np.cos(heading), np.sin(heading), np.zeros(len(t))], -1)
        path = np.stack([camera_pose(place + shift, yaw + turn * s, pitch)
                         for shift, s in zip(np.cumsum(step, axis=0), t, strict=True)])
        room = room_of(scene, path, scene_times)
        if room > most:
            best, most = path, room
        if room > 2 * CLEAR:
            break
    return best


def leave(rng: np.random.Generator, scene: Scene, path: np.ndarray, scene_times: np.ndarray, metres: float,
          degrees: float, amounts: tuple[float, float]) -> np.ndarray:
    """Draw a path [F, 4, 4] that leaves another one, by at most so many metres and degrees.

    The camera is shifted and turned in the frame of the recording one, sideways and about the vertical most; `amounts`
    are the shares of that at the first and at the last frame.
    """
    ramp = np.linspace(*amounts, len(path))[:, None]
    for attempt in range(_TRIES):
        shift, turn = rng.normal(size=3) * (1., 0.4, 1.), rng.normal(size=3) * (0.4, 1., 0.15)
        # A crowded scene leaves room for less and less; the last try stays on the path.
        less = 1. - attempt / (_TRIES - 1)
        shift *= less * metres * rng.uniform(0.2, 1.) / np.linalg.norm(shift)
        turn *= less * np.radians(degrees) * rng.uniform(0.1, 1.) / np.linalg.norm(turn)
        left = path @ np.stack([se3_exp(twist) for twist in ramp * np.concatenate([shift, turn])])
        if room_of(scene, left, scene_times) > CLEAR:
            break
    return left


def room_of(scene: Scene, path: np.ndarray, scene_times: np.ndarray) -> float:
    """Give the least distance in metres from the cameras of a path [F, 4, 4] to any surface, at every sixth frame."""
    looked_at = {*range(0, len(path), 6), len(path) - 1}
    return min(float(clearance(scene, path[i, :3, 3], scene_times[i])) for i in looked_at)
