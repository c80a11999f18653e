# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The shading pass of the ray caster: procedural textures, evaluated where the rays hit, and the final image.

A texture mixes the three linear colours of its material. It is given the place on the surface in metres (u along,
v up; q in 3D), the place in [0, 1] on the face, and the width that a sample covers there, so that details finer than
a sample fade to their mean instead of flickering.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from inspatio_ros.compiled import compiled
from inspatio_ros.scenes.shapes import CYLINDER, DOME, SPHERE


class Pattern(IntEnum):
    """What a material looks like."""

    PLAIN = 0
    NOISE = 1
    CHECKER = 2
    STRIPES = 3
    BRICKS = 4
    PLANKS = 5
    TILES = 6
    POSTER = 7
    BOOKS = 8
    WOOD = 9
    MARBLE = 10
    FACADE = 11
    DOTS = 12
    CLOUDS = 13
    STONES = 14
    TEXT = 15
    WEAVE = 16
    #: A photograph of the scene's (scenes/photographs.py), tiled with every other tile mirrored.
    IMAGE = 17


(PLAIN, NOISE, CHECKER, STRIPES, BRICKS, PLANKS, TILES, POSTER, BOOKS, WOOD, MARBLE, FACADE, DOTS, CLOUDS, STONES,
 TEXT, WEAVE, IMAGE) = (int(pattern) for pattern in Pattern)

#: Columns of a material's numbers.
SCALE, ASPECT, GRAIN, SEED, SPECULAR, EMISSION = range(6)

LATTICE_SIZE = 32
#: The random values between which noise is interpolated. (A constant of the compiled code, as all that helpers need is
#: passed by value: arrays that are passed to a function cost an atomic count of references each.)
LATTICE = np.random.default_rng(20260).random((LATTICE_SIZE,) * 3, dtype=np.float32)
#: A texture is the mix of its material's colours, unless it names a hue in [0, 1).
NO_HUE = -1.
SRGB_STEPS = 16384
SRGB_RANGE = 2.

_jit = compiled()
_inlined = compiled(forceinline=True)


def make_srgb_table() -> np.ndarray:
    """Give sRGB codes uint8 of linear values 0 ... 2; highlights above 0.8 roll off to white."""
    x = np.arange(SRGB_STEPS) * (SRGB_RANGE / SRGB_STEPS)
    x = np.where(x > .8, .8 + .2 * (1. - np.exp(-(x - .8) / .2)), x)
    srgb = np.where(x <= .0031308, 12.92 * x, 1.055 * np.maximum(x, 1e-9)**(1 / 2.4) - .055)
    return np.round(255. * np.clip(srgb, 0., 1.)).astype(np.uint8)


@_jit
def _hash(ix, iy, seed):
    """Hash two cell numbers to [0, 1)."""
    h = (ix * 374761393 + iy * 668265263 + seed * 1274126177) & 0xFFFFFFFF
    h = ((h ^ (h >> 15)) * 0x2C1B3C6D) & 0xFFFFFFFF
    h = ((h ^ (h >> 12)) * 0x297A2D39) & 0xFFFFFFFF
    return ((h ^ (h >> 15)) & 0xFFFFFF) / 16777216.


@_jit
def _noise(x, y, z):
    """Value noise in [0, 1], trilinear with smoothed steps, one feature a unit."""
    fx, fy, fz = np.floor(x), np.floor(y), np.floor(z)
    ix, iy, iz = int(fx), int(fy), int(fz)
    x, y, z = x - fx, y - fy, z - fz
    x, y, z = x * x * (3. - 2. * x), y * y * (3. - 2. * y), z * z * (3. - 2. * z)
    mask = LATTICE_SIZE - 1
    x0, y0, z0 = ix & mask, iy & mask, iz & mask
    x1, y1, z1 = (ix + 1) & mask, (iy + 1) & mask, (iz + 1) & mask
    a = LATTICE[x0, y0, z0] * (1. - z) + LATTICE[x0, y0, z1] * z
    b = LATTICE[x0, y1, z0] * (1. - z) + LATTICE[x0, y1, z1] * z
    c = LATTICE[x1, y0, z0] * (1. - z) + LATTICE[x1, y0, z1] * z
    d = LATTICE[x1, y1, z0] * (1. - z) + LATTICE[x1, y1, z1] * z
    return (a * (1. - y) + b * y) * (1. - x) + (c * (1. - y) + d * y) * x


@_jit
def _octaves(x, y, z, width, count):
    """Fractal noise in [0, 1] around 0.5; octaves finer than a sample's width are left out."""
    total, weight, amplitude = 0., 0., 1.
    for _ in range(count):
        fade = min(max(2. - 3. * width, 0.), 1.)
        if fade > 0.:
            total += amplitude * fade * (_noise(x, y, z) - .5)
        weight += amplitude
        # A little more than doubling, and a shift, so that octaves do not line up.
        x, y, z, width = 2.03 * x + 7.1, 2.03 * y + 3.7, 2.03 * z + 5.3, 2.03 * width
        amplitude *= .55
    return min(max(.5 + 1.6 * total / weight, 0.), 1.)


@_jit
def _step(x, width):
    """Step from 0 to 1 at x = 0, as wide as a sample."""
    return min(max(x / max(width, 1e-9) + .5, 0.), 1.)


@_jit
def _wave(x, width):
    """Square wave of period 1, 1 in its first half; fades to its mean when a sample covers a period."""
    x -= np.floor(x)
    sharp = _step(.25 - abs(x - .25), width) + _step(.25 - abs(x - 1.25), width)
    fade = min(max(2. - 2.5 * width, 0.), 1.)
    return .5 + fade * (sharp - .5)


@_jit
def _joint(x, part, width):
    """Give 1 within `part` of a whole number (a joint between cells), 0 elsewhere, fading to its mean."""
    x -= np.floor(x)
    edge = min(x, 1. - x)
    fade = min(max(2. - 2. * width, 0.), 1.)
    return 2. * part + fade * (_step(part - edge, width) - 2. * part)


@_jit
def _rainbow(hue):
    """Give the red of a vivid colour; green is the red of a hue a third less, blue of two thirds less."""
    away = abs(hue - np.floor(hue + .5))
    red = min(max(2. - 6. * away, 0.), 1.)
    return .08 + .75 * red * red


@_jit
def _cells(pattern, u, v, width, aspect, seed, qx, qy, qz):
    """Bricks, planks, tiles and facades: rows of cells, each of its own tone, with joints; lengths in cells."""
    row = np.floor(v / aspect)
    shift = 0.
    if pattern == BRICKS:
        shift = .5 * (int(row) & 1)
    elif pattern == PLANKS:
        shift = _hash(int(row), 11, seed)
    along = u + shift
    own = _hash(int(np.floor(along)), int(row), seed)
    thin = width / aspect
    if pattern == FACADE:
        x, y = along - np.floor(along), v / aspect - row
        glass = (_step(.28 - abs(x - .5), width) * _step(.32 - abs(y - .5), thin))
        glass *= min(max(2. - 2. * width, 0.), 1.)
        return .25 * own, glass, 1. - .5 * glass * own, NO_HUE
    part = .018 if pattern == TILES else (.03 if pattern == BRICKS else .008)
    joint = max(_joint(along, part, width), _joint(v / aspect, part / aspect if pattern != PLANKS else .02, thin))
    tone = .75 + .5 * own
    if pattern == PLANKS:
        grain = _octaves(1.3 * along + 9. * own, 12. * v / aspect, 5. * own, 12. * thin, 2)
        tone *= .75 + .5 * grain
    return own, joint, tone + joint * (1. - tone), NO_HUE


@_jit
def _poster(s, t, width, seed):
    """Give a picture of its own for every seed: a frame, bands, a disc and blocks, in vivid colours."""
    if min(min(s, 1. - s), min(t, 1. - t)) < .04:
        return 0., 1., 1., NO_HUE
    hue = _hash(seed, 1, 3)
    if .07 < t < .15 and .1 < s < .9:
        return 0., 1., (.9 if _hash(int(40. * s), int(60. * t), seed) < .6 else .1), NO_HUE
    cx, cy = int(5. * s), int(7. * t)
    if _hash(cx, cy, seed) < .13:
        return 0., 0., .8, _hash(cy, cx, seed)
    x, y = s - (.3 + .4 * _hash(seed, 2, 3)), t - (.35 + .35 * _hash(seed, 3, 3))
    if x * x + y * y < .17**2:
        return 0., 0., 1.3, (hue + .15) % 1.
    horizon = .25 + .3 * _hash(seed, 4, 3) + .06 * np.sin(9. * s + 6. * hue)
    if t < horizon:
        return 0., 0., (.5 + .8 * t) * (1. - .4 * _wave(6. * s + 4. * t, 6. * width)), (hue + .4) % 1.
    return 0., 0., .35 + .65 * t, hue


@_jit
def _books(u, v, aspect, seed):
    """Spines of books that stand on shelves; one shelf is `aspect` high, a book about a seventh of it wide."""
    shelf = np.floor(v / aspect)
    y = v / aspect - shelf
    if y < .08 or y > .97:
        return 0., 1., 1., NO_HUE
    place = 7. * u / aspect
    book = int(np.floor(place))
    # Every second border is moved, so that widths differ.
    if place - book < .45 * _hash(book, int(shelf), seed + 1):
        book -= 1
    if y > .63 + .37 * _hash(book, int(shelf), seed + 2):
        return 0., 1., .3, NO_HUE
    own = _hash(book, int(shelf), seed)
    if abs(y - .3 - .3 * own) < .05:
        return 1., 0., 1.2, NO_HUE
    if own < .4:
        return 0., 0., .55, 2.5 * own
    return (own - .4) / .6, 0., .5 + _hash(book, 5, seed), NO_HUE


@_jit
def _text(u, v, width, aspect, seed):
    """Lines of words, as on a page, a label or a screen: a line is one high."""
    line = np.floor(v)
    y = v - line
    word = _hash(int(np.floor(.45 * u + .5 * _hash(int(line), 3, seed))), int(line), seed) < .72
    glyph = _hash(int(np.floor(2.6 * u)), int(line), seed + 1)
    ink = 0.
    if word and .25 < y < .7 and _hash(int(line), 7, seed) < .85:
        ink = .9 if glyph < .7 or y < .5 else .3
    fade = min(max(2. - 3. * width, 0.), 1.)
    return .3 + fade * (ink - .3), 0., 1., NO_HUE


@_jit
def _stones(u, v, width, seed):
    """Irregular stones with joints: the nearest of the points scattered one a cell (Worley's cells)."""
    ix, iy = int(np.floor(u)), int(np.floor(v))
    first, second, own = 9., 9., 0.
    for cx in range(ix - 1, ix + 2):
        for cy in range(iy - 1, iy + 2):
            dx = cx + .15 + .7 * _hash(cx, cy, seed) - u
            dy = cy + .15 + .7 * _hash(cx, cy, seed + 1) - v
            d = dx * dx + dy * dy
            if d < first:
                second, first, own = first, d, _hash(cx, cy, seed + 2)
            elif d < second:
                second = d
    gap = np.sqrt(second) - np.sqrt(first)
    joint = _step(.1 - gap, width + .03) * min(max(2. - 2. * width, 0.), 1.)
    return own, joint, .75 + .5 * own, NO_HUE


@_jit
def _texture(pattern, scale, aspect, seed, qx, qy, qz, u, v, s, t, width):
    """Give what a material shows at a place: (a, b, tone, hue).

    That is the first of its colours mixed with a of the second, and that with b of the third, times the tone; or, where
    hue is not negative, a colour of the rainbow.
    """
    qx, qy, qz, u, v, width = qx / scale, qy / scale, qz / scale, u / scale, v / scale, width / scale
    shift = 3.7 * (seed % 97)
    if pattern == PLAIN or pattern == IMAGE:
        return 0., 0., 1., NO_HUE
    if pattern == NOISE:
        a = _octaves(qx + shift, qy, qz, width, 4)
        return a, max(2.5 * a - 1.6, 0.), 1., NO_HUE
    if pattern == CHECKER:
        a, b = _wave(.5 * u, .5 * width), _wave(.5 * v / aspect, .5 * width / aspect)
        return a + b - 2. * a * b, 0., 1., NO_HUE
    if pattern == STRIPES:
        thin = _wave(2. * u + aspect * v, 2. * width)
        return _wave(.5 * u + .25 * aspect * v, .5 * width), .35 * thin, 1., NO_HUE
    if pattern == BRICKS or pattern == PLANKS or pattern == TILES or pattern == FACADE:
        return _cells(pattern, u, v, width, aspect, seed, qx, qy, qz)
    if pattern == POSTER:
        return _poster(s, t, width, seed)
    if pattern == BOOKS:
        return _books(u, v, aspect, seed)
    if pattern == WOOD:
        ring = _octaves(qx + shift, 6. * qy, 6. * qz, 6. * width, 3)
        return .5 + .5 * np.sin(22. * ring), .3 * ring, .8 + .4 * ring, NO_HUE
    if pattern == MARBLE:
        vein = _octaves(qx + shift, qy, qz, width, 4)
        line = 1. - min(abs(vein - .5) * 9., 1.)
        return line * line, .5 * vein, 1., NO_HUE
    if pattern == DOTS:
        x, y = u - np.floor(u) - .5, v - np.floor(v) - .5
        dot = _step(.32 - np.sqrt(x * x + y * y), width)
        fade = min(max(2. - 2. * width, 0.), 1.)
        own = _hash(int(np.floor(u)), int(np.floor(v)), seed) < .35
        return .32 + fade * (dot - .32), dot * fade * (1. if own else 0.), 1., NO_HUE
    if pattern == CLOUDS:
        # q is a direction times the dome's size: height drives the gradient, noise the clouds.
        up = min(max(qz * scale, 0.), 1.)
        cloud = _octaves(qx + shift, qy, 2.5 * qz, 0., 4)
        return np.sqrt(up), min(max(3.5 * cloud - 1.75, 0.), 1.), 1., NO_HUE
    if pattern == STONES:
        return _stones(u, v, width, seed)
    if pattern == TEXT:
        return _text(u, v, width, aspect, seed)
    a, b = _wave(u, width), _wave(v, width)
    return a if (int(np.floor(2. * v)) & 1) else 1. - a, .25 * b, 1., NO_HUE


@_jit
def _place(shape, face, hx, hy, hz, ux, uy, uz):
    """Give the place on a surface: (u, v) in metres and (s, t) in [0, 1] on its face, upright and not mirrored."""
    if shape == SPHERE or shape == DOME or (shape == CYLINDER and face == 0):
        angle = np.arctan2(uy, ux)
        high = uz if shape == CYLINDER else 2. / np.pi * np.arcsin(min(max(uz, -1.), 1.))
        along = angle * max(hx, hy)
        up = high * hz * (1. if shape == CYLINDER else .5 * np.pi)
        return along, up, .5 + angle / (2. * np.pi), .5 + .5 * high
    if face == 0:
        return -uy * hy, uz * hz, .5 - .5 * uy, .5 + .5 * uz
    if face == 1:
        return uy * hy, uz * hz, .5 + .5 * uy, .5 + .5 * uz
    if face == 2:
        return ux * hx, uz * hz, .5 + .5 * ux, .5 + .5 * uz
    if face == 3:
        return -ux * hx, uz * hz, .5 - .5 * ux, .5 + .5 * uz
    return ux * hx, uy * hy, .5 + .5 * ux, .5 + .5 * uy


@_jit
def _texel(x, count):
    """Give the number of a texel of a row that goes on as its own mirror image."""
    x = x % (2 * count)
    return x if x < count else 2 * count - 1 - x


@_jit
def _level(photographs, which, level, x, y, c):
    """Look at one size of a photograph at (x, y) in patches, between its texels."""
    size = photographs.shape[1]
    side = size >> level
    left = 2 * size - 2 * side
    x, y = x * side - .5, y * side - .5
    fx, fy = np.floor(x), np.floor(y)
    x, y, ix, iy = x - fx, y - fy, int(fx), int(fy)
    x0, x1, y0, y1 = left + _texel(ix, side), left + _texel(ix + 1, side), _texel(iy, side), _texel(iy + 1, side)
    upper = photographs[which, y0, x0, c] * (1. - x) + photographs[which, y0, x1, c] * x
    return upper * (1. - y) + (photographs[which, y1, x0, c] * (1. - x) + photographs[which, y1, x1, c] * x) * y


@_jit
def _photograph(photographs, seed, u, v, width, c):
    """Give channel c of the photograph of a seed at (u, v) in patches, as sharp as a sample's width allows."""
    which, size = seed % photographs.shape[0], photographs.shape[1]
    x, y = u + _hash(seed, 1, 5), -v + _hash(seed, 2, 5)
    level = min(max(np.log2(max(width * size, 1e-9)), 0.), np.log2(float(size)))
    fine = int(level)
    part = level - fine
    coarse = fine + 1 if (size >> fine) > 1 else fine
    return (_level(photographs, which, fine, x, y, c) * (1. - part)
            + _level(photographs, which, coarse, x, y, c) * part)


@_jit
def _grain(strength, x, y, z, width):
    """Give the tone of fine dirt and of broad unevenness, which no real surface is without."""
    if strength <= 0.:
        return 1.
    fine = 1. + strength * (2. * _octaves(23. * x + 3., 23. * y, 23. * z, 23. * width, 1) - 1.)
    return fine * (1. + strength * (2. * _noise(1.7 * x, 1.7 * y + 5., 1.7 * z) - 1.))


@_jit
def shade(first, last, pixel, shape, to_unit, half_size, material, pattern, colours, numbers, photographs, table,
          background, t_hit, object_hit, face_hit, place, lit, gloss, image):
    """Write image uint8 [H, W, 3], rows first <= y < last, from what the geometry pass left for them.

    `pixel` is the width of a ray's share of the image at depth 1.
    """
    rays, top, linear = object_hit.shape[2], SRGB_STEPS - 1, np.empty(3)
    scale = SRGB_STEPS / (SRGB_RANGE * rays)
    for row in range(first, last):
        for column in range(image.shape[1]):
            linear[:] = 0.
            for ray in range(rays):
                j, face = object_hit[row - first, column, ray], face_hit[row - first, column, ray]
                if j < 0:
                    for c in range(3):
                        linear[c] += background[c]
                    continue
                m, hx, hy, hz = material[j, face], half_size[j, 0], half_size[j, 1], half_size[j, 2]
                x = place[row - first, column, ray, 0]
                y = place[row - first, column, ray, 1]
                z = place[row - first, column, ray, 2]
                ux = to_unit[j, 0, 0] * x + to_unit[j, 0, 1] * y + to_unit[j, 0, 2] * z + to_unit[j, 0, 3]
                uy = to_unit[j, 1, 0] * x + to_unit[j, 1, 1] * y + to_unit[j, 1, 2] * z + to_unit[j, 1, 3]
                uz = to_unit[j, 2, 0] * x + to_unit[j, 2, 1] * y + to_unit[j, 2, 2] * z + to_unit[j, 2, 3]
                u, v, s, t = _place(shape[j], face, hx, hy, hz, ux, uy, uz)
                if shape[j] != DOME:
                    ux, uy, uz = ux * hx, uy * hy, uz * hz
                width = pixel * t_hit[row - first, column, ray]
                a, b, tone, hue = _texture(pattern[m], numbers[m, SCALE], numbers[m, ASPECT], int(numbers[m, SEED]),
                                           ux, uy, uz, u, v, s, t, width)
                tone *= _grain(numbers[m, GRAIN], ux, uy, uz, width)
                glow, shine = numbers[m, EMISSION], numbers[m, SPECULAR] * gloss[row - first, column, ray]
                for c in range(3):
                    own = colours[m, 0, c] + a * (colours[m, 1, c] - colours[m, 0, c])
                    own += b * (colours[m, 2, c] - own)
                    if hue >= 0.:
                        own = _rainbow(hue - c / 3.)
                    if pattern[m] == IMAGE:
                        patch = numbers[m, SCALE]
                        own = _photograph(photographs, int(numbers[m, SEED]), u / patch, v / patch, width / patch, c)
                    light = lit[row - first, column, ray, c]
                    linear[c] += tone * own * (light + glow * (1. - light)) + shine
            for c in range(3):
                image[row, column, c] = table[min(max(int(linear[c] * scale), 0), top)]
