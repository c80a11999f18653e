# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The geometry pass of the ray caster: what a ray hits, how far it is, and how much light falls there.

Every shape is a unit shape under an affine map: `to_unit` [3, 4] takes world points to the space in which a box is
[-1, 1]^3, a sphere has radius 1, and a cylinder has radius 1 and |z| <= 1. Rays keep their parameter under it, so a
ray (x, y, 1) of the camera meets a shape at t = z-depth.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from inspatio_ros.compiled import compiled


class Shape(IntEnum):
    """What a unit shape is; ROOM and DOME are seen from the inside."""

    BOX = 0
    SPHERE = 1
    CYLINDER = 2
    PLANE = 3
    ROOM = 4
    DOME = 5


BOX, SPHERE, CYLINDER, PLANE, ROOM, DOME = (int(shape) for shape in Shape)

_FAR = 1e30
#: Columns for which the shapes that can be met are looked up together.
_TILE = 16
OFFSET = 5e-4
#: Exponent of Blinn and Phong's highlight.
GLOSS_EXPONENT = 32
#: Part of the ambient light that reaches where nothing is open.
CLOSED = .4

_jit = compiled()
_inlined = compiled(forceinline=True)


@_inlined
def slab(o, d, size):
    """Give where a ray enters and leaves -size <= x <= size along one axis."""
    inverse = 1. / (d if abs(d) > 1e-12 else 1e-12)
    middle, half = -o * inverse, size * abs(inverse)
    return middle - half, middle + half


@_inlined
def _hit_cube(ox, oy, oz, dx, dy, dz, inside):
    """Meet the unit cube: where the ray enters it, or where it leaves when seen from the inside."""
    x0, x1 = slab(ox, dx, 1.)
    y0, y1 = slab(oy, dy, 1.)
    z0, z1 = slab(oz, dz, 1.)
    near, far = max(x0, max(y0, z0)), min(x1, min(y1, z1))
    t = far if inside else near
    return t if near <= far and t > 0. else _FAR


@_inlined
def _hit_sphere(ox, oy, oz, dx, dy, dz, inside):
    """Meet the unit sphere."""
    a = dx * dx + dy * dy + dz * dz
    b = ox * dx + oy * dy + oz * dz
    discriminant = b * b - a * (ox * ox + oy * oy + oz * oz - 1.)
    t = _FAR
    if discriminant >= 0.:
        root = np.sqrt(discriminant)
        t = (root - b) / a if inside else (-b - root) / a
    return t if t > 0. else _FAR


@_inlined
def _hit_cylinder(ox, oy, oz, dx, dy, dz):
    """Meet the unit cylinder, which is the common part of an endless one and of a slab."""
    a = max(dx * dx + dy * dy, 1e-24)
    b = ox * dx + oy * dy
    discriminant = b * b - a * (ox * ox + oy * oy - 1.)
    t = _FAR
    if discriminant >= 0.:
        root = np.sqrt(discriminant)
        z0, z1 = slab(oz, dz, 1.)
        near, far = max((-b - root) / a, z0), min((root - b) / a, z1)
        t = near if near <= far else _FAR
    return t if t > 0. else _FAR


@_jit
def _hit(shape, ox, oy, oz, dx, dy, dz):
    """Give the ray's parameter where it meets a unit shape; huge where it misses."""
    if shape == BOX or shape == ROOM:
        return _hit_cube(ox, oy, oz, dx, dy, dz, shape == ROOM)
    if shape == SPHERE or shape == DOME:
        return _hit_sphere(ox, oy, oz, dx, dy, dz, shape == DOME)
    if shape == CYLINDER:
        return _hit_cylinder(ox, oy, oz, dx, dy, dz)
    return -oz / dz if dz * oz < 0. else _FAR


@_jit
def _face(shape, ux, uy, uz):
    """Name the face (-x, +x, -y, +y, -z, +z: 0 ... 5) on which a point of a unit shape lies; a round one is 0."""
    if shape == SPHERE or shape == DOME:
        return 0
    if shape == PLANE:
        return 5
    x, y, z = abs(ux), abs(uy), abs(uz)
    if shape == CYLINDER:
        if x * x + y * y > z * z:
            return 0
    elif x > y and x > z:
        return 1 if ux > 0. else 0
    elif y > z:
        return 3 if uy > 0. else 2
    return 5 if uz > 0. else 4


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
def _distance(shape, hx, hy, hz, ux, uy, uz):
    """Give the distance in metres from a point (in unit space) to a shape; negative inside what is solid."""
    if shape == SPHERE or shape == DOME:
        # First-order distance of an ellipsoid: f / |grad f|.
        k0 = np.sqrt(ux * ux + uy * uy + uz * uz)
        gx, gy, gz = ux / hx, uy / hy, uz / hz
        k1 = np.sqrt(gx * gx + gy * gy + gz * gz)
        d = k0 * (k0 - 1.) / max(k1, 1e-9)
        return d if shape == SPHERE else -d
    if shape == CYLINDER:
        qx = (np.sqrt(ux * ux + uy * uy) - 1.) * min(hx, hy)
        qz = (abs(uz) - 1.) * hz
        return np.sqrt(max(qx, 0.)**2 + max(qz, 0.)**2) + min(max(qx, qz), 0.)
    if shape == PLANE:
        return uz * hz
    qx, qy, qz = (abs(ux) - 1.) * hx, (abs(uy) - 1.) * hy, (abs(uz) - 1.) * hz
    inner = min(max(qx, max(qy, qz)), 0.)
    if shape == ROOM:
        return -inner if inner < 0. else -np.sqrt(max(qx, 0.)**2 + max(qy, 0.)**2 + max(qz, 0.)**2)
    return np.sqrt(max(qx, 0.)**2 + max(qy, 0.)**2 + max(qz, 0.)**2) + inner


@_inlined
def place_in_unit(A, j, x, y, z):
    """Take a world point to shape j's unit space. A view A[j] would cost an atomic count of references."""
    return (A[j, 0, 0] * x + A[j, 0, 1] * y + A[j, 0, 2] * z + A[j, 0, 3],
            A[j, 1, 0] * x + A[j, 1, 1] * y + A[j, 1, 2] * z + A[j, 1, 3],
            A[j, 2, 0] * x + A[j, 2, 1] * y + A[j, 2, 2] * z + A[j, 2, 3])


@_inlined
def direction_in_unit(A, j, x, y, z):
    """Take a world direction to shape j's unit space."""
    return (A[j, 0, 0] * x + A[j, 0, 1] * y + A[j, 0, 2] * z,
            A[j, 1, 0] * x + A[j, 1, 1] * y + A[j, 1, 2] * z,
            A[j, 2, 0] * x + A[j, 2, 1] * y + A[j, 2, 2] * z)


@_jit
def clearance(points, shape, to_unit, half_size):
    """Give the distance [P] in metres from points [P, 3] to the nearest surface; negative inside what is solid."""
    out = np.empty(len(points))
    for i in range(len(points)):
        best = _FAR
        for j in range(len(shape)):
            ux, uy, uz = place_in_unit(to_unit, j, points[i, 0], points[i, 1], points[i, 2])
            best = min(best, _distance(shape[j], half_size[j, 0], half_size[j, 1], half_size[j, 2], ux, uy, uz))
        out[i] = best
    return out


@_jit
def _in_tile(order, rectangle, left, right, top, bottom, active):
    """List the shapes whose rectangle meets a tile of the image, in the given order; give how many there are."""
    count = 0
    for k in range(len(order)):
        j = order[k]
        if (rectangle[j, 0] <= right + 1. and rectangle[j, 1] >= left - 1.
                and rectangle[j, 2] <= bottom + 1. and rectangle[j, 3] >= top - 1.):
            active[count] = j
            count += 1
    return count


@_inlined
def _direction(K, R, x, y):
    """Give the direction (z-depth 1 long) in the world in which the camera sees a point of the image."""
    cx, cy = (x - K[2]) / K[0], (y - K[3]) / K[1]
    return (R[0, 0] * cx + R[0, 1] * cy + R[0, 2], R[1, 0] * cx + R[1, 1] * cy + R[1, 2],
            R[2, 0] * cx + R[2, 1] * cy + R[2, 2])


@_jit
def trace(first, last, offsets, K, R, eye, shape, to_unit, rectangle, near, order, z_depth, seen, t_hit, object_hit):
    """Find what rows first <= y < last of the image see.

    K holds (fx, fy, cx, cy); R, eye are the camera's pose; offsets [1 + S, 2] say where in a pixel to look, its centre
    first; `order` [N] sorts the shapes by the least depth `near` [N] at which they can be met, `rectangle` [N, 4] is
    the part of the image where they can be. Written: z_depth and seen [H, W] of the centres (object, -1 for none);
    t_hit and object_hit [rows, W, S] of the other rays.
    """
    n, width, best, found = len(shape), z_depth.shape[1], _FAR, -1
    origin, active = np.empty((n, 3)), np.empty(n, np.int64)
    for j in range(n):
        origin[j, 0], origin[j, 1], origin[j, 2] = place_in_unit(to_unit, j, eye[0], eye[1], eye[2])
    for left in range(0, width, _TILE):
        right = min(left + _TILE, width)
        count = _in_tile(order, rectangle, left, right - 1, first, last - 1, active)
        for row in range(first, last):
            for column in range(left, right):
                for ray in range(len(offsets)):
                    dx, dy, dz = _direction(K, R, column + offsets[ray, 0], row + offsets[ray, 1])
                    best, found = _FAR, -1
                    for k in range(count):
                        j = active[k]
                        if near[j] > best:
                            break
                        ux, uy, uz = direction_in_unit(to_unit, j, dx, dy, dz)
                        t = _hit(shape[j], origin[j, 0], origin[j, 1], origin[j, 2], ux, uy, uz)
                        if t < best:
                            best, found = t, j
                    if ray == 0:
                        z_depth[row, column] = best if found >= 0 else np.nan
                        seen[row, column] = found
                    else:
                        t_hit[row - first, column, ray - 1] = best
                        object_hit[row - first, column, ray - 1] = found


@_jit
def locate(first, last, offsets, K, R, eye, shape, to_unit, t_hit, object_hit, face_hit, place, normal):
    """Give where the rays of `trace` hit: face_hit [rows, W, S], place and normal [rows, W, S, 3] in the world."""
    for row in range(last - first):
        for column in range(t_hit.shape[1]):
            for ray in range(t_hit.shape[2]):
                j, t = object_hit[row, column, ray], t_hit[row, column, ray]
                if j < 0:
                    continue
                dx, dy, dz = _direction(K, R, column + offsets[ray + 1, 0], row + first + offsets[ray + 1, 1])
                x, y, z = eye[0] + t * dx, eye[1] + t * dy, eye[2] + t * dz
                ux, uy, uz = place_in_unit(to_unit, j, x, y, z)
                face = _face(shape[j], ux, uy, uz)
                mx, my, mz = _unit_normal(shape[j], face, ux, uy, uz)
                # Gradients go to the world by the transposed map.
                nx = to_unit[j, 0, 0] * mx + to_unit[j, 1, 0] * my + to_unit[j, 2, 0] * mz
                ny = to_unit[j, 0, 1] * mx + to_unit[j, 1, 1] * my + to_unit[j, 2, 1] * mz
                nz = to_unit[j, 0, 2] * mx + to_unit[j, 1, 2] * my + to_unit[j, 2, 2] * mz
                scale = 1. / np.sqrt(nx * nx + ny * ny + nz * nz)
                if shape[j] == PLANE and nx * dx + ny * dy + nz * dz > 0.:
                    scale = -scale
                face_hit[row, column, ray] = face
                place[row, column, ray, 0], normal[row, column, ray, 0] = x, nx * scale
                place[row, column, ray, 1], normal[row, column, ray, 1] = y, ny * scale
                place[row, column, ray, 2], normal[row, column, ray, 2] = z, nz * scale


@_jit
def illuminate(rows, shape, to_unit, half_size, centre, radius, grid_low, grid_cell, grid_cells, neighbours,
               ambient, reach, object_hit, face_hit, place, normal, cell_hit, lit):
    """Write the ambient light lit [rows, W, S, 3] that falls on the hits, and in which cell of the grid they are.

    The openness of a place (how far `reach` along its normal is from anything, by `reach`) dims it; rays of one pixel
    that hit one face share it. cell_hit [rows, W, S] is -1 outside the grid.
    """
    for row in range(rows):
        for column in range(object_hit.shape[1]):
            opened, last_j, last_face = -1., -1, -1
            for ray in range(object_hit.shape[2]):
                j, face = object_hit[row, column, ray], face_hit[row, column, ray]
                if j < 0:
                    continue
                nx, ny, nz = normal[row, column, ray, 0], normal[row, column, ray, 1], normal[row, column, ray, 2]
                x, y, z = place[row, column, ray, 0], place[row, column, ray, 1], place[row, column, ray, 2]
                ix = int(np.floor((x + OFFSET * nx - grid_low[0]) / grid_cell[0]))
                iy = int(np.floor((y + OFFSET * ny - grid_low[1]) / grid_cell[1]))
                iz = int(np.floor((z + OFFSET * nz - grid_low[2]) / grid_cell[2]))
                cell = -1
                if 0 <= ix < grid_cells[0] and 0 <= iy < grid_cells[1] and 0 <= iz < grid_cells[2]:
                    cell = (ix * grid_cells[1] + iy) * grid_cells[2] + iz
                cell_hit[row, column, ray] = cell
                if j != last_j or face != last_face:
                    opened = reach
                    x, y, z = x + reach * nx, y + reach * ny, z + reach * nz
                    for k in range(neighbours.shape[1] if cell >= 0 and shape[j] != DOME else 0):
                        i = neighbours[cell, k]
                        if i < 0:
                            break
                        vx, vy, vz = centre[i, 0] - x, centre[i, 1] - y, centre[i, 2] - z
                        far = radius[i] + opened
                        if shape[i] < PLANE and vx * vx + vy * vy + vz * vz > far * far:
                            continue
                        ux, uy, uz = place_in_unit(to_unit, i, x, y, z)
                        opened = min(opened, _distance(shape[i], half_size[i, 0], half_size[i, 1], half_size[i, 2],
                                                       ux, uy, uz))
                    opened = CLOSED + (1. - CLOSED) * max(opened, 0.) / reach
                    last_j, last_face = j, face
                sky = .5 + .5 * nz
                for c in range(3):
                    lit[row, column, ray, c] = opened * (ambient[0, c] * sky + ambient[1, c] * (1. - sky))


@_jit
def shine(rows, light, shape, to_unit, centre, radius, glossy, shaders, eye, spread, colour, fade, object_hit, place,
          normal, cell_hit, lit, gloss):
    """Add the light number `light` to lit [rows, W, S, 3], and its highlight to gloss [rows, W, S].

    `spread` [S, L, 3] are the points of the lights that the rays of a pixel look at; `shaders` [L, C, N] the shapes
    that may be in between (`candidates`).
    """
    for row in range(rows):
        for column in range(object_hit.shape[1]):
            for ray in range(object_hit.shape[2]):
                j, cell = object_hit[row, column, ray], cell_hit[row, column, ray]
                if j < 0:
                    continue
                nx, ny, nz = normal[row, column, ray, 0], normal[row, column, ray, 1], normal[row, column, ray, 2]
                x = place[row, column, ray, 0] + OFFSET * nx
                y = place[row, column, ray, 1] + OFFSET * ny
                z = place[row, column, ray, 2] + OFFSET * nz
                lx, ly, lz = spread[ray, light, 0] - x, spread[ray, light, 1] - y, spread[ray, light, 2] - z
                facing = lx * nx + ly * ny + lz * nz
                if facing <= 0.:
                    continue
                squared, t = lx * lx + ly * ly + lz * lz, _FAR
                for k in range(shaders.shape[2] if cell >= 0 else 0):
                    i = shaders[light, cell, k]
                    if i < 0:
                        break
                    # Most shapes are missed by far: their bounding sphere says so without a division.
                    vx, vy, vz = centre[i, 0] - x, centre[i, 1] - y, centre[i, 2] - z
                    px, py, pz = vy * lz - vz * ly, vz * lx - vx * lz, vx * ly - vy * lx
                    if px * px + py * py + pz * pz > radius[i] * radius[i] * squared:
                        continue
                    ox, oy, oz = place_in_unit(to_unit, i, x, y, z)
                    dx, dy, dz = direction_in_unit(to_unit, i, lx, ly, lz)
                    t = _hit(shape[i], ox, oy, oz, dx, dy, dz)
                    if t < 1.:
                        break
                if t < 1.:
                    continue
                away = np.sqrt(squared)
                power = facing / (away * (1. + squared * fade[light]))
                for c in range(3):
                    lit[row, column, ray, c] += power * colour[light, c]
                if glossy[j]:
                    ex, ey, ez = eye[0] - x, eye[1] - y, eye[2] - z
                    view = 1. / np.sqrt(ex * ex + ey * ey + ez * ez)
                    hx, hy, hz = lx / away + ex * view, ly / away + ey * view, lz / away + ez * view
                    half = (hx * nx + hy * ny + hz * nz) / np.sqrt(hx * hx + hy * hy + hz * hz)
                    gloss[row, column, ray] += power * max(half, 0.)**GLOSS_EXPONENT
