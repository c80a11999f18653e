# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Endless scenes by seed: rooms, corridors and streets, furnished, lit and painted at random."""

from __future__ import annotations

import numpy as np

from inspatio_ros.scenes import furniture
from inspatio_ros.scenes.furniture import Placed
from inspatio_ros.scenes.scene import Colour, Material, Motion, Scene, SceneBuilder
from inspatio_ros.scenes.shapes import Shape
from inspatio_ros.scenes.textures import Pattern

#: Seeds from here on are never trained on: figures are measured with them.
HELD_OUT_FROM = 1_000_000

#: What covers large surfaces, and how large its features are (metres).
_WALLS = {Pattern.BRICKS: (.15, .4), Pattern.STRIPES: (.1, .6), Pattern.NOISE: (.2, 1.5), Pattern.TILES: (.2, .8),
          Pattern.CHECKER: (.2, 1.), Pattern.STONES: (.2, .7), Pattern.DOTS: (.1, .5), Pattern.PLANKS: (.5, 1.5),
          Pattern.POSTER: (1., 1.), Pattern.MARBLE: (.4, 1.5), Pattern.PLAIN: (1., 1.)}
_FLOORS = {Pattern.PLANKS: (.6, 1.6), Pattern.TILES: (.2, .9), Pattern.CHECKER: (.2, .9), Pattern.STONES: (.2, .6),
           Pattern.NOISE: (.1, .8), Pattern.MARBLE: (.5, 1.5), Pattern.WEAVE: (.05, .2), Pattern.WOOD: (.3, .8)}
_THINGS = {Pattern.PLAIN: (1., 1.), Pattern.NOISE: (.05, .4), Pattern.CHECKER: (.05, .3), Pattern.STRIPES: (.04, .3),
           Pattern.WOOD: (.2, .6), Pattern.MARBLE: (.1, .5), Pattern.DOTS: (.05, .2), Pattern.WEAVE: (.03, .12),
           Pattern.TEXT: (.02, .06), Pattern.BOOKS: (.8, 1.2), Pattern.POSTER: (1., 1.), Pattern.TILES: (.1, .4)}


def random_scene(seed: int) -> Scene:
    """Give the scene of a seed: half of them rooms, the others corridors and streets."""
    rng = np.random.default_rng([seed, 11])
    kind = rng.choice(3, p=(.55, .2, .25))
    return (_room, _corridor, _street)[kind](rng)


def _uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(rng.uniform(low, high))


def _palette(rng: np.random.Generator) -> tuple[Colour, Colour, Colour]:
    """Draw three colours that differ in brightness more than in hue, as most things' do."""
    base = rng.uniform(.08, .92, 3)
    grey = base.mean()
    base = grey + (base - grey) * rng.beta(1.2, 2.2)
    others = [(base * rng.uniform(.4, 1.5) + rng.normal(0., .07, 3)).clip(.02, .98) for _ in range(2)]
    if rng.random() < .3:
        others[1] = rng.uniform(.05, .95, 3)
    return tuple(tuple(float(v) for v in c) for c in (base, *others))


def _material(rng: np.random.Generator, kinds: dict[Pattern, tuple[float, float]], emission: float = 0.) -> Material:
    pattern = list(kinds)[rng.integers(len(kinds))]
    low, high = kinds[pattern]
    aspect = _uniform(rng, .12, .5) if pattern in (Pattern.PLANKS, Pattern.BRICKS) else _uniform(rng, .6, 1.6)
    return Material(pattern, _palette(rng), scale=float(np.exp(rng.uniform(np.log(low), np.log(high)))),
                    aspect=0. if pattern == Pattern.STRIPES and rng.random() < .6 else aspect,
                    grain=_uniform(rng, .02, .22), seed=int(rng.integers(1000)),
                    specular=_uniform(rng, 0., .3) if rng.random() < .3 else 0., emission=emission)


# --- indoors ----------------------------------------------------------------------------------------------------------

def _room(rng: np.random.Generator) -> Scene:
    size = (_uniform(rng, 4., 9.), _uniform(rng, 4., 8.), _uniform(rng, 2.4, 3.4))
    return _indoors(rng, size, things=int(rng.integers(5, 14)))


def _corridor(rng: np.random.Generator) -> Scene:
    size = (_uniform(rng, 9., 18.), _uniform(rng, 2., 3.4), _uniform(rng, 2.3, 3.2))
    return _indoors(rng, size, things=int(rng.integers(3, 8)), along_walls=True)


def _indoors(rng: np.random.Generator, size: Colour, things: int, along_walls: bool = False) -> Scene:
    width, depth, height = size
    builder = SceneBuilder()
    walls = [_material(rng, _WALLS) for _ in range(2)]
    faces = tuple(walls[int(rng.integers(2))] for _ in range(4))
    ceiling = Material(Pattern.NOISE, ((.8, .8, .78), (.9, .9, .88), (.96, .96, .95)), scale=.5, grain=.05)
    builder.add(Shape.ROOM, (0., 0., height / 2), size, (*faces, _material(rng, _FLOORS), ceiling))
    for _ in range(things):
        _furnish(rng, builder, size, along_walls)
    _hang(rng, builder, size, count=int(rng.integers(2, 8)))
    _mover(rng, builder, (.7 * width, .7 * depth, height), count=int(rng.integers(0, 3)))
    for _ in range(int(rng.integers(1, 4))):
        place = (_uniform(rng, -.35, .35) * width, _uniform(rng, -.35, .35) * depth, height - _uniform(rng, .15, .5))
        builder.light(place, tuple(rng.uniform(.6, 1.3) * rng.uniform(.8, 1.1, 3)), radius=_uniform(rng, .1, .5),
                      reach=_uniform(rng, 2., 4.))
    inside = np.array([(-width / 2 + .4, -depth / 2 + .4, .5), (width / 2 - .4, depth / 2 - .4, min(height - .4, 1.9))])
    above = rng.uniform(.22, .4)
    return builder.build(inside, ambient=(tuple(above * rng.uniform(.9, 1.1, 3)), tuple(.75 * above * np.ones(3))))


def _furnish(rng: np.random.Generator, builder: SceneBuilder, size: Colour, along_walls: bool) -> None:
    """Put one thing somewhere, mostly near a wall and turned from it."""
    width, depth, height = size
    side = int(rng.integers(4))
    near = _uniform(rng, .2, .5)
    x, y, yaw = (((-width / 2 + near, _uniform(rng, -.45, .45) * depth, np.pi / 2)),
                 ((width / 2 - near, _uniform(rng, -.45, .45) * depth, -np.pi / 2)),
                 ((_uniform(rng, -.45, .45) * width, -depth / 2 + near, np.pi)),
                 ((_uniform(rng, -.45, .45) * width, depth / 2 - near, 0.)))[side]
    if not along_walls and rng.random() < .45:
        x, y, yaw = _uniform(rng, -.4, .4) * width, _uniform(rng, -.4, .4) * depth, _uniform(rng, -np.pi, np.pi)
    thing = Placed(builder, (x, y, 0.), yaw + _uniform(rng, -.15, .15))
    _THING_MAKERS[int(rng.integers(len(_THING_MAKERS)))](rng, thing, height)


def _table(rng: np.random.Generator, thing: Placed, height: float) -> None:
    top = _uniform(rng, .4, .9)
    a, b = _material(rng, _THINGS), _material(rng, _THINGS)
    furniture.table(thing, (_uniform(rng, .7, 1.8), _uniform(rng, .5, 1.), top), a, b)
    _clutter(rng, thing, top, int(rng.integers(0, 5)))


def _clutter(rng: np.random.Generator, thing: Placed, z: float, count: int) -> None:
    """Lay small solids on a surface."""
    for _ in range(count):
        x, y = _uniform(rng, -.35, .35), _uniform(rng, -.25, .25)
        size = tuple(rng.uniform(.06, .35, 3))
        what, paint = int(rng.integers(3)), _material(rng, _THINGS)
        if what == 0:
            thing.box(x, y, z, size, paint, turn=_uniform(rng, 0., 3.))
        elif what == 1:
            thing.cylinder(x, y, z, size[0], size[2], paint)
        else:
            thing.sphere(x, y, z + size[2] / 2, size, paint)


def _sofa(rng: np.random.Generator, thing: Placed, height: float) -> None:
    furniture.sofa(thing, _uniform(rng, 1.2, 2.4), _material(rng, _THINGS), _material(rng, _THINGS))


def _chair(rng: np.random.Generator, thing: Placed, height: float) -> None:
    furniture.chair(thing, _material(rng, _THINGS), _material(rng, _THINGS))


def _shelf(rng: np.random.Generator, thing: Placed, height: float) -> None:
    books = Material(Pattern.BOOKS, _palette(rng), scale=1., aspect=_uniform(rng, .25, .45), grain=.07,
                     seed=int(rng.integers(1000)))
    furniture.shelf(thing, _uniform(rng, .7, 2.), _uniform(rng, 1., height - .3), books, _material(rng, _THINGS))


def _cabinet(rng: np.random.Generator, thing: Placed, height: float) -> None:
    size = (_uniform(rng, .5, 1.8), _uniform(rng, .35, .6), _uniform(rng, .6, min(2.2, height - .2)))
    furniture.cabinet(thing, size, _material(rng, _THINGS), _material(rng, _THINGS))
    _clutter(rng, thing, size[2], int(rng.integers(0, 3)))


def _plant(rng: np.random.Generator, thing: Placed, height: float) -> None:
    leaves = Material(Pattern.NOISE, ((.08, .22, .07), (.2, .42, .14), (.4, .58, .25)), scale=.05, grain=.25)
    furniture.plant(thing, _uniform(rng, .6, 1.7), _material(rng, _THINGS), leaves, rng)


def _round_table(rng: np.random.Generator, thing: Placed, height: float) -> None:
    furniture.round_table(thing, _uniform(rng, .5, 1.3), _uniform(rng, .4, .8), _material(rng, _THINGS),
                          _material(rng, _THINGS))


def _pile(rng: np.random.Generator, thing: Placed, height: float) -> None:
    """A pile of boxes, each turned its own way."""
    z = 0.
    for _ in range(int(rng.integers(1, 5))):
        size = tuple(rng.uniform(.25, .8, 3))
        thing.box(_uniform(rng, -.1, .1), _uniform(rng, -.1, .1), z, size, _material(rng, _THINGS),
                  turn=_uniform(rng, 0., 3.))
        z += size[2]
        if z > height - .9:
            break


def _column(rng: np.random.Generator, thing: Placed, height: float) -> None:
    thing.cylinder(0., 0., 0., _uniform(rng, .2, .6), height, _material(rng, _WALLS))


_THING_MAKERS = (_table, _sofa, _chair, _shelf, _cabinet, _plant, _round_table, _pile, _column, _table, _shelf)


def _hang(rng: np.random.Generator, builder: SceneBuilder, size: Colour, count: int) -> None:
    """Hang pictures on the walls."""
    width, depth, height = size
    for _ in range(count):
        wide, high = _uniform(rng, .4, 1.6), _uniform(rng, .4, 1.2)
        z, side = _uniform(rng, .7, max(.8, height - high - .2)), int(rng.integers(4))
        x, y = _uniform(rng, -.4, .4) * width, _uniform(rng, -.4, .4) * depth
        place, yaw = (((-width / 2 + .02, y, z), np.pi / 2), ((width / 2 - .02, y, z), -np.pi / 2),
                      ((x, -depth / 2 + .02, z), np.pi), ((x, depth / 2 - .02, z), 0.))[side]
        pattern = Pattern.FACADE if rng.random() < .2 else Pattern.POSTER
        art = Material(pattern, _palette(rng), scale=_uniform(rng, .2, .5), seed=int(rng.integers(1000)), grain=.05,
                       emission=.8 if pattern == Pattern.FACADE else 0.)
        furniture.picture(Placed(builder, place, yaw), wide, high, art, _material(rng, _THINGS))


# --- outdoors ---------------------------------------------------------------------------------------------------------

_SKY_RADIUS = 60.


def _street(rng: np.random.Generator) -> Scene:
    builder = SceneBuilder()
    builder.add(Shape.PLANE, (0., 0., 0.), (2 * _SKY_RADIUS,) * 2 + (1.,), _material(rng, _FLOORS))
    blue = rng.uniform(.7, 1.)
    sky = Material(Pattern.CLOUDS, ((.35 * blue, .55 * blue, .9 * blue), (.85, .88, .92), (1., 1., 1.)), scale=.5,
                   grain=0., seed=int(rng.integers(1000)), emission=1.)
    builder.add(Shape.DOME, (0., 0., 0.), (2 * _SKY_RADIUS,) * 3, sky)
    half_street = _uniform(rng, 2.5, 6.)
    for side in (-1., 1.):
        x = -18.
        while x < 18.:
            width, depth, height = _uniform(rng, 3., 9.), _uniform(rng, 4., 8.), _uniform(rng, 2.5, 12.)
            facade = Material(Pattern.FACADE if rng.random() < .6 else Pattern.BRICKS, _palette(rng),
                              scale=_uniform(rng, .8, 2.), aspect=_uniform(rng, .6, 1.5), grain=.1,
                              seed=int(rng.integers(1000)))
            builder.box((x + width / 2, side * (half_street + depth / 2 + _uniform(rng, 0., 1.)), height / 2),
                        (width, depth, height), facade)
            x += width + (_uniform(rng, .5, 4.) if rng.random() < .4 else 0.)
    size = (24., 2. * half_street, 4.)
    for _ in range(int(rng.integers(6, 16))):
        _furnish(rng, builder, size, along_walls=rng.random() < .7)
    _mover(rng, builder, (10., half_street, 2.), count=int(rng.integers(1, 3)))
    sun = rng.normal(size=3) * (1., 1., 0.) + (0., 0., 1.2)
    builder.light(tuple(200. * sun / np.linalg.norm(sun)), tuple(rng.uniform(1., 1.6) * np.array((1., .96, .88))),
                  radius=_uniform(rng, 1., 6.))
    inside = np.array([(-6., -half_street + .6, .6), (6., half_street - .6, 1.9)])
    return builder.build(inside, ambient=((.34, .38, .46), (.2, .19, .17)))


# --- what moves -------------------------------------------------------------------------------------------------------

def _mover(rng: np.random.Generator, builder: SceneBuilder, area: Colour, count: int) -> None:
    """Let balls hop and boxes drive about, within `area` (full sizes in metres)."""
    for _ in range(count):
        place = (_uniform(rng, -.4, .4) * area[0], _uniform(rng, -.4, .4) * area[1], 0.)
        paint = _material(rng, _THINGS)
        if rng.random() < .5:
            size = _uniform(rng, .2, .6)
            middle = (*place[:2], size / 2)
            motion = Motion(pivot=middle, axis=tuple(rng.normal(size=3)), swing=_uniform(rng, 0., 2.),
                            sway=(_uniform(rng, -.8, .8), _uniform(rng, -.8, .8), 0.),
                            hop=(0., 0., _uniform(rng, 0., .6)), frequency=_uniform(rng, .15, .6),
                            phase=_uniform(rng, 0., 6.))
            builder.sphere(middle, (size,) * 3, paint, motion=motion)
        else:
            size = (_uniform(rng, .3, .9), _uniform(rng, .3, .6), _uniform(rng, .3, 1.7))
            motion = Motion(pivot=place, spin=_uniform(rng, -.6, .6),
                            sway=(_uniform(rng, -1., 1.), _uniform(rng, -.6, .6), 0.), frequency=_uniform(rng, .1, .4),
                            phase=_uniform(rng, 0., 6.))
            builder.box((*place[:2], size[2] / 2), size, paint, motion=motion)
