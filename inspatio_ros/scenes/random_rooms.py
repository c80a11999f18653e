# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Rooms and corridors drawn at random, for training."""

from __future__ import annotations

import numpy as np

from inspatio_ros.scenes import furniture
from inspatio_ros.scenes.furniture import Placed
from inspatio_ros.scenes.materials import art, colour, leaves, material, palette, wood
from inspatio_ros.scenes.scene import Material, Motion, Scene, SceneBuilder
from inspatio_ros.scenes.shapes import Shape
from inspatio_ros.scenes.textures import Pattern

_CORNER = np.pi / 2


def random_room(rng: np.random.Generator) -> Scene:
    """Draw a furnished room, about 3.5 to 8 m wide."""
    size = np.array([rng.uniform(3.6, 8.), rng.uniform(3.6, 7.), rng.uniform(2.3, 3.6)])
    builder = SceneBuilder()
    _shell(builder, size, rng)
    taken: list[tuple[float, float, float]] = []
    for _ in range(int(rng.integers(2, 6))):
        _against_wall(builder, size, taken, rng)
    for _ in range(int(rng.integers(1, 5))):
        _standing(builder, size, taken, rng)
    for _ in range(int(rng.integers(2, 7))):
        _picture(builder, size, rng)
    add_movers(builder, (-size[0] / 2 + .8, -size[1] / 2 + .8, size[0] / 2 - .8, size[1] / 2 - .8), rng)
    _lamps(builder, size, rng)
    return _finish(builder, size, rng)


def random_corridor(rng: np.random.Generator) -> Scene:
    """Draw a long, narrow corridor with doors, pillars and things left along its walls."""
    size = np.array([rng.uniform(9., 18.), rng.uniform(1.9, 3.4), rng.uniform(2.3, 3.2)])
    builder = SceneBuilder()
    _shell(builder, size, rng)
    door = Material(Pattern.TILES, palette(rng, .3), scale=.45, aspect=1.7, grain=.05)
    frame = wood(rng)
    for _ in range(int(rng.integers(3, 7))):
        side = rng.choice((-1., 1.))
        furniture.picture(Placed(builder, (rng.uniform(-.45, .45) * size[0], side * (size[1] / 2 - .02), 0.),
                                 0. if side > 0 else np.pi), .95, 2.05, door, frame)
    for _ in range(int(rng.integers(3, 8))):
        x, side = rng.uniform(-.47, .47) * size[0], rng.choice((-1., 1.))
        _clutter(Placed(builder, (x, side * (size[1] / 2 - .25), 0.), rng.uniform(-.2, .2)), rng, .35)
    for _ in range(int(rng.integers(2, 6))):
        _picture(builder, size, rng)
    if rng.random() < .4:
        pillar = material(rng, 'wall')
        for x in np.arange(-.4, .41, .2) * size[0]:
            builder.box((x, size[1] / 2 - .15, size[2] / 2), (.3, .3, size[2]), pillar)
    add_movers(builder, (-size[0] / 2 + 1., -size[1] / 4, size[0] / 2 - 1., size[1] / 4), rng)
    _lamps(builder, size, rng)
    return _finish(builder, size, rng)


def _shell(builder: SceneBuilder, size: np.ndarray, rng: np.random.Generator) -> None:
    """The room itself, skirting boards, beams and a rug."""
    wall = material(rng, 'wall')
    walls = [wall if rng.random() < .6 else material(rng, 'wall') for _ in range(4)]
    ceiling = Material(Pattern.NOISE if rng.random() < .7 else Pattern.TILES,
                       tuple(tuple(np.full(3, v)) for v in (rng.uniform(.6, .9), rng.uniform(.7, 1.), .5)),
                       scale=float(rng.uniform(.3, .7)), grain=.05)
    builder.add(Shape.ROOM, (0., 0., size[2] / 2), tuple(size), (*walls, material(rng, 'floor'), ceiling))
    if rng.random() < .6:
        board = wood(rng)
        for y in (-1., 1.):
            builder.box((0., y * (size[1] / 2 - .01), .05), (size[0], .02, .1), board, casts=False)
    if rng.random() < .35:
        beam = wood(rng)
        for x in np.linspace(-.3, .3, int(rng.integers(2, 4))):
            builder.box((x * size[0], 0., size[2] - .07), (.16, size[1], .14), beam)
    if rng.random() < .6:
        builder.box((*rng.uniform(-.15, .15, 2) * size[:2], .008), (*rng.uniform(.3, .6, 2) * size[:2], .016),
                    material(rng, 'floor'), yaw=float(rng.choice((0., rng.uniform(-.5, .5)))), casts=False)


def _against_wall(builder: SceneBuilder, size: np.ndarray, taken: list, rng: np.random.Generator) -> None:
    """Put something with its back to a wall: a shelf, a cabinet, a sofa or a plant."""
    wall = int(rng.integers(4))
    yaw = wall * _CORNER
    length, away = (size[0], size[1]) if wall % 2 == 0 else (size[1], size[0])
    kind = rng.choice(('shelf', 'cabinet', 'sofa', 'plant', 'clutter'), p=(.25, .25, .2, .15, .15))
    width = {'shelf': rng.uniform(.7, 1.8), 'cabinet': rng.uniform(.7, 2.), 'sofa': rng.uniform(1.4, 2.2),
             'plant': .6, 'clutter': .7}[kind]
    along = rng.uniform(-1., 1.) * (length - width - .3) / 2
    back = away / 2 - {'shelf': .18, 'cabinet': .26, 'sofa': .45, 'plant': .4, 'clutter': .35}[kind]
    place = np.array([[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]]) @ (along, back)
    if not _free(taken, *place, width / 2):
        return
    thing = Placed(builder, (*place, 0.), yaw)
    if kind == 'shelf':
        books = Material(Pattern.BOOKS, palette(rng, .3), scale=float(rng.uniform(.8, 1.2)),
                         aspect=float(rng.uniform(.28, .45)), grain=.06, seed=int(rng.integers(1, 10000)))
        furniture.shelf(thing, width, rng.uniform(.9, min(2.2, size[2] - .2)), books, wood(rng))
    elif kind == 'cabinet':
        furniture.cabinet(thing, (width, .45, rng.uniform(.5, 1.4)), material(rng, 'thing'), wood(rng))
    elif kind == 'sofa':
        furniture.sofa(thing, width, material(rng, 'thing'), material(rng, 'thing'))
    elif kind == 'plant':
        furniture.plant(thing, rng.uniform(.8, 1.7), material(rng, 'thing'), leaves(rng), rng)
    else:
        _clutter(thing, rng, .4)


def _standing(builder: SceneBuilder, size: np.ndarray, taken: list, rng: np.random.Generator) -> None:
    """Put something in the middle of the room: a table with things on it and chairs, or a heap of solids."""
    x, y = rng.uniform(-.5, .5, 2) * (size[:2] - 2.2)
    yaw = rng.uniform(-np.pi, np.pi)
    if not _free(taken, x, y, .75):
        return
    thing = Placed(builder, (x, y, 0.), yaw)
    if rng.random() < .35:
        _clutter(thing, rng, .6)
        return
    height = rng.choice((.42, .74)) + rng.uniform(-.03, .03)
    if rng.random() < .3:
        furniture.round_table(thing, rng.uniform(.6, 1.1), height, material(rng, 'thing'), wood(rng))
    else:
        furniture.table(thing, (rng.uniform(.7, 1.5), rng.uniform(.5, .8), height), wood(rng), wood(rng))
    top = Placed(builder, (x, y, height), yaw)
    for _ in range(int(rng.integers(1, 5))):
        _solid(top, *rng.uniform(-.25, .25, 2), rng.uniform(.08, .28, 3), rng)
    if height > .6:
        seat, frame = material(rng, 'thing'), wood(rng)
        for angle in rng.permutation(4)[:rng.integers(1, 4)] * _CORNER:
            place = thing.at(.75 * np.sin(-angle), .75 * np.cos(-angle), 0.)
            furniture.chair(Placed(builder, place, yaw + angle + rng.uniform(-.3, .3)), seat, frame)


def _solid(thing: Placed, x: float, y: float, size: np.ndarray, rng: np.random.Generator) -> None:
    """Put one solid of any shape with its bottom at z = 0 of the thing's frame."""
    what, kind = material(rng, 'thing'), rng.random()
    if kind < .45:
        label = art(rng) if rng.random() < .4 else what
        thing.box(x, y, 0., tuple(size), (what, what, label, label, what, what), turn=rng.uniform(-1., 1.))
    elif kind < .75:
        thing.cylinder(x, y, 0., size[0], size[2], what)
    else:
        thing.sphere(x, y, size[2] / 2, tuple(size), what)


def _clutter(thing: Placed, rng: np.random.Generator, spread: float) -> None:
    """A few solids that stand together."""
    for _ in range(int(rng.integers(2, 5))):
        _solid(thing, *rng.uniform(-spread, spread, 2), rng.uniform(.12, .7, 3), rng)


def _picture(builder: SceneBuilder, size: np.ndarray, rng: np.random.Generator) -> None:
    """Hang a picture, or a window that shines, on a wall."""
    wall = int(rng.integers(4))
    yaw = wall * _CORNER
    length, away = (size[0], size[1]) if wall % 2 == 0 else (size[1], size[0])
    wide, high = rng.uniform(.3, 1.4), rng.uniform(.3, 1.2)
    along, back = rng.uniform(-.5, .5) * (length - wide - .2), away / 2 - .02
    place = np.array([[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]]) @ (along, back)
    what = art(rng)
    if rng.random() < .15:
        sky = ((.7, .8, .95), (.5, .6, .75), (.85, .93, 1.))
        what = Material(Pattern.FACADE, sky, scale=float(rng.uniform(.2, .6)), aspect=1.3,
                        seed=int(rng.integers(1000)), emission=.9)
    bottom = rng.uniform(.4, max(size[2] - high - .15, .5))
    furniture.picture(Placed(builder, (*place, bottom), yaw), wide, high, what, wood(rng))


def _lamps(builder: SceneBuilder, size: np.ndarray, rng: np.random.Generator) -> None:
    """One or two lights below the ceiling."""
    for _ in range(1 + int(rng.random() < .4)):
        warm = rng.uniform(-.15, .25)
        power = rng.uniform(.8, 1.7)
        builder.light((*rng.uniform(-.35, .35, 2) * size[:2], size[2] - rng.uniform(.1, .6)),
                      (power * (1. + warm), power, power * (1. - warm)), radius=float(rng.uniform(.02, .35)),
                      reach=float(rng.uniform(1.8, 4.)))


def _finish(builder: SceneBuilder, size: np.ndarray, rng: np.random.Generator) -> Scene:
    """Add ambient light and say where cameras may be."""
    level = rng.uniform(.14, .4)
    above, below = level * rng.uniform(.85, 1.15, 3), .8 * level * rng.uniform(.8, 1.2, 3)
    half = size / 2 - .35
    return builder.build(np.array([(-half[0], -half[1], .35), (half[0], half[1], min(size[2] - .35, 2.))]),
                         (tuple(above), tuple(below)))


def _free(taken: list, x: float, y: float, radius: float) -> bool:
    """Say whether a disc on the floor is free, and take it if it is."""
    if any(np.hypot(x - a, y - b) < radius + r for a, b, r in taken):
        return False
    taken.append((x, y, radius))
    return True


def add_movers(builder: SceneBuilder, area: tuple[float, float, float, float], rng: np.random.Generator) -> None:
    """Add up to three bodies that move about in an area (left, front, right, back) of the floor."""
    for _ in range(int(rng.integers(0, 4))):
        x, y = rng.uniform(area[0], area[2]), rng.uniform(area[1], area[3])
        heading = rng.uniform(-np.pi, np.pi)
        sway = rng.uniform(.2, .8) * np.array([np.cos(heading), np.sin(heading), 0.])
        motion = Motion(pivot=(x, y, 0.), spin=float(rng.choice((0., rng.uniform(-2., 2.)))),
                        sway=tuple(sway), frequency=float(rng.uniform(.08, .5)), phase=float(rng.uniform(0., 6.28)),
                        hop=(0., 0., float(rng.choice((0., rng.uniform(.1, .5))))))
        thing = Placed(builder, (x, y, 0.), heading, motion)
        kind = rng.random()
        if kind < .4:
            size = float(rng.uniform(.15, .5))
            thing.sphere(0., 0., size / 2, (size, size, size), material(rng, 'thing'))
        elif kind < .75:
            _solid(thing, 0., 0., rng.uniform(.2, .7, 3), rng)
            _solid(thing, .25, 0., rng.uniform(.1, .4, 3), rng)
        else:
            cloth, skin = material(rng, 'thing'), Material(Pattern.NOISE, (colour(rng),) * 3, scale=.1)
            thing.cylinder(0., 0., 0., .3, .8, material(rng, 'thing'))
            thing.cylinder(0., 0., .8, .4, .6, cloth)
            thing.sphere(0., 0., 1.55, (.22, .24, .28), skin)
