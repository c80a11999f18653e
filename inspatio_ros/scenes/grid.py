# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Which solids matter where: a grid over a scene that spares the ray caster from asking every solid about every hit."""

from __future__ import annotations

from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np

from inspatio_ros.scenes.grid_kernel import list_neighbours, list_shaders
from inspatio_ros.scenes.scene import Scene
from inspatio_ros.scenes.shapes import Shape

#: Cells along x, y and z.
_CELLS = (20, 20, 8)
#: How far from a surface other surfaces take ambient light from it, in metres.
REACH = .25


@dataclass(frozen=True)
class Grid:
    """A grid over a scene's solids: in each cell, which solids are near and which may shade it (-1 ends a list).

    low, cell float64 [3]; cells int64 [3]; neighbours int16 [C, N + 1]; shaders int16 [L, C, N + 1].
    """

    low: np.ndarray
    cell: np.ndarray
    cells: np.ndarray
    neighbours: np.ndarray
    shaders: np.ndarray

    def with_solids(self, which: np.ndarray, scene: Scene, to_unit: np.ndarray, centre: np.ndarray,
                    radius: np.ndarray) -> Grid:
        """Give the grid with the solids `which` (indices) added to its lists."""
        neighbours, shaders, lights = self.neighbours.copy(), self.shaders.copy(), scene.lights
        list_neighbours(which, self.low, self.cell, self.cells, scene.shape, centre, radius, 2. * REACH, neighbours)
        list_shaders(which, self.low, self.cell, self.cells, scene.shape, scene.casts, to_unit, scene.half_size,
                     lights.position, lights.radius, shaders)
        return Grid(self.low, self.cell, self.cells, neighbours, shaders)


#: The grids of what stands still, made once a scene.
_static_grids: WeakKeyDictionary[Scene, Grid] = WeakKeyDictionary()


def grid_at(scene: Scene, to_unit: np.ndarray, centre: np.ndarray, radius: np.ndarray) -> Grid:
    """Give the grid over a scene's solids at a time."""
    static = _static_grids.get(scene)
    if static is None:
        static = _static_grids[scene] = _empty_grid(scene).with_solids(
            np.flatnonzero(~scene.moves), scene, to_unit, centre, radius)
    return static.with_solids(np.flatnonzero(scene.moves), scene, to_unit, centre, radius)


def extent(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """Give the corners [3], low and high, of the box that the grid divides: about all that is bounded, at rest."""
    T, bounded = scene.T_world_object, (scene.shape != Shape.DOME) & (scene.shape != Shape.PLANE)
    reach = (np.abs(T[:, :3, :3]) @ scene.half_size[:, :, None])[..., 0]
    return ((T[:, :3, 3] - reach)[bounded].min(axis=0, initial=0.) - .5,
            (T[:, :3, 3] + reach)[bounded].max(axis=0, initial=0.) + .5)


def _empty_grid(scene: Scene) -> Grid:
    low, high = extent(scene)
    cells, columns = np.array(_CELLS), len(scene.shape) + 1
    return Grid(low, (high - low) / cells, cells, np.full((cells.prod(), columns), -1, np.int16),
                np.full((len(scene.lights.position), cells.prod(), columns), -1, np.int16))


def bounding_spheres(scene: Scene, T_world_object: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give bounding spheres: centre [N, 3] and radius [N]."""
    radius = np.linalg.norm(scene.half_size, axis=1)
    radius = np.where(scene.shape == Shape.SPHERE, scene.half_size.max(axis=1), radius)
    return np.ascontiguousarray(T_world_object[:, :3, 3]), radius
