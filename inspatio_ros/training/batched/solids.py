# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Unit shapes in torch: what a ray meets, how far a point is, which face and which normal (scenes/shapes.py).

A vector is a tuple of three tensors that broadcast. Single precision is enough, because quadratic equations are solved
about the point of the ray that is nearest to the shape's middle instead of about the camera.
"""

from __future__ import annotations

import torch
from torch import Tensor

from inspatio_ros.scenes.shapes import BOX, CYLINDER, DOME, PLANE, ROOM, SPHERE

Vector = tuple[Tensor, Tensor, Tensor]

#: Where a ray goes that meets nothing.
FAR = 1e30


def dot(a: Vector, b: Vector) -> Tensor:
    """Multiply vectors."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def hit(kind: int, o: Vector, d: Vector) -> Tensor:
    """Give the parameter at which rays o + t d first meet a unit shape of one kind; FAR where they miss."""
    if kind in (BOX, ROOM):
        return _hit_cube(o, d, kind == ROOM)
    if kind in (SPHERE, DOME):
        return _hit_sphere(o, d, kind == DOME)
    if kind == CYLINDER:
        return _hit_cylinder(o, d)
    return torch.where(d[2] * o[2] < 0, -o[2] / d[2], FAR)


def slab(o: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
    """Give where rays enter and leave -1 <= x <= 1 along one axis."""
    inverse = torch.where(d.abs() > 1e-12, d, 1e-12).reciprocal()
    middle, half = -o * inverse, inverse.abs()
    return middle - half, middle + half


def _hit_cube(o: Vector, d: Vector, inside: bool) -> Tensor:
    near, far = slab(o[0], d[0])
    for axis in (1, 2):
        enter, leave = slab(o[axis], d[axis])
        near, far = torch.maximum(near, enter), torch.minimum(far, leave)
    t = far if inside else near
    return torch.where((near <= far) & (t > 0), t, FAR)


def _hit_sphere(o: Vector, d: Vector, inside: bool) -> Tensor:
    a = dot(d, d)
    middle = -dot(o, d) / a
    q = tuple(o[i] + middle * d[i] for i in range(3))
    rest = 1 - dot(q, q)
    root = (rest.clamp(min=0) / a).sqrt()
    t = middle + root if inside else middle - root
    return torch.where((rest >= 0) & (t > 0), t, FAR)


def _hit_cylinder(o: Vector, d: Vector) -> Tensor:
    a = (d[0] * d[0] + d[1] * d[1]).clamp(min=1e-24)
    middle = -(o[0] * d[0] + o[1] * d[1]) / a
    x, y = o[0] + middle * d[0], o[1] + middle * d[1]
    rest = 1 - x * x - y * y
    root = (rest.clamp(min=0) / a).sqrt()
    low, high = slab(o[2], d[2])
    near, far = torch.maximum(middle - root, low), torch.minimum(middle + root, high)
    return torch.where((rest >= 0) & (near <= far) & (near > 0), near, FAR)


def distance(kind: int, half: Vector, u: Vector) -> Tensor:
    """Give the distance in metres from points in unit space to a shape of half sizes; negative inside what is solid."""
    if kind in (SPHERE, DOME):
        k0 = dot(u, u).sqrt()
        gradient = tuple(u[i] / half[i] for i in range(3))
        d = k0 * (k0 - 1) / dot(gradient, gradient).sqrt().clamp(min=1e-9)
        return d if kind == SPHERE else -d
    if kind == PLANE:
        return u[2] * half[2]
    if kind == CYLINDER:
        x = ((u[0] * u[0] + u[1] * u[1]).sqrt() - 1) * torch.minimum(half[0], half[1])
        z = (u[2].abs() - 1) * half[2]
        return (x.clamp(min=0)**2 + z.clamp(min=0)**2).sqrt() + torch.maximum(x, z).clamp(max=0)
    q = tuple((u[i].abs() - 1) * half[i] for i in range(3))
    inner = torch.maximum(q[0], torch.maximum(q[1], q[2])).clamp(max=0)
    outer = sum(part.clamp(min=0)**2 for part in q).sqrt()
    return torch.where(inner < 0, -inner, -outer) if kind == ROOM else outer + inner


def face(shape: Tensor, u: Vector) -> Tensor:
    """Name the faces (-x, +x, -y, +y, -z, +z: 0 ... 5) on which points of unit shapes lie; a round one is 0."""
    x, y, z = (part.abs() for part in u)
    lid = 4 + (u[2] > 0).long()
    cube = torch.where((x > y) & (x > z), (u[0] > 0).long(), torch.where(y > z, 2 + (u[1] > 0).long(), lid))
    cylinder = torch.where(x * x + y * y > z * z, 0, lid)
    round_or_flat = torch.where(shape == PLANE, 5, 0)
    return torch.where((shape == BOX) | (shape == ROOM), cube, torch.where(shape == CYLINDER, cylinder, round_or_flat))


def unit_normal(shape: Tensor, side: Tensor, u: Vector) -> Vector:
    """Give the normals at points of unit shapes, towards the side that is seen."""
    ball, dome, round_side = shape == SPHERE, shape == DOME, (shape == CYLINDER) & (side == 0)
    sign = (2. * (side % 2) - 1) * torch.where(shape == ROOM, -1., 1.)
    axis = side // 2
    curved = torch.where(dome, -1., 1.)
    return tuple(torch.where(ball | dome | round_side, curved * (torch.where(round_side, 0., u[i]) if i == 2 else u[i]),
                             torch.where(axis == i, sign, 0.)) for i in range(3))
