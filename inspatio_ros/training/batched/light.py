# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Ambient light, lamps, shadows and highlights at the hits of a batch (scenes/shapes.py: illuminate, shine)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from inspatio_ros.scenes.grid import REACH
from inspatio_ros.scenes.shapes import CLOSED, DOME, GLOSS_EXPONENT, OFFSET, PLANE
from inspatio_ros.training.batched.pairs import bounds, by_kind, columns
from inspatio_ros.training.batched.solids import FAR, Vector, distance, dot, hit
from inspatio_ros.training.batched.world import World


@dataclass(frozen=True)
class Hits:
    """Where the rays of T tiles hit, S a pixel and P pixels: tensors [T, S, P].

    `view` [T]; `valid`, whether anything is hit; `solid` (0 where nothing is) and its `face`; `t`, the z-depth;
    `place` and `normal` in the world; `unit`, the place in the solid's unit space.
    """

    view: Tensor
    valid: Tensor
    solid: Tensor
    face: Tensor
    t: Tensor
    place: Vector
    normal: Vector
    unit: Vector

    @property
    def blocks(self) -> Tensor:
        """Give the view of every block of P points: [T * S]."""
        return self.view.repeat_interleave(self.valid.shape[1])


def illuminate(world: World, hits: Hits, pairs_at_once: int) -> tuple[Vector, Tensor]:
    """Give the light that falls on the hits, red, green and blue [T, S, P], and the strength of its highlights."""
    lifted = tuple(p + OFFSET * n for p, n in zip(hits.place, hits.normal, strict=True))
    near = world.in_grid(lifted)
    opened = _openness(world, hits, near, pairs_at_once)
    sky = .5 + .5 * hits.normal[2]
    above, below = world.ambient
    lit = [opened * (above[c] * sky + below[c] * (1 - sky)) for c in range(3)]
    gloss = torch.zeros_like(opened)
    for light in range(len(world.colour)):
        _add_light(world, hits, light, lifted, near, lit, gloss, pairs_at_once)
    return tuple(lit), gloss


def _openness(world: World, hits: Hits, near: Tensor, pairs_at_once: int) -> Tensor:
    """Say how open hits are: how far REACH along their normal is from anything, by REACH.

    Rays of one pixel that hit one face, one after the other, share the first one's.
    """
    first, source = _runs(hits)
    needed = (first & near & (world.shape[hits.solid] != DOME)).flatten(0, 1)
    points = tuple((p + REACH * n).flatten(0, 1) for p, n in zip(hits.place, hits.normal, strict=True))
    centre, radius = bounds(points, needed)
    away = (world.centre[hits.blocks] - centre[:, None]).norm(dim=-1)
    wanted = (away < world.radius + radius[:, None] + REACH) | (world.shape >= PLANE)
    wanted &= (world.shape != DOME) & (radius >= 0)[:, None]
    opened = torch.full_like(points[0], REACH)
    for kind, block, solid in by_kind(wanted, world.kinds, pairs_at_once):
        view, at = hits.blocks[block], tuple(part[block] for part in points)
        d = distance(kind, columns(world.half_size[solid]), world.to_unit(view, solid, at))
        if kind < PLANE:
            v = tuple(c - part for c, part in zip(columns(world.centre[view, solid]), at, strict=True))
            d = torch.where(dot(v, v) > (world.radius[solid, None] + REACH)**2, REACH, d)
        opened.scatter_reduce_(0, block[:, None].expand_as(d), d, 'amin')
    opened = torch.where(needed, opened, REACH).view_as(hits.t).gather(1, source)
    return CLOSED + (1 - CLOSED) * opened.clamp(min=0) / REACH


def _runs(hits: Hits) -> tuple[Tensor, Tensor]:
    """Find the first of the rays of a pixel that hit one face in a row: (is it one, the first one's number)."""
    first, source = torch.empty_like(hits.valid), torch.zeros_like(hits.solid)
    last, number = torch.full_like(hits.solid[:, 0], -1), torch.zeros_like(hits.solid[:, 0])
    for ray in range(hits.valid.shape[1]):
        name = hits.solid[:, ray] * 8 + hits.face[:, ray]
        first[:, ray] = hits.valid[:, ray] & (name != last)
        number = torch.where(first[:, ray], ray, number)
        last = torch.where(hits.valid[:, ray], name, last)
        source[:, ray] = number
    return first, source


def _add_light(world: World, hits: Hits, light: int, lifted: Vector, near: Tensor, lit: list[Tensor], gloss: Tensor,
               pairs_at_once: int) -> None:
    """Add one light to `lit`, and its highlight to `gloss`, where nothing is in between."""
    to_light = tuple(world.spread[:, light, i, None] - lifted[i] for i in range(3))
    facing = dot(to_light, hits.normal)
    seen = hits.valid & (facing > 0)
    seen = seen & ~_shadowed(world, hits, light, lifted, to_light, seen & near, pairs_at_once)
    squared = dot(to_light, to_light)
    away = squared.sqrt()
    power = torch.where(seen, facing / (away * (1 + squared * world.fade[light])), 0.)
    for c in range(3):
        lit[c] += power * world.colour[light, c]
    if not bool(world.glossy.any()):
        return
    where = torch.nonzero(seen & world.glossy[hits.solid], as_tuple=True)
    eye = world.eye[hits.view[where[0]]]
    to_eye = tuple(eye[:, i] - lifted[i][where] for i in range(3))
    nearness = 1 / dot(to_eye, to_eye).sqrt()
    half = tuple(to_light[i][where] / away[where] + to_eye[i] * nearness for i in range(3))
    cosine = dot(half, tuple(part[where] for part in hits.normal)) / dot(half, half).sqrt()
    gloss[where] += power[where] * cosine.clamp(min=0)**GLOSS_EXPONENT


def _shadowed(world: World, hits: Hits, light: int, lifted: Vector, to_light: Vector, needed: Tensor,
              pairs_at_once: int) -> Tensor:
    """Say where a solid is between a hit and a light: bool [T, S, P]."""
    needed = needed.flatten(0, 1)
    points, rays = (tuple(part.flatten(0, 1) for part in vector) for vector in (lifted, to_light))
    centre, radius = bounds(points, needed)
    wanted = world.may_shade(hits.blocks, centre, radius, light)
    nearest = torch.full_like(points[0], FAR)
    for kind, block, solid in by_kind(wanted, world.kinds, pairs_at_once):
        view = hits.blocks[block]
        o = world.to_unit(view, solid, tuple(part[block] for part in points))
        d = world.to_unit(view, solid, tuple(part[block] for part in rays), is_direction=True)
        t = hit(kind, o, d)
        nearest.scatter_reduce_(0, block[:, None].expand_as(t), t, 'amin')
    return ((nearest < 1) & needed).view_as(hits.valid)
