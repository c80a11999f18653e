# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Cast all views of a batch at once, on a CPU or a GPU: the images of scenes/raycast.py, its slow-but-sure twin.

Images are cut into tiles. Of every tile it is known which solids can be seen there, near its hits, or between them and
a light; so each step is a few large operations over (tile, solid) pairs, one kind of solid after the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from inspatio_ros.geometry import PinholeCamera
from inspatio_ros.scenes import textures as names
from inspatio_ros.scenes.scene import Scene
from inspatio_ros.scenes.shapes import DOME, PLANE
from inspatio_ros.scenes.textures import SRGB_RANGE, SRGB_STEPS, make_srgb_table
from inspatio_ros.training.batched import textures
from inspatio_ros.training.batched.light import Hits, illuminate
from inspatio_ros.training.batched.pairs import by_kind, columns
from inspatio_ros.training.batched.photographs import photograph
from inspatio_ros.training.batched.solids import FAR, dot, face, hit, unit_normal
from inspatio_ros.training.batched.world import World

#: Pixels along the side of a tile.
TILE = 8
#: Rays in work at once, by the kind of device; a ray takes about 0.4 kB.
RAYS_AT_ONCE = {'cpu': 2**17, 'cuda': 2**22}
_LOW_BITS = 0xFFFFFFFF


@dataclass(frozen=True)
class Images:
    """True views on one device: image uint8 [B, H, W, 3], z_depth float32 [B, H, W] (NaN: nothing), moving bool."""

    image: Tensor
    z_depth: Tensor
    moving: Tensor


@torch.no_grad()
def cast(scene: Scene, camera: PinholeCamera, T_world_camera: np.ndarray, times: np.ndarray, samples: int = 1,
         device: torch.device | str = 'cpu', rays_at_once: int | None = None) -> Images:
    """Look at a scene from poses [B, 4, 4] at times [B] in seconds, samples x samples rays a pixel.

    Memory is bounded by `rays_at_once`, whatever the batch. Depth is that of pixel centres.
    """
    device, T_world_camera = torch.device(device), np.asarray(T_world_camera, dtype=np.float64)
    if T_world_camera.shape[1:] != (4, 4) or len(T_world_camera) != len(times):
        raise ValueError(f'poses [B, 4, 4] and times [B] are wanted, got {T_world_camera.shape} and {np.shape(times)}')
    rays_at_once = rays_at_once or RAYS_AT_ONCE.get(device.type, RAYS_AT_ONCE['cuda'])
    world = World(scene, camera, T_world_camera, np.asarray(times), samples, device)
    tiles = _Tiles(camera, len(times), device)
    together = max(rays_at_once // (TILE * TILE * len(world.offsets)), 1)
    parts = [_cast_tiles(world, tiles, start, min(start + together, len(tiles)), rays_at_once)
             for start in range(0, len(tiles), together)]
    return Images(*(tiles.assemble(torch.cat(part)) for part in zip(*parts, strict=True)))


class _Tiles:
    """The tiles of a batch of images, counted through: pixels beyond the right and lower edges are cut off again."""

    def __init__(self, camera: PinholeCamera, views: int, device: torch.device) -> None:
        self._camera, self._views = camera, views
        self._rows, self._columns = -(-camera.height // TILE), -(-camera.width // TILE)
        self._pixel = torch.arange(TILE, device=device)

    def __len__(self) -> int:
        return self._views * self._rows * self._columns

    def corners(self, number: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Give view, left and top of tiles [T]."""
        return (number // (self._rows * self._columns), number % self._columns * TILE,
                number // self._columns % self._rows * TILE)

    def rays(self, left: Tensor, top: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
        """Give x and y of K^-1 (column, row, 1) for rays [T, S, P] at offsets [S, 2] from the pixels' centres."""
        camera, ones = self._camera, torch.ones_like(self._pixel)
        x = left[:, None, None] + (ones[:, None] * self._pixel).flatten() + offsets[:, 0, None]
        y = top[:, None, None] + (self._pixel[:, None] * ones).flatten() + offsets[:, 1, None]
        return (x - camera.cx) / camera.fx, (y - camera.cy) / camera.fy

    def width(self, samples: int) -> float:
        """Give the width of a ray's share of the image at depth 1."""
        return 1 / (samples * self._camera.fx)

    def assemble(self, tiles: Tensor) -> Tensor:
        """Put tiles [views * rows * columns, P, ...] together to images [views, H, W, ...]."""
        whole = tiles.view(self._views, self._rows, self._columns, TILE, TILE, *tiles.shape[2:]).transpose(2, 3)
        whole = whole.reshape(self._views, self._rows * TILE, self._columns * TILE, *tiles.shape[2:])
        return whole[:, :self._camera.height, :self._camera.width].contiguous()


def _cast_tiles(world: World, tiles: _Tiles, first: int, last: int, rays_at_once: int) -> tuple[Tensor, ...]:
    """Give image [T, P, 3], z_depth and moving [T, P] of some tiles."""
    view, left, top = tiles.corners(torch.arange(first, last, device=world.shape.device))
    rays = tiles.rays(left, top, world.offsets)
    t, solid = _trace(world, view, left, top, rays, rays_at_once)
    z_depth, seen = t[:, 0], solid[:, 0]
    hits = _locate(world, view, tuple(part[:, 1:] for part in rays), t[:, 1:], solid[:, 1:])
    pairs_at_once = max(rays_at_once // (TILE * TILE), 1)
    lit, gloss = illuminate(world, hits, pairs_at_once)
    samples = round(hits.valid.shape[1]**.5)
    image = _shade(world, hits, lit, gloss, tiles.width(samples))
    return image, torch.where(seen >= 0, z_depth, torch.nan), (seen >= 0) & world.moves[seen.clamp(min=0)]


def _trace(world: World, view: Tensor, left: Tensor, top: Tensor, rays: tuple[Tensor, Tensor],
           rays_at_once: int) -> tuple[Tensor, Tensor]:
    """Find what rays hit first: t and solid [T, S, P], -1 for none."""
    x, y = (part.flatten(1) for part in rays)
    rectangle = world.rectangle[view]
    wanted = ((rectangle[..., 0] <= left[:, None] + TILE) & (rectangle[..., 1] >= left[:, None] - 1)
              & (rectangle[..., 2] <= top[:, None] + TILE) & (rectangle[..., 3] >= top[:, None] - 1))
    # The bits of positive numbers rise with them: depth above, the solid's rank below, and the least is the first hit.
    best = torch.full(x.shape, _bits(torch.tensor(FAR)).item() << 32, device=x.device)
    for kind, tile, solid in by_kind(wanted, world.kinds, max(rays_at_once // x.shape[1], 1)):
        m = columns(world.rays[view[tile], solid].flatten(1))
        d = tuple(m[3 * i] * x[tile] + m[3 * i + 1] * y[tile] + m[3 * i + 2] for i in range(3))
        t = hit(kind, columns(world.origin[view[tile], solid]), d)
        key = _bits(t) << 32 | world.rank[view[tile], solid][:, None]
        best.scatter_reduce_(0, tile[:, None].expand_as(key), key, 'amin')
    t = (best >> 32).int().view(torch.float32)
    solid = world.order[view[:, None], best & _LOW_BITS]
    return t.view_as(rays[0]), torch.where(t < FAR, solid, -1).view_as(rays[0])


def _bits(t: Tensor) -> Tensor:
    return t.view(torch.int32).long()


def _locate(world: World, view: Tensor, rays: tuple[Tensor, Tensor], t: Tensor, solid: Tensor) -> Hits:
    """Give where rays hit."""
    valid, solid = solid >= 0, solid.clamp(min=0)
    t = torch.where(valid, t, 1.)
    x, y = rays
    which = view[:, None, None].expand_as(solid)
    m = world.rays[which, solid].flatten(3).unbind(-1)
    origin = world.origin[which, solid].unbind(-1)
    unit = tuple(origin[i] + t * (m[3 * i] * x + m[3 * i + 1] * y + m[3 * i + 2]) for i in range(3))
    turn, eye = world.turn[view][..., None, None], world.eye[view][..., None, None]
    d = tuple(turn[:, i, 0] * x + turn[:, i, 1] * y + turn[:, i, 2] for i in range(3))
    place = tuple(eye[:, i] + t * d[i] for i in range(3))
    shape = world.shape[solid]
    side = face(shape, unit)
    # Gradients go to the world by the transposed map.
    n, back = unit_normal(shape, side, unit), world.maps[which, solid].flatten(3).unbind(-1)
    normal = tuple(back[i] * n[0] + back[4 + i] * n[1] + back[8 + i] * n[2] for i in range(3))
    scale = 1 / dot(normal, normal).sqrt()
    scale = torch.where((shape == PLANE) & (dot(normal, d) > 0), -scale, scale)
    return Hits(view, valid, solid, side, t, place, tuple(part * scale for part in normal), unit)


def _shade(world: World, hits: Hits, lit: tuple[Tensor, ...], gloss: Tensor, pixel: float) -> Tensor:
    """Give the image uint8 [T, P, 3]; `pixel` is the width of a ray's share of it at depth 1."""
    where = torch.nonzero(hits.valid, as_tuple=True)
    solid, side, t = (part[where] for part in (hits.solid, hits.face, hits.t))
    unit = tuple(part[where] for part in hits.unit)
    material, shape, half = world.material[solid, side], world.shape[solid], world.half_size[solid].unbind(-1)
    places = textures.place(shape, side, half, unit)
    q = tuple(torch.where(shape == DOME, part, part * size) for part, size in zip(unit, half, strict=True))
    width, numbers = pixel * t, world.numbers[material]
    own, tone = _own_colours(world, material, q, places, width)
    tone = tone * textures.grain(numbers[:, names.GRAIN], q, width)
    glow, shine = numbers[:, names.EMISSION], numbers[:, names.SPECULAR] * gloss[where]
    linear = []
    for c in range(3):
        light = lit[c][where]
        shown = torch.full_like(hits.t, float(world.background[c]))
        shown[where] = tone * own[c] * (light + glow * (1 - light)) + shine
        linear.append(shown.sum(dim=1))
    scale = SRGB_STEPS / (SRGB_RANGE * hits.t.shape[1])
    index = (torch.stack(linear, dim=-1) * scale).long().clamp(0, SRGB_STEPS - 1)
    return _srgb_table(index.device)[index]


def _own_colours(world: World, material: Tensor, q: tuple[Tensor, ...], places: tuple[Tensor, ...],
                 width: Tensor) -> tuple[list[Tensor], Tensor]:
    """Give the colours (three [M]) of points and their tone [M], before light and grain."""
    pattern, (u, v, s, t) = world.pattern[material], places
    look = [torch.zeros_like(width) for _ in range(4)]
    photographed = []
    for kind in world.patterns:
        where = torch.nonzero(pattern == kind)[:, 0]
        which = material[where]
        scale = world.numbers[which, names.SCALE]
        at = textures.Surface(tuple(part[where] / scale for part in q), u[where] / scale, v[where] / scale, s[where],
                              t[where], width[where] / scale, scale, world.numbers[which, names.ASPECT],
                              world.seed[which])
        if kind == names.Pattern.IMAGE:
            photographed.append((where, photograph(world.photographs, at)))
        for part, values in zip(look, textures.look(kind, at), strict=True):
            part[where] = values
    a, b, tone, hue = look
    own = []
    for c in range(3):
        first, second, third = world.colours[material, :, c].unbind(-1)
        mixed = first + a * (second - first)
        mixed = mixed + b * (third - mixed)
        own.append(torch.where(hue >= 0, textures.rainbow(hue - c / 3), mixed))
        for where, colour in photographed:
            own[c][where] = colour[:, c]
    return own, tone


@lru_cache(maxsize=4)
def _srgb_table(device: torch.device) -> Tensor:
    return torch.from_numpy(make_srgb_table()).to(device)
