# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The shading pass of the ray caster: procedural textures, evaluated where the rays hit, and the final image.

A texture mixes the three linear colours of its material. It is given the place on the surface in metres (u along,
v up; q in 3D), the place in [0, 1] on the face, and the width that a sample covers there, so that details finer than
a sample fade to their mean instead of flickering.
"""

from __future__ import annotations

from enum import IntEnum

import numba
import numpy as np

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


(PLAIN, NOISE, CHECKER, STRIPES, BRICKS, PLANKS, TILES, POSTER, BOOKS, WOOD, MARBLE, FACADE, DOTS, CLOUDS, STONES,
 TEXT, WEAVE) = (int(pattern) for pattern in Pattern)

#: Columns of a material's numbers.
SCALE, ASPECT, GRAIN, SEED, SPECULAR, EMISSION = range(6)

_LATTICE_SIZE = 32
_SRGB_STEPS = 16384
_SRGB_RANGE = 2.

_jit = numba.njit(cache=True, nogil=True, error_model='numpy', fastmath={'contract', 'arcp', 'nsz', 'afn'})
_inlined = numba.njit(cache=True, nogil=True, error_model='numpy', forceinline=True,
                      fastmath={'contract', 'arcp', 'nsz', 'afn'})


def make_lattice() -> np.ndarray:
    """Give the random values between which noise is interpolated: float32 [32, 32, 32] in [0, 1), always the same."""
    return np.random.default_rng(20260).random((_LATTICE_SIZE,) * 3, dtype=np.float32)


def make_srgb_table() -> np.ndarray:
    """Give sRGB codes uint8 of linear values 0 ... 2; highlights above 0.8 roll off to white."""
    x = np.arange(_SRGB_STEPS) * (_SRGB_RANGE / _SRGB_STEPS)
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
def _noise(lattice, x, y, z):
    """Value noise in [0, 1], trilinear with smoothed steps, one feature a unit."""
    fx, fy, fz = np.floor(x), np.floor(y), np.floor(z)
    ix, iy, iz = int(fx), int(fy), int(fz)
    x, y, z = x - fx, y - fy, z - fz
    x, y, z = x * x * (3. - 2. * x), y * y * (3. - 2. * y), z * z * (3. - 2. * z)
    mask = _LATTICE_SIZE - 1
    x0, y0, z0 = ix & mask, iy & mask, iz & mask
    x1, y1, z1 = (ix + 1) & mask, (iy + 1) & mask, (iz + 1) & mask
    a = lattice[x0, y0, z0] * (1. - z) + lattice[x0, y0, z1] * z
    b = lattice[x0, y1, z0] * (1. - z) + lattice[x0, y1, z1] * z
    c = lattice[x1, y0, z0] * (1. - z) + lattice[x1, y0, z1] * z
    d = lattice[x1, y1, z0] * (1. - z) + lattice[x1, y1, z1] * z
    return (a * (1. - y) + b * y) * (1. - x) + (c * (1. - y) + d * y) * x


@_jit
def _octaves(lattice, x, y, z, width, count):
    """Fractal noise in [0, 1] around 0.5; octaves finer than a sample's width are left out."""
    total, weight, amplitude = 0., 0., 1.
    for _ in range(count):
        fade = min(max(2. - 3. * width, 0.), 1.)
        if fade > 0.:
            total += amplitude * fade * (_noise(lattice, x, y, z) - .5)
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
def _mix(colours, m, a, b, tone):
    """Mix a material's colours: from the first to the second by a, then to the third by b."""
    red = (colours[m, 0, 0] + a * (colours[m, 1, 0] - colours[m, 0, 0]))
    green = (colours[m, 0, 1] + a * (colours[m, 1, 1] - colours[m, 0, 1]))
    blue = (colours[m, 0, 2] + a * (colours[m, 1, 2] - colours[m, 0, 2]))
    return (tone * (red + b * (colours[m, 2, 0] - red)), tone * (green + b * (colours[m, 2, 1] - green)),
            tone * (blue + b * (colours[m, 2, 2] - blue)))


@_jit
def _vivid(value, tone):
    """Give a colour of the rainbow: value in [0, 1) is its hue."""
    red = min(max(abs(6. * value - 3.) - 1., 0.), 1.)
    green = min(max(2. - abs(6. * value - 2.), 0.), 1.)
    blue = min(max(2. - abs(6. * value - 4.), 0.), 1.)
    return tone * (.08 + .8 * red * red), tone * (.08 + .7 * green * green), tone * (.08 + .8 * blue * blue)


@_jit
def _cells(pattern, colours, m, u, v, width, aspect, seed, lattice, qx, qy, qz):
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
        return _mix(colours, m, .25 * own, glass, 1. - .5 * glass * own)
    part = .018 if pattern == TILES else (.03 if pattern == BRICKS else .008)
    joint = max(_joint(along, part, width), _joint(v / aspect, part / aspect if pattern != PLANKS else .02, thin))
    tone = .75 + .5 * own
    if pattern == PLANKS:
        grain = _octaves(lattice, 1.3 * along + 9. * own, 12. * v / aspect, 5. * own, 12. * thin, 2)
        tone *= .75 + .5 * grain
    return _mix(colours, m, own, joint, tone + joint * (1. - tone))


@_jit
def _poster(colours, m, s, t, width, seed):
    """Give a picture of its own for every seed: a frame, bands, a disc and blocks, in vivid colours."""
    if min(min(s, 1. - s), min(t, 1. - t)) < .04:
        return colours[m, 2, 0], colours[m, 2, 1], colours[m, 2, 2]
    hue = _hash(seed, 1, 3)
    x, y = s - (.3 + .4 * _hash(seed, 2, 3)), t - (.35 + .35 * _hash(seed, 3, 3))
    horizon = .25 + .3 * _hash(seed, 4, 3) + .06 * np.sin(9. * s + 6. * hue)
    red, green, blue = _vivid(hue, .35 + .65 * t)
    if t < horizon:
        red, green, blue = _vivid((hue + .4) % 1., .5 + .8 * t)
        if _wave(6. * s + 4. * t, 6. * width) > .5:
            red, green, blue = .6 * red, .6 * green, .6 * blue
    disc = _step(.17 - np.sqrt(x * x + y * y), width)
    r, g, b = _vivid((hue + .15) % 1., 1.4)
    red, green, blue = red + disc * (r - red), green + disc * (g - green), blue + disc * (b - blue)
    cx, cy = int(5. * s), int(7. * t)
    if _hash(cx, cy, seed) < .13:
        red, green, blue = _vivid(_hash(cy, cx, seed), .8)
    if .07 < t < .15 and .1 < s < .9:
        line = _hash(int(40. * s), int(60. * t), seed) < .6
        red = green = blue = .85 if line else .1
    return red, green, blue


@_jit
def _books(colours, m, u, v, width, aspect, seed):
    """Spines of books that stand on shelves; one shelf is `aspect` high, a book about a seventh of it wide."""
    shelf = np.floor(v / aspect)
    y = v / aspect - shelf
    if y < .08 or y > .97:
        return colours[m, 2, 0], colours[m, 2, 1], colours[m, 2, 2]
    place = 7. * u / aspect
    book = int(np.floor(place))
    # Every second border is moved, so that widths differ.
    if place - book < .45 * _hash(book, int(shelf), seed + 1):
        book -= 1
    height = .55 + .37 * _hash(book, int(shelf), seed + 2)
    if y > .08 + height:
        return .3 * colours[m, 2, 0], .3 * colours[m, 2, 1], .3 * colours[m, 2, 2]
    own = _hash(book, int(shelf), seed)
    if own < .4:
        red, green, blue = _vivid(2.5 * own, .55)
    else:
        red, green, blue = _mix(colours, m, (own - .4) / .6, 0., .5 + _hash(book, 5, seed))
    if abs(y - .3 - .3 * own) < .05:
        red, green, blue = .5 * red + .35, .5 * green + .35, .5 * blue + .3
    return red, green, blue


@_jit
def _text(colours, m, u, v, width, aspect, seed):
    """Lines of words, as on a page, a label or a screen: a line is one high."""
    line = np.floor(v)
    y = v - line
    word = _hash(int(np.floor(.45 * u + .5 * _hash(int(line), 3, seed))), int(line), seed) < .72
    glyph = _hash(int(np.floor(2.6 * u)), int(line), seed + 1)
    ink = 0.
    if word and .25 < y < .7 and _hash(int(line), 7, seed) < .85:
        ink = .9 if glyph < .7 or y < .5 else .3
    fade = min(max(2. - 3. * width, 0.), 1.)
    return _mix(colours, m, .3 + fade * (ink - .3), 0., 1.)


@_jit
def _stones(colours, m, u, v, width, seed):
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
    return _mix(colours, m, own, joint, .75 + .5 * own)


@_jit
def _albedo(pattern, colours, m, numbers, lattice, qx, qy, qz, u, v, s, t, width):
    """Give the linear colour of a material at a place."""
    scale, aspect, seed = numbers[m, SCALE], numbers[m, ASPECT], int(numbers[m, SEED])
    qx, qy, qz, u, v, width = qx / scale, qy / scale, qz / scale, u / scale, v / scale, width / scale
    shift = 3.7 * (seed % 97)
    if pattern == PLAIN:
        return _mix(colours, m, 0., 0., 1.)
    if pattern == NOISE:
        a = _octaves(lattice, qx + shift, qy, qz, width, 4)
        return _mix(colours, m, a, max(2.5 * a - 1.6, 0.), 1.)
    if pattern == CHECKER:
        a, b = _wave(.5 * u, .5 * width), _wave(.5 * v / aspect, .5 * width / aspect)
        return _mix(colours, m, a + b - 2. * a * b, 0., 1.)
    if pattern == STRIPES:
        thin = _wave(2. * u + aspect * v, 2. * width)
        return _mix(colours, m, _wave(.5 * u + .25 * aspect * v, .5 * width), .35 * thin, 1.)
    if pattern == BRICKS or pattern == PLANKS or pattern == TILES or pattern == FACADE:
        return _cells(pattern, colours, m, u, v, width, aspect, seed, lattice, qx, qy, qz)
    if pattern == POSTER:
        return _poster(colours, m, s, t, width, seed)
    if pattern == BOOKS:
        return _books(colours, m, u, v, width, aspect, seed)
    if pattern == WOOD:
        ring = _octaves(lattice, qx + shift, 6. * qy, 6. * qz, 6. * width, 3)
        return _mix(colours, m, .5 + .5 * np.sin(22. * ring), .3 * ring, .8 + .4 * ring)
    if pattern == MARBLE:
        vein = _octaves(lattice, qx + shift, qy, qz, width, 4)
        line = 1. - min(abs(vein - .5) * 9., 1.)
        return _mix(colours, m, line * line, .5 * vein, 1.)
    if pattern == DOTS:
        x, y = u - np.floor(u) - .5, v - np.floor(v) - .5
        dot = _step(.32 - np.sqrt(x * x + y * y), width)
        fade = min(max(2. - 2. * width, 0.), 1.)
        own = _hash(int(np.floor(u)), int(np.floor(v)), seed) < .35
        return _mix(colours, m, .32 + fade * (dot - .32), dot * fade * (1. if own else 0.), 1.)
    if pattern == CLOUDS:
        # q is a direction times the dome's size: height drives the gradient, noise the clouds.
        up = min(max(qz * scale, 0.), 1.)
        cloud = _octaves(lattice, qx + shift, qy, 2.5 * qz, 0., 4)
        return _mix(colours, m, np.sqrt(up), min(max(3.5 * cloud - 1.75, 0.), 1.), 1.)
    if pattern == STONES:
        return _stones(colours, m, u, v, width, seed)
    if pattern == TEXT:
        return _text(colours, m, u, v, width, aspect, seed)
    a, b = _wave(u, width), _wave(v, width)
    return _mix(colours, m, a if (int(np.floor(2. * v)) & 1) else 1. - a, .25 * b, 1.)


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
def shade(first, last, pixel, shape, to_unit, half_size, material, pattern, colours, numbers, lattice, table,
          background, t_hit, object_hit, face_hit, place, lit, gloss, image):
    """Write image uint8 [H, W, 3], rows first <= y < last, from what the geometry pass left for them.

    `pixel` is the width of a ray's share of the image at depth 1.
    """
    rays, top = object_hit.shape[2], _SRGB_STEPS - 1
    scale = _SRGB_STEPS / (_SRGB_RANGE * rays)
    for row in range(first, last):
        for column in range(image.shape[1]):
            red = green = blue = 0.
            for ray in range(rays):
                j, face = object_hit[row - first, column, ray], face_hit[row - first, column, ray]
                if j < 0:
                    red, green, blue = red + background[0], green + background[1], blue + background[2]
                    continue
                x, y, z = place[row - first, column, ray, 0], place[row - first, column, ray, 1], \
                    place[row - first, column, ray, 2]
                ux = to_unit[j, 0, 0] * x + to_unit[j, 0, 1] * y + to_unit[j, 0, 2] * z + to_unit[j, 0, 3]
                uy = to_unit[j, 1, 0] * x + to_unit[j, 1, 1] * y + to_unit[j, 1, 2] * z + to_unit[j, 1, 3]
                uz = to_unit[j, 2, 0] * x + to_unit[j, 2, 1] * y + to_unit[j, 2, 2] * z + to_unit[j, 2, 3]
                m = material[j, face]
                r, g, b = _surface(shape[j], face, half_size[j, 0], half_size[j, 1], half_size[j, 2], ux, uy, uz,
                                   pixel * t_hit[row - first, column, ray], pattern[m], colours, m, numbers, lattice)
                glow, shine = numbers[m, EMISSION], numbers[m, SPECULAR]
                if shine > 0.:
                    shine *= gloss[row - first, column, ray]
                red += r * (lit[row - first, column, ray, 0] * (1. - glow) + glow) + shine
                green += g * (lit[row - first, column, ray, 1] * (1. - glow) + glow) + shine
                blue += b * (lit[row - first, column, ray, 2] * (1. - glow) + glow) + shine
            image[row, column, 0] = table[min(int(red * scale), top)]
            image[row, column, 1] = table[min(int(green * scale), top)]
            image[row, column, 2] = table[min(int(blue * scale), top)]


@_jit
def _surface(shape, face, hx, hy, hz, ux, uy, uz, width, pattern, colours, m, numbers, lattice):
    """Give the linear colour of a place on a surface: its texture, and the material's grain on top."""
    u, v, s, t = _place(shape, face, hx, hy, hz, ux, uy, uz)
    x, y, z = (ux, uy, uz) if shape == DOME else (ux * hx, uy * hy, uz * hz)
    r, g, b = _albedo(pattern, colours, m, numbers, lattice, x, y, z, u, v, s, t, width)
    grain = numbers[m, GRAIN]
    if grain > 0.:
        fine = 1. + grain * (2. * _octaves(lattice, 23. * x + 3., 23. * y, 23. * z, 23. * width, 1) - 1.)
        fine *= 1. + grain * (2. * _noise(lattice, 1.7 * x, 1.7 * y + 5., 1.7 * z) - 1.)
        r, g, b = r * fine, g * fine, b * fine
    return r, g, b
