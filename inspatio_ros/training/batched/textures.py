# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The procedural textures in torch (scenes/textures.py): one function a pattern, over all points that show it.

Every pattern gives (a, b, tone, hue) as there: the first of the material's colours mixed with a of the second, and that
with b of the third, times the tone; or, where hue is not negative, a colour of the rainbow.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from math import pi

import torch
from torch import Tensor

from inspatio_ros.scenes.shapes import CYLINDER, DOME, SPHERE
from inspatio_ros.scenes.textures import LATTICE, LATTICE_SIZE, NO_HUE, Pattern
from inspatio_ros.training.batched.solids import Vector

Look = tuple[Tensor, Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class Surface:
    """Points [M] of one pattern: their place and their material's numbers.

    `q` in the solid's own frame, (u, v) along the surface and `width` of a sample are in features (metres / scale);
    (s, t) in [0, 1] on the face; `scale`, `aspect` and `seed` (int64) are the material's.
    """

    q: Vector
    u: Tensor
    v: Tensor
    s: Tensor
    t: Tensor
    width: Tensor
    scale: Tensor
    aspect: Tensor
    seed: Tensor

    @property
    def shift(self) -> Tensor:
        """Where the material's noise begins."""
        return 3.7 * (self.seed % 97)


def place(shape: Tensor, face: Tensor, half: Vector, u: Vector) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Give the places on surfaces: (u, v) in metres and (s, t) in [0, 1] on the face, upright and not mirrored."""
    standing = (shape == CYLINDER) & (face == 0)
    is_round = (shape == SPHERE) | (shape == DOME) | standing
    angle = torch.atan2(u[1], u[0])
    high = torch.where(standing, u[2], 2 / pi * torch.asin(u[2].clamp(-1, 1)))
    along = angle * torch.maximum(half[0], half[1])
    up = high * half[2] * torch.where(standing, 1., pi / 2)
    # Across the face: -y, y, x, -x, and x on what is flat.
    across = torch.where(face == 0, -u[1], torch.where(face == 1, u[1], torch.where(face == 3, -u[0], u[0])))
    wide = torch.where(face <= 1, half[1], half[0])
    flat = face > 3
    rise, tall = torch.where(flat, u[1], u[2]), torch.where(flat, half[1], half[2])
    return (torch.where(is_round, along, across * wide), torch.where(is_round, up, rise * tall),
            .5 + torch.where(is_round, angle / (2 * pi), .5 * across),
            .5 + .5 * torch.where(is_round, high, rise))


def grain(strength: Tensor, q: Vector, width: Tensor) -> Tensor:
    """Give the tone of fine dirt and of broad unevenness; `q` and `width` in metres."""
    x, y, z = q
    fine = 1 + strength * (2 * octaves(23 * x + 3, 23 * y, 23 * z, 23 * width, 1) - 1)
    broad = 1 + strength * (2 * noise(1.7 * x, 1.7 * y + 5, 1.7 * z) - 1)
    return torch.where(strength > 0, fine * broad, 1.)


def rainbow(hue: Tensor) -> Tensor:
    """Give the red of vivid colours; green is the red of a hue a third less, blue of two thirds less."""
    away = (hue - (hue + .5).floor()).abs()
    red = (2 - 6 * away).clamp(0, 1)
    return .08 + .75 * red * red


def look(pattern: int, at: Surface) -> Look:
    """Give what a pattern shows at points."""
    return tuple(torch.as_tensor(part, dtype=at.u.dtype, device=at.u.device).expand(at.u.shape)
                 for part in _PATTERNS[pattern](at))


# --- parts ------------------------------------------------------------------------------------------------------------


def hashed(ix: Tensor, iy: Tensor | int, seed: Tensor | int) -> Tensor:
    """Hash two cell numbers to [0, 1)."""
    h = (ix * 374761393 + iy * 668265263 + seed * 1274126177) & 0xFFFFFFFF
    h = ((h ^ (h >> 15)) * 0x2C1B3C6D) & 0xFFFFFFFF
    h = ((h ^ (h >> 12)) * 0x297A2D39) & 0xFFFFFFFF
    return ((h ^ (h >> 15)) & 0xFFFFFF).to(torch.float32) / 16777216


@lru_cache(maxsize=4)
def _lattice(device: torch.device) -> Tensor:
    return torch.from_numpy(LATTICE.reshape(-1)).to(device)


def noise(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    """Value noise in [0, 1], trilinear with smoothed steps, one feature a unit."""
    lattice, mask = _lattice(x.device), LATTICE_SIZE - 1
    floors = [part.floor() for part in (x, y, z)]
    (x0, y0, z0), (x1, y1, z1) = ([(floor.int() + step) & mask for floor in floors] for step in (0, 1))
    x, y, z = (part - floor for part, floor in zip((x, y, z), floors, strict=True))
    x, y, z = (part * part * (3 - 2 * part) for part in (x, y, z))

    def line(ix: Tensor, iy: Tensor) -> Tensor:
        row = (ix * LATTICE_SIZE + iy) * LATTICE_SIZE
        return lattice[row + z0] * (1 - z) + lattice[row + z1] * z

    near = line(x0, y0) * (1 - y) + line(x0, y1) * y
    return near * (1 - x) + (line(x1, y0) * (1 - y) + line(x1, y1) * y) * x


def octaves(x: Tensor, y: Tensor, z: Tensor, width: Tensor, count: int) -> Tensor:
    """Fractal noise in [0, 1] around 0.5; octaves finer than a sample's width are left out."""
    total, weight, amplitude = torch.zeros_like(x), 0., 1.
    for _ in range(count):
        fade = (2 - 3 * width).clamp(0, 1)
        total = total + amplitude * fade * (noise(x, y, z) - .5)
        weight += amplitude
        x, y, z, width = 2.03 * x + 7.1, 2.03 * y + 3.7, 2.03 * z + 5.3, 2.03 * width
        amplitude *= .55
    return (.5 + 1.6 * total / weight).clamp(0, 1)


def step(x: Tensor, width: Tensor) -> Tensor:
    """Step from 0 to 1 at x = 0, as wide as a sample."""
    return (x / width.clamp(min=1e-9) + .5).clamp(0, 1)


def wave(x: Tensor, width: Tensor) -> Tensor:
    """Square wave of period 1, 1 in its first half; fades to its mean when a sample covers a period."""
    x = x - x.floor()
    sharp = step(.25 - (x - .25).abs(), width) + step(.25 - (x - 1.25).abs(), width)
    return .5 + (2 - 2.5 * width).clamp(0, 1) * (sharp - .5)


def joint(x: Tensor, part: Tensor | float, width: Tensor) -> Tensor:
    """Give 1 within `part` of a whole number (a joint between cells), 0 elsewhere, fading to its mean."""
    x = x - x.floor()
    edge = torch.minimum(x, 1 - x)
    return 2 * part + (2 - 2 * width).clamp(0, 1) * (step(part - edge, width) - 2 * part)


def _whole(x: Tensor) -> Tensor:
    return x.floor().long()


# --- patterns ---------------------------------------------------------------------------------------------------------


def _plain(at: Surface) -> tuple:
    return 0., 0., 1., NO_HUE


def _noise(at: Surface) -> tuple:
    a = octaves(at.q[0] + at.shift, at.q[1], at.q[2], at.width, 4)
    return a, (2.5 * a - 1.6).clamp(min=0), 1., NO_HUE


def _checker(at: Surface) -> tuple:
    a, b = wave(.5 * at.u, .5 * at.width), wave(.5 * at.v / at.aspect, .5 * at.width / at.aspect)
    return a + b - 2 * a * b, 0., 1., NO_HUE


def _stripes(at: Surface) -> tuple:
    thin = wave(2 * at.u + at.aspect * at.v, 2 * at.width)
    return wave(.5 * at.u + .25 * at.aspect * at.v, .5 * at.width), .35 * thin, 1., NO_HUE


def _bricks(at: Surface) -> tuple:
    row = _whole(at.v / at.aspect)
    return _jointed(at, row, at.u + .5 * (row & 1), .03, .03 / at.aspect)


def _tiles(at: Surface) -> tuple:
    return _jointed(at, _whole(at.v / at.aspect), at.u, .018, .018 / at.aspect)


def _planks(at: Surface) -> tuple:
    row = _whole(at.v / at.aspect)
    along = at.u + hashed(row, 11, at.seed)
    own, between, tone, hue = _jointed(at, row, along, .008, .02, even=False)
    thin = at.width / at.aspect
    streaks = octaves(1.3 * along + 9 * own, 12 * at.v / at.aspect, 5 * own, 12 * thin, 2)
    tone = tone * (.75 + .5 * streaks)
    return own, between, tone + between * (1 - tone), hue


def _jointed(at: Surface, row: Tensor, along: Tensor, part: float, part_across: Tensor | float,
             even: bool = True) -> tuple:
    """Give cells of a tone of their own with joints around them; `even`: joints do not take part in the tones."""
    own = hashed(_whole(along), row, at.seed)
    between = torch.maximum(joint(along, part, at.width),
                            joint(at.v / at.aspect, part_across, at.width / at.aspect))
    tone = .75 + .5 * own
    return own, between, tone + between * (1 - tone) if even else tone, NO_HUE


def _facade(at: Surface) -> tuple:
    row = (at.v / at.aspect).floor()
    own = hashed(_whole(at.u), row.long(), at.seed)
    x, y = at.u - at.u.floor(), at.v / at.aspect - row
    glass = step(.28 - (x - .5).abs(), at.width) * step(.32 - (y - .5).abs(), at.width / at.aspect)
    glass = glass * (2 - 2 * at.width).clamp(0, 1)
    return .25 * own, glass, 1 - .5 * glass * own, NO_HUE


def _poster(at: Surface) -> tuple:
    s, t, seed = at.s, at.t, at.seed
    hue = hashed(seed, 1, 3)
    horizon = .25 + .3 * hashed(seed, 4, 3) + .06 * torch.sin(9 * s + 6 * hue)
    low = t < horizon
    # From what lies behind to what covers it: sky and ground, the disc, blocks, a line of writing, the frame.
    tone = torch.where(low, (.5 + .8 * t) * (1 - .4 * wave(6 * s + 4 * t, 6 * at.width)), .35 + .65 * t)
    shown = torch.where(low, (hue + .4) % 1, hue)
    x, y = s - (.3 + .4 * hashed(seed, 2, 3)), t - (.35 + .35 * hashed(seed, 3, 3))
    disc = x * x + y * y < .17**2
    tone, shown = torch.where(disc, 1.3, tone), torch.where(disc, (hue + .15) % 1, shown)
    cx, cy = (5 * s).long(), (7 * t).long()
    block = hashed(cx, cy, seed) < .13
    tone, shown = torch.where(block, .8, tone), torch.where(block, hashed(cy, cx, seed), shown)
    written = (t > .07) & (t < .15) & (s > .1) & (s < .9)
    ink = torch.where(hashed((40 * s).long(), (60 * t).long(), seed) < .6, .9, .1)
    frame = torch.minimum(torch.minimum(s, 1 - s), torch.minimum(t, 1 - t)) < .04
    tone = torch.where(frame, 1., torch.where(written, ink, tone))
    return 0., (written | frame).to(tone), tone, torch.where(written | frame, NO_HUE, shown)


def _books(at: Surface) -> tuple:
    seed, shelf = at.seed, (at.v / at.aspect).floor()
    y = at.v / at.aspect - shelf
    shelf, along = shelf.long(), 7 * at.u / at.aspect
    book = _whole(along)
    book = book - (along - book < .45 * hashed(book, shelf, seed + 1)).long()
    own = hashed(book, shelf, seed)
    vivid = own < .4
    a = torch.where(vivid, 0., (own - .4) / .6)
    tone = torch.where(vivid, .55, .5 + hashed(book, 5, seed))
    band = (y - .3 - .3 * own).abs() < .05
    a, tone = torch.where(band, 1., a), torch.where(band, 1.2, tone)
    above = y > .63 + .37 * hashed(book, shelf, seed + 2)
    board = (y < .08) | (y > .97)
    tone = torch.where(board, 1., torch.where(above, .3, tone))
    empty = board | above
    return (torch.where(empty, 0., a), empty.to(tone), tone,
            torch.where(vivid & ~band & ~empty, 2.5 * own, NO_HUE))


def _wood(at: Surface) -> tuple:
    ring = octaves(at.q[0] + at.shift, 6 * at.q[1], 6 * at.q[2], 6 * at.width, 3)
    return .5 + .5 * torch.sin(22 * ring), .3 * ring, .8 + .4 * ring, NO_HUE


def _marble(at: Surface) -> tuple:
    vein = octaves(at.q[0] + at.shift, at.q[1], at.q[2], at.width, 4)
    line = 1 - ((vein - .5).abs() * 9).clamp(max=1)
    return line * line, .5 * vein, 1., NO_HUE


def _dots(at: Surface) -> tuple:
    x, y = at.u - at.u.floor() - .5, at.v - at.v.floor() - .5
    dot = step(.32 - (x * x + y * y).sqrt(), at.width)
    fade = (2 - 2 * at.width).clamp(0, 1)
    own = (hashed(_whole(at.u), _whole(at.v), at.seed) < .35).to(dot)
    return .32 + fade * (dot - .32), dot * fade * own, 1., NO_HUE


def _clouds(at: Surface) -> tuple:
    # q is a direction by the scale: height drives the gradient, noise the clouds.
    up = (at.q[2] * at.scale).clamp(0, 1)
    cloud = octaves(at.q[0] + at.shift, at.q[1], 2.5 * at.q[2], torch.zeros_like(up), 4)
    return up.sqrt(), (3.5 * cloud - 1.75).clamp(0, 1), 1., NO_HUE


def _stones(at: Surface) -> tuple:
    ix, iy = _whole(at.u), _whole(at.v)
    first, second, own = torch.full_like(at.u, 9.), torch.full_like(at.u, 9.), torch.zeros_like(at.u)
    for cx in (ix - 1, ix, ix + 1):
        for cy in (iy - 1, iy, iy + 1):
            dx = cx + .15 + .7 * hashed(cx, cy, at.seed) - at.u
            dy = cy + .15 + .7 * hashed(cx, cy, at.seed + 1) - at.v
            d = dx * dx + dy * dy
            nearer = d < first
            own = torch.where(nearer, hashed(cx, cy, at.seed + 2), own)
            second = torch.where(nearer, first, torch.minimum(second, d))
            first = torch.where(nearer, d, first)
    gap = second.sqrt() - first.sqrt()
    between = step(.1 - gap, at.width + .03) * (2 - 2 * at.width).clamp(0, 1)
    return own, between, .75 + .5 * own, NO_HUE


def _text(at: Surface) -> tuple:
    line = at.v.floor()
    y, line = at.v - line, line.long()
    word = hashed(_whole(.45 * at.u + .5 * hashed(line, 3, at.seed)), line, at.seed) < .72
    glyph = hashed(_whole(2.6 * at.u), line, at.seed + 1)
    inked = word & (y > .25) & (y < .7) & (hashed(line, 7, at.seed) < .85)
    ink = torch.where(inked, torch.where((glyph < .7) | (y < .5), .9, .3), 0.)
    return .3 + (2 - 3 * at.width).clamp(0, 1) * (ink - .3), 0., 1., NO_HUE


def _weave(at: Surface) -> tuple:
    a, b = wave(at.u, at.width), wave(at.v, at.width)
    return torch.where((_whole(2 * at.v) & 1) > 0, a, 1 - a), .25 * b, 1., NO_HUE


_PATTERNS: dict[int, Callable[[Surface], tuple]] = {
    Pattern.PLAIN: _plain, Pattern.NOISE: _noise, Pattern.CHECKER: _checker, Pattern.STRIPES: _stripes,
    Pattern.BRICKS: _bricks, Pattern.PLANKS: _planks, Pattern.TILES: _tiles, Pattern.POSTER: _poster,
    Pattern.BOOKS: _books, Pattern.WOOD: _wood, Pattern.MARBLE: _marble, Pattern.FACADE: _facade, Pattern.DOTS: _dots,
    Pattern.CLOUDS: _clouds, Pattern.STONES: _stones, Pattern.TEXT: _text, Pattern.WEAVE: _weave,
    # Its colours are the photograph's (photographs.py), with the tone of what is plain.
    Pattern.IMAGE: _plain}
