# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Camera paths through procedural scenes: smooth like those of hands and robots, and clear of everything."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from inspatio_ros.geometry import T_BODY_OPTICAL, PinholeCamera, make_pose, se3_exp
from inspatio_ros.scenes.raycast import clearance, raycast
from inspatio_ros.scenes.scene import Scene

#: How near a path may come to a surface, in metres.
CLEAR = .22
#: A path's first view must show things this far away or farther, in the median.
_MEDIAN_DEPTH = 1.2
_TRIES = 400


def body_pose(position: np.ndarray, yaw: float, pitch: float = 0., roll: float = 0.) -> np.ndarray:
    """Give T_world_camera of a camera at a position [3] that looks along its yaw, up by its pitch (radians)."""
    cy, sy, cp, sp, cr, sr = (f(a) for a in (yaw, -pitch, roll) for f in (np.cos, np.sin))
    R = (np.array([[cy, -sy, 0.], [sy, cy, 0.], [0., 0., 1.]]) @ np.array([[cp, 0., sp], [0., 1., 0.], [-sp, 0., cp]])
         @ np.array([[1., 0., 0.], [0., cr, -sr], [0., sr, cr]]))
    return make_pose(R, np.asarray(position, dtype=np.float64)) @ T_BODY_OPTICAL


def random_path(rng: np.random.Generator, scene: Scene, times: np.ndarray, kind: str = 'swing') -> np.ndarray:
    """Draw a camera path T_world_camera [F, 4, 4] at times [F] that stays clear of the scene's surfaces.

    `kind` is one of PATHS: 'swing' is a mixture of what hands and robots do; 'robot' drives level along its heading;
    'hand' is carried by somebody who walks; 'orbit' goes about a point and looks at it; 'spin' turns once, by 360
    degrees, from the first frame to the last.
    """
    best, widest, move = None, -np.inf, PATHS[kind]
    for attempt in range(_TRIES):
        start = rng.uniform(*scene.inside)
        if attempt < _TRIES // 2 and clearance(scene, start, times[0]) < 2. * CLEAR:
            continue
        path = move(rng, start, times)
        free = clear_by(scene, path, times)
        if free > CLEAR and _sees_far(scene, path[0], times[0]):
            return path
        if free > widest:
            best, widest = path, free
    # Scenes so full are rare; the freest path is still a true view, as the ray caster looks from anywhere.
    return best


def clear_by(scene: Scene, path: np.ndarray, times: np.ndarray) -> float:
    """Give the least distance from the cameras of a path [F, 4, 4] at times [F] to any surface, in metres."""
    return min(float(clearance(scene, T[:3, 3], time)) for T, time in zip(path, times, strict=True))


def _swing(rng: np.random.Generator, start: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Move from a start with a slowly changing velocity and turn, trembling a little."""
    t = times - times[0]
    speed, course, turn = rng.uniform(0., .7), rng.normal(0., .7), rng.normal(0., .25)
    yaw = rng.uniform(-np.pi, np.pi) + turn * t + rng.normal(0., .06) * np.sin(rng.uniform(1., 3.) * t)
    pitch = rng.normal(-.1, .12) + rng.normal(0., .04) * np.sin(rng.uniform(.8, 2.5) * t + rng.uniform(0., 6.))
    roll = rng.normal(0., .03) + rng.normal(0., .015) * np.sin(rng.uniform(.8, 2.5) * t + rng.uniform(0., 6.))
    step = np.gradient(t) if len(t) > 1 else np.zeros(1)
    along = np.stack([np.cos(yaw + course), np.sin(yaw + course), np.full(len(t), rng.normal(0., .08))], axis=-1)
    shift = np.cumsum(speed * step[:, None] * along, axis=0)
    tremble = np.stack([rng.normal(0., .006) * np.sin(rng.uniform(3., 9.) * t + rng.uniform(0., 6.))
                        for _ in range(3)], axis=-1)
    steps = zip(shift - shift[0] + tremble, yaw, pitch, roll, strict=True)
    return np.stack([body_pose(start + s, *angles) for s, *angles in steps])


def _robot(rng: np.random.Generator, start: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Drive on wheels: level, along the heading, with starts, stops and turns."""
    t = times - times[0]
    speed = rng.uniform(.1, 1.) * np.clip(.6 + .8 * np.sin(rng.uniform(.3, 1.5) * t + rng.uniform(0., 6.)), 0., 1.)
    rate = rng.normal(0., .35) * (1. + .8 * np.sin(rng.uniform(.3, 1.5) * t + rng.uniform(0., 6.)))
    step = np.diff(t, prepend=t[0])
    yaw = rng.uniform(-np.pi, np.pi) + np.cumsum(rate * step)
    ahead = np.stack([np.cos(yaw), np.sin(yaw), np.zeros(len(t))], axis=-1)
    places = start + np.cumsum((speed * step)[:, None] * ahead, axis=0)
    pitch = rng.uniform(-.25, .05)
    return np.stack([body_pose(place, angle, pitch) for place, angle in zip(places, yaw, strict=True)])


def _hand(rng: np.random.Generator, start: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Walk slowly with a camera in the hand: it bobs with the steps, trembles, and looks about."""
    t = times - times[0]

    def tremble(size: float, slowest: float, fastest: float) -> np.ndarray:
        return rng.normal(0., size) * np.sin(rng.uniform(slowest, fastest) * t + rng.uniform(0., 6.))

    pace = 2 * np.pi * rng.uniform(1.4, 2.1)  # radians of a second's steps
    course, speed = rng.uniform(-np.pi, np.pi), rng.uniform(0., .8)
    side = rng.uniform(.005, .02) * np.sin(.5 * pace * t)
    along = speed * t[:, None] * np.array([np.cos(course), np.sin(course), 0.])
    sway = side[:, None] * np.array([-np.sin(course), np.cos(course), 0.])
    bob = rng.uniform(.005, .025) * np.sin(pace * t) + tremble(.004, 9., 20.)
    places = start + along + sway + bob[:, None] * np.array([0., 0., 1.])
    yaw = course + rng.normal(0., .5) + tremble(.3, .4, 1.5) + tremble(.012, 6., 16.)
    pitch = rng.normal(-.1, .12) + tremble(.1, .4, 1.5) + tremble(.01, 6., 16.)
    roll = rng.normal(0., .05) + tremble(.03, .4, 1.5) + tremble(.008, 6., 16.)
    return np.stack([body_pose(*pose) for pose in zip(places, yaw, pitch, roll, strict=True)])


def _orbit(rng: np.random.Generator, start: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Go about a point ahead of the start and keep it in the middle of the view."""
    away, towards, rise = rng.uniform(.7, 2.5), rng.uniform(-np.pi, np.pi), rng.uniform(-.5, .15)
    centre = start + away * np.array([np.cos(towards), np.sin(towards), np.tan(rise)])
    swept = rng.choice((-1., 1.)) * np.radians(rng.uniform(20., 120.)) * _share(times)
    places = centre - away * np.stack([np.cos(towards + swept), np.sin(towards + swept),
                                       np.full(len(times), np.tan(rise))], axis=-1)
    return np.stack([body_pose(place, towards + turn, rise) for place, turn in zip(places, swept, strict=True)])


def _spin(rng: np.random.Generator, start: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Turn on the spot by 360 degrees: the last view is the first one again."""
    yaw, pitch = rng.uniform(-np.pi, np.pi), rng.normal(-.1, .12)
    turn = rng.choice((-1., 1.)) * 2 * np.pi * _share(times)
    return np.stack([body_pose(start, yaw + angle, pitch) for angle in turn])


def _share(times: np.ndarray) -> np.ndarray:
    """Give the share [F] of a path's time that has passed."""
    return (times - times[0]) / max(times[-1] - times[0], 1e-9)


#: The kinds of camera paths: how each moves from a start [3] through times [F].
PATHS: dict[str, Callable[[np.random.Generator, np.ndarray, np.ndarray], np.ndarray]] = {
    'swing': _swing, 'robot': _robot, 'hand': _hand, 'orbit': _orbit, 'spin': _spin}


def _sees_far(scene: Scene, T_world_camera: np.ndarray, time: float) -> bool:
    """Say whether a view shows more than a surface close by."""
    small = PinholeCamera(14., 14., 11.5, 7.5, 24, 16)
    return float(np.nanmedian(raycast(scene, small, T_world_camera, time, threads=1).z_depth)) > _MEDIAN_DEPTH


def leave(rng: np.random.Generator, scene: Scene, path: np.ndarray, times: np.ndarray, distance: float,
          angle: float) -> np.ndarray:
    """Draw a path [F, 4, 4] that starts near another one and leaves it by up to `distance` metres, `angle` radians."""
    ramp = np.linspace(0., 1., len(times)) if len(times) > 1 else np.ones(1)
    ramp = ramp * ramp * (3. - 2. * ramp)
    for attempt in range(_TRIES):
        shrink = 1. - attempt / _TRIES
        away = rng.normal(size=3) * (1., 1., .5)
        away *= shrink * distance * rng.uniform(.2, 1.) / np.linalg.norm(away)
        turn = rng.normal(size=3) * (.4, 1., .15)  # about the camera's x, y (yaw) and z
        turn *= shrink * angle * rng.uniform(0., 1.) / np.linalg.norm(turn)
        first = rng.uniform(0., .25)
        part = first + (1. - first) * ramp
        out = np.stack([_moved(T, p * away, p * turn) for T, p in zip(path, part, strict=True)])
        if clear_by(scene, out, times) > .7 * CLEAR:
            break
    return out


def _moved(T_world_camera: np.ndarray, away: np.ndarray, turn: np.ndarray) -> np.ndarray:
    """Shift a camera in the world and turn it in its own frame (a rotation vector)."""
    out = T_world_camera @ se3_exp(np.concatenate([np.zeros(3), turn]))
    out[:3, 3] += away
    return out
