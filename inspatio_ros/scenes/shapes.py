# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The geometry pass of the ray caster: what a ray hits, how far it is, and how much light falls there.

Every shape is a unit shape under an affine map: `to_unit` [3, 4] takes world points to the space in which a box is
[-1, 1]^3, a sphere has radius 1, and a cylinder has radius 1 and |z| <= 1. Rays keep their parameter under it, so a
ray (x, y, 1) of the camera meets a shape at t = z-depth. Compiled functions of the two passes live in one file each,
because a compiled function is kept on disk by the date of its own file only.
"""

from __future__ import annotations

from enum import IntEnum

import numba
import numpy as np


class Shape(IntEnum):
    """What a unit shape is; ROOM and DOME are seen from the inside."""

    BOX = 0
    SPHERE = 1
    CYLINDER = 2
    PLANE = 3
    ROOM = 4
    DOME = 5


BOX, SPHERE, CYLINDER, PLANE, ROOM, DOME = (int(shape) for shape in Shape)

#: Rows of the arrays that one call of the two passes fills.
_FAR = 1e30
_OFFSET = 1e-4
_GLOSS_EXPONENT = 5  # the highlight is squared so often: a Blinn-Phong exponent of 2^5

_jit = numba.njit(cache=True, nogil=True, error_model='numpy', fastmath={'contract', 'arcp', 'nsz', 'afn'})


@_jit
def _hit_slabs(ox, oy, oz, dx, dy, dz, inside):
    """Meet the unit cube -> (t, face): where the ray enters, or where it leaves when seen from the inside."""
    near, far, near_face, far_face = -_FAR, _FAR, 0, 0
    for axis in range(3):
        o, d = (ox, dx) if axis == 0 else ((oy, dy) if axis == 1 else (oz, dz))
        if abs(d) < 1e-12:
            if abs(o) > 1.:
                return _FAR, 0
            continue
        t0, t1 = (-1. - o) / d, (1. - o) / d
        enter, leave, forward = (t0, t1, 0) if d > 0. else (t1, t0, 1)
        if enter > near:
            near, near_face = enter, 2 * axis + forward
        if leave < far:
            far, far_face = leave, 2 * axis + 1 - forward
    if near > far or far <= 0.:
        return _FAR, 0
    if inside:
        return far, far_face
    return (near, near_face) if near > 0. else (_FAR, 0)


@_jit
def _hit_sphere(ox, oy, oz, dx, dy, dz, inside):
    """Meet the unit sphere -> (t, 0)."""
    a = dx * dx + dy * dy + dz * dz
    b = ox * dx + oy * dy + oz * dz
    c = ox * ox + oy * oy + oz * oz - 1.
    discriminant = b * b - a * c
    if discriminant < 0.:
        return _FAR, 0
    root = np.sqrt(discriminant)
    t = (root - b) / a if inside else (-b - root) / a
    return (t, 0) if t > 0. else (_FAR, 0)


@_jit
def _hit_cylinder(ox, oy, oz, dx, dy, dz):
    """Meet the unit cylinder with its caps -> (t, face): 0 the side, 4 the lower cap, 5 the upper one."""
    best, face = _FAR, 0
    a = dx * dx + dy * dy
    b = ox * dx + oy * dy
    c = ox * ox + oy * oy - 1.
    discriminant = b * b - a * c
    if discriminant < 0.:
        return _FAR, 0
    if a > 1e-12:
        t = (-b - np.sqrt(discriminant)) / a
        if t > 0. and abs(oz + t * dz) <= 1.:
            return t, 0
    if abs(dz) > 1e-12:
        end = -1. if dz > 0. else 1.
        t = (end - oz) / dz
        x, y = ox + t * dx, oy + t * dy
        if t > 0. and x * x + y * y <= 1.:
            best, face = t, 4 if end < 0. else 5
    return best, face


@_jit
def _hit(shape, ox, oy, oz, dx, dy, dz):
    """Meet a unit shape -> (t, face); t is huge where the ray misses."""
    if shape == BOX or shape == ROOM:
        return _hit_slabs(ox, oy, oz, dx, dy, dz, shape == ROOM)
    if shape == SPHERE or shape == DOME:
        return _hit_sphere(ox, oy, oz, dx, dy, dz, shape == DOME)
    if shape == CYLINDER:
        return _hit_cylinder(ox, oy, oz, dx, dy, dz)
    if dz * oz < 0.:
        return -oz / dz, 5
    return _FAR, 0


@_jit
def _unit_normal(shape, face, ux, uy, uz):
    """Give the normal at a point of a unit shape, towards the side that is seen."""
    if shape == SPHERE:
        return ux, uy, uz
    if shape == DOME:
        return -ux, -uy, -uz
    if shape == CYLINDER and face == 0:
        return ux, uy, 0.
    sign = 1. if face % 2 == 1 else -1.
    if shape == ROOM:
        sign = -sign
    axis = face // 2
    return (sign if axis == 0 else 0.), (sign if axis == 1 else 0.), (sign if axis == 2 else 0.)


@_jit
def _distance(shape, half, ux, uy, uz):
    """Give the distance in metres from a point (in unit space) to a shape; negative inside what is solid."""
    if shape == SPHERE or shape == DOME:
        # First-order distance of an ellipsoid: f / |grad f|.
        k0 = np.sqrt(ux * ux + uy * uy + uz * uz)
        gx, gy, gz = ux / half[0], uy / half[1], uz / half[2]
        k1 = np.sqrt(gx * gx + gy * gy + gz * gz)
        d = k0 * (k0 - 1.) / max(k1, 1e-9)
        return d if shape == SPHERE else -d
    if shape == CYLINDER:
        qx = (np.sqrt(ux * ux + uy * uy) - 1.) * min(half[0], half[1])
        qz = (abs(uz) - 1.) * half[2]
        return np.sqrt(max(qx, 0.)**2 + max(qz, 0.)**2) + min(max(qx, qz), 0.)
    if shape == PLANE:
        return uz * half[2]
    qx, qy, qz = (abs(ux) - 1.) * half[0], (abs(uy) - 1.) * half[1], (abs(uz) - 1.) * half[2]
    inner = min(max(qx, max(qy, qz)), 0.)
    if shape == ROOM:
        return -inner if inner < 0. else -np.sqrt(max(qx, 0.)**2 + max(qy, 0.)**2 + max(qz, 0.)**2)
    return np.sqrt(max(qx, 0.)**2 + max(qy, 0.)**2 + max(qz, 0.)**2) + inner


@_jit
def _to_unit(A, x, y, z):
    return (A[0, 0] * x + A[0, 1] * y + A[0, 2] * z + A[0, 3],
            A[1, 0] * x + A[1, 1] * y + A[1, 2] * z + A[1, 3],
            A[2, 0] * x + A[2, 1] * y + A[2, 2] * z + A[2, 3])


@_jit
def _rotate(A, x, y, z):
    return (A[0, 0] * x + A[0, 1] * y + A[0, 2] * z,
            A[1, 0] * x + A[1, 1] * y + A[1, 2] * z,
            A[2, 0] * x + A[2, 1] * y + A[2, 2] * z)


@_jit
def clearance(points, shape, to_unit, half_size):
    """Give the distance [P] in metres from points [P, 3] to the nearest surface; negative inside what is solid."""
    out = np.empty(len(points))
    for i in range(len(points)):
        best = _FAR
        for j in range(len(shape)):
            ux, uy, uz = _to_unit(to_unit[j], points[i, 0], points[i, 1], points[i, 2])
            best = min(best, _distance(shape[j], half_size[j], ux, uy, uz))
        out[i] = best
    return out


@_jit
def candidates(low, cell, cells, shape, centre, radius, light_position, light_radius, reach):
    """List, for every cell of a grid, the shapes that may shade it and those within `reach` of it.

    Bounding spheres stand for shapes (`centre` [N, 3], `radius` [N]). Returns shaders int16 [L, C, N] and neighbours
    int16 [C, N]; each list ends with -1 where it is not full.
    """
    n, lights, total = len(shape), len(light_position), cells[0] * cells[1] * cells[2]
    shaders = np.full((lights, total, n + 1), -1, np.int16)
    neighbours = np.full((total, n + 1), -1, np.int16)
    cell_radius = 0.5 * np.sqrt(cell[0]**2 + cell[1]**2 + cell[2]**2)
    for index in range(total):
        ix, rest = index // (cells[1] * cells[2]), index % (cells[1] * cells[2])
        iy, iz = rest // cells[2], rest % cells[2]
        x, y, z = low[0] + (ix + .5) * cell[0], low[1] + (iy + .5) * cell[1], low[2] + (iz + .5) * cell[2]
        near = 0
        for j in range(n):
            bounded = shape[j] < PLANE
            vx, vy, vz = centre[j, 0] - x, centre[j, 1] - y, centre[j, 2] - z
            if shape[j] != DOME and (not bounded or vx * vx + vy * vy + vz * vz
                                     < (radius[j] + cell_radius + reach)**2):
                neighbours[index, near] = j
                near += 1
        for k in range(lights):
            lx, ly, lz = light_position[k, 0] - x, light_position[k, 1] - y, light_position[k, 2] - z
            length2 = lx * lx + ly * ly + lz * lz
            count = 0
            for j in range(n):
                vx, vy, vz = centre[j, 0] - x, centre[j, 1] - y, centre[j, 2] - z
                s = min(max((vx * lx + vy * ly + vz * lz) / length2, 0.), 1.)
                gap2 = (vx - s * lx)**2 + (vy - s * ly)**2 + (vz - s * lz)**2
                if shape[j] < PLANE and gap2 < (radius[j] + cell_radius + light_radius[k])**2:
                    shaders[k, index, count] = j
                    count += 1
    return shaders, neighbours


@_jit
def _shaded(shaders, shape, to_unit, casts, x, y, z, lx, ly, lz):
    """Say whether any of the listed shapes lies between a point and a light (lx, ly, lz away)."""
    for k in range(len(shaders)):
        j = shaders[k]
        if j < 0:
            break
        if not casts[j]:
            continue
        ox, oy, oz = _to_unit(to_unit[j], x, y, z)
        dx, dy, dz = _rotate(to_unit[j], lx, ly, lz)
        t, _ = _hit(shape[j], ox, oy, oz, dx, dy, dz)
        if t < 1.:
            return True
    return False


@_jit
def _openness(neighbours, shape, to_unit, half_size, x, y, z, nx, ny, nz, reach):
    """Give how open a point is to ambient light, in [0, 1]: how far `reach` along its normal is from anything."""
    best = reach
    for k in range(len(neighbours)):
        j = neighbours[k]
        if j < 0:
            break
        ux, uy, uz = _to_unit(to_unit[j], x + reach * nx, y + reach * ny, z + reach * nz)
        best = min(best, _distance(shape[j], half_size[j], ux, uy, uz))
    return max(best, 0.) / reach


@_jit
def _nearest(active, count, rectangle, x, y, dx, dy, dz, shape, to_unit, origin):
    """Find the first shape that a ray of the camera meets -> (t, object or -1, face)."""
    best, found, face = _FAR, -1, 0
    for k in range(count):
        j = active[k]
        if x < rectangle[j, 0] or x > rectangle[j, 1]:
            continue
        ux, uy, uz = _rotate(to_unit[j], dx, dy, dz)
        t, side = _hit(shape[j], origin[j, 0], origin[j, 1], origin[j, 2], ux, uy, uz)
        if t < best:
            best, found, face = t, j, side
    return best, found, face


@_jit
def trace(first, last, samples, K, R_world_camera, eye, shape, to_unit, half_size, casts, rectangle,
          grid_low, grid_cell, grid_cells, shaders, neighbours, light_position, light_colour, light_fade,
          ambient, reach, spread, z_depth, seen, t_hit, object_hit, face_hit, lit, gloss):
    """Fill the hits and the light of image rows first <= y < last.

    K holds (fx, fy, cx, cy). Written: z_depth and seen [H, W] (through the pixel centres: depth and object, -1 for
    none); and of every sample, [rows, W, samples^2]: t_hit, object_hit, face_hit, lit [.., 3] (linear light falling
    there) and gloss (highlight). `spread` [samples^2, L, 3] are the points of the lights that the samples look at.
    """
    n, width = len(shape), z_depth.shape[1]
    origin = np.empty((n, 3))
    for j in range(n):
        origin[j, 0], origin[j, 1], origin[j, 2] = _to_unit(to_unit[j], eye[0], eye[1], eye[2])
    active = np.empty(n, np.int64)
    R = R_world_camera
    for row in range(first, last):
        count = 0
        for j in range(n):
            if rectangle[j, 2] - 1. <= row <= rectangle[j, 3] + 1.:
                active[count] = j
                count += 1
        for column in range(width):
            for sample in range(-1, samples * samples):
                x, y = float(column), float(row)
                if sample >= 0:
                    x += (sample % samples + .5) / samples - .5
                    y += (sample // samples + .5) / samples - .5
                cx, cy = (x - K[2]) / K[0], (y - K[3]) / K[1]
                dx, dy, dz = _rotate(R, cx, cy, 1.)
                t, j, face = _nearest(active, count, rectangle, x, y, dx, dy, dz, shape, to_unit, origin)
                if sample < 0:
                    z_depth[row, column] = t if j >= 0 else np.nan
                    seen[row, column] = j
                    continue
                here = row - first
                t_hit[here, column, sample], object_hit[here, column, sample] = t, j
                face_hit[here, column, sample] = face
                if j < 0:
                    continue
                red, green, blue, shine = _light(
                    t, j, face, dx, dy, dz, eye, shape, to_unit, half_size, casts, grid_low, grid_cell, grid_cells,
                    shaders, neighbours, spread[sample], light_colour, light_fade, ambient, reach)
                lit[here, column, sample, 0] = red
                lit[here, column, sample, 1] = green
                lit[here, column, sample, 2] = blue
                gloss[here, column, sample] = shine


@_jit
def _light(t, j, face, dx, dy, dz, eye, shape, to_unit, half_size, casts, grid_low, grid_cell, grid_cells,
           shaders, neighbours, light_position, light_colour, light_fade, ambient, reach):
    """Give the light that falls on a hit -> (red, green, blue, highlight)."""
    A = to_unit[j]
    x, y, z = eye[0] + t * dx, eye[1] + t * dy, eye[2] + t * dz
    ux, uy, uz = _to_unit(A, x, y, z)
    mx, my, mz = _unit_normal(shape[j], face, ux, uy, uz)
    # Gradients go to the world by the transposed map.
    nx = A[0, 0] * mx + A[1, 0] * my + A[2, 0] * mz
    ny = A[0, 1] * mx + A[1, 1] * my + A[2, 1] * mz
    nz = A[0, 2] * mx + A[1, 2] * my + A[2, 2] * mz
    length = np.sqrt(nx * nx + ny * ny + nz * nz)
    nx, ny, nz = nx / length, ny / length, nz / length
    if shape[j] == PLANE and nx * dx + ny * dy + nz * dz > 0.:
        nx, ny, nz = -nx, -ny, -nz
    x, y, z = x + _OFFSET * nx, y + _OFFSET * ny, z + _OFFSET * nz
    ix = int(np.floor((x - grid_low[0]) / grid_cell[0]))
    iy = int(np.floor((y - grid_low[1]) / grid_cell[1]))
    iz = int(np.floor((z - grid_low[2]) / grid_cell[2]))
    inside = (0 <= ix < grid_cells[0]) and (0 <= iy < grid_cells[1]) and (0 <= iz < grid_cells[2])
    cell = (ix * grid_cells[1] + iy) * grid_cells[2] + iz if inside else 0
    opened = 1.
    if inside and shape[j] != DOME:
        opened = _openness(neighbours[cell], shape, to_unit, half_size, x, y, z, nx, ny, nz, reach)
    sky = .5 + .5 * nz
    weight = .4 + .6 * opened
    red = weight * (ambient[0, 0] * sky + ambient[1, 0] * (1. - sky))
    green = weight * (ambient[0, 1] * sky + ambient[1, 1] * (1. - sky))
    blue = weight * (ambient[0, 2] * sky + ambient[1, 2] * (1. - sky))
    shine = 0.
    view = 1. / np.sqrt(dx * dx + dy * dy + dz * dz)
    for k in range(len(light_position)):
        lx, ly, lz = light_position[k, 0] - x, light_position[k, 1] - y, light_position[k, 2] - z
        facing = lx * nx + ly * ny + lz * nz
        if facing <= 0.:
            continue
        if inside and _shaded(shaders[k, cell], shape, to_unit, casts, x, y, z, lx, ly, lz):
            continue
        squared = lx * lx + ly * ly + lz * lz
        away = np.sqrt(squared)
        power = facing / away / (1. + squared * light_fade[k])
        red += power * light_colour[k, 0]
        green += power * light_colour[k, 1]
        blue += power * light_colour[k, 2]
        hx, hy, hz = lx / away - dx * view, ly / away - dy * view, lz / away - dz * view
        half = (hx * nx + hy * ny + hz * nz) / np.sqrt(hx * hx + hy * hy + hz * hz)
        for _ in range(_GLOSS_EXPONENT):
            half *= half
        shine += half * power
    return red, green, blue, shine
