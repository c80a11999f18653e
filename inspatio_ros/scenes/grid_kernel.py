# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Fill the lists of a grid over a scene: which solids are near a cell, and which may shade it."""

from __future__ import annotations

import numpy as np

from inspatio_ros.compiled import compiled
from inspatio_ros.scenes.shapes import DOME, PLANE, direction_in_unit, place_in_unit, slab


@compiled(forceinline=True)
def _cell_centre(index, low, cell, cells):
    ix, rest = index // (cells[1] * cells[2]), index % (cells[1] * cells[2])
    return (low[0] + (ix + .5) * cell[0], low[1] + (rest // cells[2] + .5) * cell[1],
            low[2] + (rest % cells[2] + .5) * cell[2])


@compiled()
def list_neighbours(which, low, cell, cells, shape, centre, radius, reach, neighbours):
    """Append, for every cell of a grid, those of the shapes `which` that come within `reach` of it.

    `neighbours` int16 [C, N + 1] lists the shapes of each of the cells; a list ends with -1.
    """
    cell_radius = .5 * np.sqrt(cell[0]**2 + cell[1]**2 + cell[2]**2)
    for index in range(len(neighbours)):
        x, y, z = _cell_centre(index, low, cell, cells)
        count = 0
        while neighbours[index, count] >= 0:
            count += 1
        for j in which:
            vx, vy, vz = centre[j, 0] - x, centre[j, 1] - y, centre[j, 2] - z
            far = radius[j] + cell_radius + reach
            if shape[j] != DOME and (shape[j] >= PLANE or vx * vx + vy * vy + vz * vz < far * far):
                neighbours[index, count] = j
                count += 1


@compiled()
def list_shaders(which, low, cell, cells, shape, casts, to_unit, half_size, light_position, light_radius, shaders):
    """Append, for every light and cell, those of the shapes `which` that may come between the two.

    `shaders` int16 [L, C, N + 1] lists the shapes of each of the cells; a list ends with -1. A shape may be between if
    its box, grown by the cell's and the light's size, meets the line from the cell's middle to the light.
    """
    cell_radius = .5 * np.sqrt(cell[0]**2 + cell[1]**2 + cell[2]**2)
    for light in range(len(shaders)):
        lx, ly, lz = light_position[light, 0], light_position[light, 1], light_position[light, 2]
        grow = max(cell_radius, light_radius[light])
        for index in range(shaders.shape[1]):
            x, y, z = _cell_centre(index, low, cell, cells)
            count = 0
            while shaders[light, index, count] >= 0:
                count += 1
            for j in which:
                if not casts[j] or shape[j] >= PLANE:
                    continue
                ox, oy, oz = place_in_unit(to_unit, j, x, y, z)
                dx, dy, dz = direction_in_unit(to_unit, j, lx - x, ly - y, lz - z)
                x0, x1 = slab(ox, dx, 1. + grow / half_size[j, 0])
                y0, y1 = slab(oy, dy, 1. + grow / half_size[j, 1])
                z0, z1 = slab(oz, dz, 1. + grow / half_size[j, 2])
                enter, leave = max(max(x0, 0.), max(y0, z0)), min(min(x1, 1.), min(y1, z1))
                if enter <= leave:
                    shaders[light, index, count] = j
                    count += 1
