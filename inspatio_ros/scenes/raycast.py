# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""True images of a procedural scene: colour, depth and what moves, from any pose at any time."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from inspatio_ros.geometry import PinholeCamera, invert
from inspatio_ros.scenes import shapes, textures
from inspatio_ros.scenes.grid import REACH, bounding_spheres, grid_at
from inspatio_ros.scenes.scene import Scene

#: Rows done in one go: their samples stay in the processor's cache.
_BAND = 8
_NEAR = .02


@dataclass(frozen=True)
class Image:
    """A true view: image uint8 RGB [H, W, 3], z_depth float32 metres [H, W] (NaN: nothing there), moving bool [H, W].

    `moving` marks the solids that move, not their shadows.
    """

    image: np.ndarray
    z_depth: np.ndarray
    moving: np.ndarray


@lru_cache(maxsize=1)
def _srgb_table() -> np.ndarray:
    return textures.make_srgb_table()


def raycast(scene: Scene, camera: PinholeCamera, T_world_camera: np.ndarray, time: float, samples: int = 1,
            threads: int | None = None) -> Image:
    """Look at a scene: pose [4, 4], time in seconds, samples x samples rays a pixel; depth is that of pixel centres.

    Rows are shared by `threads` (all cores if None). Threads of this process may call it at once.
    """
    view = _View(scene, camera, np.asarray(T_world_camera, dtype=np.float64), time, samples)
    _share(view.look, camera.height, threads or len(os.sched_getaffinity(0)))
    return Image(view.image, view.z_depth, (view.seen >= 0) & scene.moves[view.seen])


def raycast_path(scene: Scene, camera: PinholeCamera, T_world_camera: np.ndarray, times: np.ndarray, samples: int = 1,
                 threads: int | None = 1) -> Image:
    """Look at a scene from every pose [F, 4, 4] of a path at its time [F]: the arrays of `raycast`, each [F, ...]."""
    views = [raycast(scene, camera, T, float(time), samples, threads)
             for T, time in zip(T_world_camera, times, strict=True)]
    return Image(np.stack([view.image for view in views]), np.stack([view.z_depth for view in views]),
                 np.stack([view.moving for view in views]))


class _View:
    """What the passes need to know of one view, and the image that they write."""

    def __init__(self, scene: Scene, camera: PinholeCamera, T_world_camera: np.ndarray, time: float,
                 samples: int) -> None:
        T_world_object = scene.poses(time)
        self._scene, self._samples = scene, samples
        self._to_unit = scene.to_unit(T_world_object)
        self._bounds = bounding_spheres(scene, T_world_object)
        self._window = windows(scene, T_world_object, camera, T_world_camera)
        self._grid = grid_at(scene, self._to_unit, *self._bounds)
        self._glossy = (scene.numbers[:, textures.SPECULAR] > 0.)[scene.material].any(axis=1)
        self._eye, self._spread = T_world_camera[:3, 3].copy(), spread(scene, samples)
        self._rays = (offsets(samples), np.array([camera.fx, camera.fy, camera.cx, camera.cy]),
                      np.ascontiguousarray(T_world_camera[:3, :3]), self._eye)
        size = (camera.height, camera.width)
        self.image, self.z_depth = np.empty((*size, 3), np.uint8), np.empty(size, np.float32)
        self.seen = np.empty(size, np.int16)

    def look(self, bands: range) -> None:
        """Fill the bands of rows that start there."""
        scene, solids = self._scene, (self._scene.shape, self._to_unit)
        t, found, face, cell, place, normal, lit, gloss = _buffers(self.image.shape[1], self._samples**2)
        lights, grid = scene.lights, self._grid
        for first in bands:
            last = min(first + _BAND, len(self.image))
            rows = last - first
            shapes.trace(first, last, *self._rays, *solids, *self._window, self.z_depth, self.seen, t, found)
            shapes.locate(first, last, *self._rays, *solids, t, found, face, place, normal)
            shapes.illuminate(rows, *solids, scene.half_size, *self._bounds, grid.low, grid.cell, grid.cells,
                              grid.neighbours, lights.ambient, REACH, found, face, place, normal, cell, lit)
            gloss[:] = 0.
            for k in range(len(lights.position)):
                shapes.shine(rows, k, *solids, *self._bounds, self._glossy, grid.shaders, self._eye, self._spread,
                             lights.colour, lights.fade, found, place, normal, cell, lit, gloss)
            textures.shade(first, last, 1. / (self._samples * self._rays[1][0]), *solids, scene.half_size,
                           scene.material, scene.pattern, scene.colours, scene.numbers, scene.photographs,
                           _srgb_table(), scene.background, t, found, face, place, lit, gloss, self.image)


def _share(work: Callable[[range], None], height: int, threads: int) -> None:
    """Run work(rows) with rows = starts of bands, every thread taking every n-th band."""
    bands = range(0, height, _BAND)
    threads = min(threads, len(bands))
    if threads == 1:
        work(bands)
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, [bands[i::threads] for i in range(threads)]))


def _buffers(width: int, rays: int) -> tuple[np.ndarray, ...]:
    """Make room for what the passes tell each other of a band: t, object, face, cell, place, normal, lit, gloss."""
    size = (_BAND, width, rays)
    return (np.empty(size, np.float32), np.empty(size, np.int16), np.empty(size, np.int8), np.empty(size, np.int16),
            np.empty((*size, 3), np.float32), np.empty((*size, 3), np.float32), np.empty((*size, 3), np.float32),
            np.empty(size, np.float32))


def offsets(samples: int) -> np.ndarray:
    """Give where in a pixel to look: [1 + samples^2, 2], the centre first."""
    one = (np.arange(samples) + .5) / samples - .5
    return np.array([(0., 0.), *((x, y) for y in one for x in one)])


def spread(scene: Scene, samples: int) -> np.ndarray:
    """Give the points [samples^2, L, 3] on the lights that samples look at: together they make soft shadows."""
    count = samples * samples
    if count == 1:
        return scene.lights.position[None].copy()
    # Fibonacci's sphere.
    i = np.arange(count)
    z = 1. - (2. * i + 1.) / count
    angle = np.pi * (1. + 5.**.5) * i
    ring = np.sqrt(1. - z * z)
    points = np.stack([ring * np.cos(angle), ring * np.sin(angle), z], axis=-1)
    return scene.lights.position[None] + scene.lights.radius[None, :, None] * points[:, None]


def windows(scene: Scene, T_world_object: np.ndarray, camera: PinholeCamera,
             T_world_camera: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Give where solids can be seen: rectangle [N, 4] (left, right, top, bottom), least depth [N] and its order [N]."""
    corners = np.stack(np.meshgrid([-1., 1.], [-1., 1.], [-1., 1.]), axis=-1).reshape(-1, 3)
    corners = corners[None] * scene.half_size[:, None]
    T = invert(T_world_camera) @ T_world_object
    points = corners @ np.swapaxes(T[:, :3, :3], 1, 2) + T[:, None, :3, 3]
    near, far = points[..., 2].min(axis=1), points[..., 2].max(axis=1)
    z = np.maximum(points[..., 2], _NEAR)
    x = camera.fx * points[..., 0] / z + camera.cx
    y = camera.fy * points[..., 1] / z + camera.cy
    rectangle = np.stack([x.min(axis=1), x.max(axis=1), y.min(axis=1), y.max(axis=1)], axis=-1)
    everywhere = (scene.shape >= shapes.PLANE) | (near < _NEAR)
    rectangle[everywhere] = [-np.inf, np.inf, -np.inf, np.inf]
    rectangle[(scene.shape < shapes.PLANE) & (far <= 0.)] = [np.inf, -np.inf, np.inf, -np.inf]
    near[everywhere] = 0.
    return rectangle, near, np.argsort(near)


def clearance(scene: Scene, points: np.ndarray, time: float) -> np.ndarray:
    """Give the distance in metres from points [..., 3] to the nearest surface at a time; negative inside solids."""
    points = np.ascontiguousarray(points, dtype=np.float64)
    out = shapes.clearance(points.reshape(-1, 3), scene.shape, scene.to_unit(scene.poses(time)), scene.half_size)
    return out.reshape(points.shape[:-1])
