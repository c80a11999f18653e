# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""True images of a procedural scene: colour, depth and what moves, from any pose at any time."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from inspatio_ros.geometry import PinholeCamera, invert
from inspatio_ros.scenes import shapes, textures
from inspatio_ros.scenes.scene import Scene

#: Cells of the grid in which shapes that may shade a place are looked up.
_GRID = (16, 16, 6)
#: How far from a surface other surfaces take ambient light from it, in metres.
_REACH = .25
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
def _tables() -> tuple[np.ndarray, np.ndarray]:
    return textures.make_lattice(), textures.make_srgb_table()


def raycast(scene: Scene, camera: PinholeCamera, T_world_camera: np.ndarray, time: float, samples: int = 1,
            threads: int | None = None) -> Image:
    """Look at a scene: pose [4, 4], time in seconds, samples x samples rays a pixel; depth is that of pixel centres.

    Rows are shared by `threads` (all cores if None). Threads of this process may call it at once.
    """
    T_world_camera = np.ascontiguousarray(T_world_camera, dtype=np.float64)
    T_world_object = scene.poses(time)
    to_unit = scene.to_unit(T_world_object)
    grid = _grid(scene, T_world_object)
    rectangle = _rectangles(scene, T_world_object, camera, T_world_camera)
    height, width = camera.height, camera.width
    image = np.empty((height, width, 3), np.uint8)
    z_depth, seen = np.empty((height, width), np.float32), np.empty((height, width), np.int16)
    K = np.array([camera.fx, camera.fy, camera.cx, camera.cy])
    R, eye = np.ascontiguousarray(T_world_camera[:3, :3]), T_world_camera[:3, 3].copy()
    lights, spread = scene.lights, _spread(scene, samples)
    lattice, table = _tables()

    def work(rows: range) -> None:
        hits = _hit_buffers(width, samples)
        for first in rows:
            last = min(first + _BAND, height)
            shapes.trace(first, last, samples, K, R, eye, scene.shape, to_unit, scene.half_size, scene.casts,
                         rectangle, *grid, lights.position, lights.colour, lights.fade, lights.ambient, _REACH,
                         spread, z_depth, seen, *hits)
            textures.shade(first, last, samples, K, R, eye, scene.shape, to_unit, scene.half_size, scene.material,
                           scene.pattern, scene.colours, scene.numbers, lattice, table, scene.background, *hits,
                           image)

    _share(work, height, threads or len(os.sched_getaffinity(0)))
    return Image(image, z_depth, (seen >= 0) & scene.moves[seen])


def _share(work: object, height: int, threads: int) -> None:
    """Run work(rows) with rows = starts of bands, every thread taking every n-th band."""
    bands = range(0, height, _BAND)
    threads = min(threads, len(bands))
    if threads == 1:
        work(bands)
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, [bands[i::threads] for i in range(threads)]))


def _hit_buffers(width: int, samples: int) -> tuple[np.ndarray, ...]:
    """Make room for what the geometry pass tells the shading pass about a band."""
    size = (_BAND, width, samples * samples)
    return (np.empty(size), np.empty(size, np.int16), np.empty(size, np.int8), np.empty((*size, 3), np.float32),
            np.empty(size, np.float32))


def _spread(scene: Scene, samples: int) -> np.ndarray:
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


def _grid(scene: Scene, T_world_object: np.ndarray) -> tuple[np.ndarray, ...]:
    """Give the grid over the scene's solids: low [3], cell [3], cells [3], and the lists of `shapes.candidates`."""
    centre = np.ascontiguousarray(T_world_object[:, :3, 3])
    radius = np.linalg.norm(scene.half_size, axis=1)
    radius = np.where(scene.shape == shapes.SPHERE, scene.half_size.max(axis=1), radius)
    extent = np.abs(T_world_object[:, :3, :3]) @ scene.half_size[:, :, None]
    bounded = scene.shape != shapes.DOME
    bounded &= scene.shape != shapes.PLANE
    low = (centre - extent[..., 0])[bounded].min(axis=0) - .5
    high = (centre + extent[..., 0])[bounded].max(axis=0) + .5
    cells = np.array(_GRID)
    cell = (high - low) / cells
    shaders, neighbours = shapes.candidates(low, cell, cells, scene.shape, centre, radius, scene.lights.position,
                                            scene.lights.radius, 2. * _REACH)
    return low, cell, cells, shaders, neighbours


def _rectangles(scene: Scene, T_world_object: np.ndarray, camera: PinholeCamera,
                T_world_camera: np.ndarray) -> np.ndarray:
    """Give the part of the image [N, 4] (left, right, top, bottom) in which each solid can be seen."""
    whole = np.array([-np.inf, np.inf, -np.inf, np.inf])
    corners = np.stack(np.meshgrid([-1., 1.], [-1., 1.], [-1., 1.]), axis=-1).reshape(-1, 3)
    corners = corners[None] * scene.half_size[:, None]
    T = invert(T_world_camera) @ T_world_object
    points = corners @ np.swapaxes(T[:, :3, :3], 1, 2) + T[:, None, :3, 3]
    z = np.maximum(points[..., 2], _NEAR)
    x = camera.fx * points[..., 0] / z + camera.cx
    y = camera.fy * points[..., 1] / z + camera.cy
    out = np.stack([x.min(1) - 1., x.max(1) + 1., y.min(1), y.max(1)], axis=-1)
    behind = points[..., 2].max(axis=1) <= 0.
    out[points[..., 2].min(axis=1) < _NEAR] = whole
    out[behind] = [np.inf, -np.inf, np.inf, -np.inf]
    out[scene.shape >= shapes.PLANE] = whole
    return out


def clearance(scene: Scene, points: np.ndarray, time: float) -> np.ndarray:
    """Give the distance in metres from points [..., 3] to the nearest surface at a time; negative inside solids."""
    points = np.ascontiguousarray(points, dtype=np.float64)
    out = shapes.clearance(points.reshape(-1, 3), scene.shape, scene.to_unit(scene.poses(time)), scene.half_size)
    return out.reshape(points.shape[:-1])
