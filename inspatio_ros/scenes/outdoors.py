# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Streets and yards drawn at random, for training: ground, buildings, trees, cars, a sky far away."""

from __future__ import annotations

import numpy as np

from inspatio_ros.scenes.furniture import Placed
from inspatio_ros.scenes.materials import art, colour, leaves, material, palette, wood
from inspatio_ros.scenes.random_rooms import add_movers
from inspatio_ros.scenes.scene import Material, Motion, Scene, SceneBuilder
from inspatio_ros.scenes.shapes import Shape
from inspatio_ros.scenes.textures import Pattern

#: Where the sky is, in metres: depth estimators, too, give it a large depth rather than none.
SKY = 70.
_SUN = 300.


def random_outdoors(rng: np.random.Generator) -> Scene:
    """Draw a street or a yard, about 30 m wide."""
    builder = SceneBuilder()
    light = Material(Pattern.CLOUDS, (tuple(rng.uniform(.7, .95, 3)), (rng.uniform(.2, .5), .55, .85), (.95, .95, .97)),
                     scale=float(rng.uniform(.2, .5)), grain=0., seed=int(rng.integers(1000)), emission=1.)
    builder.add(Shape.DOME, (0., 0., 0.), (2. * SKY, 2. * SKY, 2. * SKY), light)
    builder.add(Shape.PLANE, (0., 0., 0.), (2., 2., 2.), material(rng, 'ground'))
    street = rng.random() < .6
    if street:
        builder.box((0., 0., .01), (60., rng.uniform(5., 8.), .02), material(rng, 'ground'), casts=False)
    _buildings(builder, street, rng)
    for _ in range(int(rng.integers(2, 7))):
        _tree(builder, rng)
    for _ in range(int(rng.integers(0, 5))):
        _car(builder, rng)
    for _ in range(int(rng.integers(3, 9))):
        _small(builder, rng)
    add_movers(builder, (-4., -3., 4., 3.), rng)
    _sun(builder, rng)
    sky = rng.uniform(.25, .5)
    return builder.build(np.array([(-7., -2.8, .5), (7., 2.8, 2.2)]),
                         ((.9 * sky, sky, 1.15 * sky), (.5 * sky, .47 * sky, .42 * sky)))


def _buildings(builder: SceneBuilder, street: bool, rng: np.random.Generator) -> None:
    """Boxes with windows: along both sides of a street, or all around."""
    for i in range(int(rng.integers(5, 12))):
        size = rng.uniform((4., 4., 2.5), (11., 9., 12.))
        if street:
            x, y = rng.uniform(-24., 24.), (-1.)**i * (rng.uniform(4.8, 8.) + size[1] / 2)
        else:
            angle, away = rng.uniform(-np.pi, np.pi), rng.uniform(9., 22.)
            x, y = (away + size[0] / 2) * np.cos(angle), (away + size[1] / 2) * np.sin(angle)
        wall = Material(Pattern.FACADE, palette(rng, .2), scale=float(rng.uniform(1., 2.2)),
                        aspect=float(rng.uniform(.9, 1.7)), grain=.12, seed=int(rng.integers(10000)))
        if rng.random() < .25:
            wall = material(rng, 'wall')
        builder.box((x, y, size[2] / 2), tuple(size), (wall,) * 4 + (wall, material(rng, 'ground')),
                    yaw=0. if street else float(rng.uniform(-.5, .5)))
        if rng.random() < .5:
            sign = Placed(builder, (x, y - np.sign(y) * (size[1] / 2 + .06), rng.uniform(1.8, 2.4)))
            sign.box(0., 0., 0., (rng.uniform(1., 3.), .1, rng.uniform(.4, 1.)), art(rng))


def _tree(builder: SceneBuilder, rng: np.random.Generator) -> None:
    x, y = rng.uniform(-12., 12.), rng.choice((-1., 1.)) * rng.uniform(3.2, 9.)
    height, green = rng.uniform(2.2, 5.5), leaves(rng)
    tree = Placed(builder, (x, y, 0.))
    tree.cylinder(0., 0., 0., .05 * height, .6 * height, wood(rng))
    for _ in range(int(rng.integers(2, 5))):
        size = height * rng.uniform(.25, .5, 3)
        tree.sphere(*rng.uniform(-.15, .15, 2) * height, height * rng.uniform(.55, .9), tuple(size), green)


def _car(builder: SceneBuilder, rng: np.random.Generator) -> None:
    """A car that stands or drives along x."""
    x, y = rng.uniform(-10., 10.), rng.choice((-1., 1.)) * rng.uniform(3.1, 4.4)
    motion = None
    if rng.random() < .5:
        motion = Motion(velocity=(float(rng.choice((-1., 1.)) * rng.uniform(.5, 4.)), 0., 0.))
    paint = Material(Pattern.NOISE, (colour(rng, .6),) * 3, grain=.05, specular=.4)
    glass = Material(Pattern.NOISE, ((.1, .12, .15), (.25, .3, .35), (.3, .3, .4)), scale=.4, grain=.05, specular=.4)
    tyre = Material(Pattern.PLAIN, ((.07, .07, .07),) * 3)
    car = Placed(builder, (x, y, 0.), float(rng.choice((0., np.pi))), motion)
    car.box(0., 0., .3, (4., 1.7, .55), paint)
    car.box(-.2, 0., .85, (2.1, 1.5, .5), (glass, glass, glass, glass, paint, paint))
    for wheel in (-1.25, 1.25):
        car.sphere(wheel, 0., .32, (.64, 1.78, .64), tyre)


def _small(builder: SceneBuilder, rng: np.random.Generator) -> None:
    """A crate, a bin, a post, a bench or a sign at the side."""
    x, y = rng.uniform(-7., 7.), rng.choice((-1., 1.)) * rng.uniform(1.6, 4.)
    thing, what = Placed(builder, (x, y, 0.), rng.uniform(-np.pi, np.pi)), material(rng, 'thing')
    kind = rng.integers(4)
    if kind == 0:
        thing.box(0., 0., 0., tuple(rng.uniform(.3, 1.1, 3)), what)
    elif kind == 1:
        thing.cylinder(0., 0., 0., rng.uniform(.3, .6), rng.uniform(.6, 1.1), what)
    elif kind == 2:
        thing.cylinder(0., 0., 0., .08, rng.uniform(2., 3.5), what)
        thing.box(0., -.06, 1.7, (.7, .04, .5), art(rng))
    else:
        thing.box(0., 0., .4, (1.5, .4, .07), what)
        thing.box(0., .2, .5, (1.5, .05, .4), what)
        for end in (-.6, .6):
            thing.box(end, 0., 0., (.08, .35, .4), wood(rng))


def _sun(builder: SceneBuilder, rng: np.random.Generator) -> None:
    """The sun: far away, so large that shadows have soft rims."""
    turn, high, power = rng.uniform(-np.pi, np.pi), rng.uniform(.4, 1.2), rng.uniform(.6, 1.5)
    direction = np.array([np.cos(turn) * np.cos(high), np.sin(turn) * np.cos(high), np.sin(high)])
    warm = rng.uniform(0., .15)
    builder.light(tuple(_SUN * direction), (power * (1. + warm), power, power * (1. - warm)),
                  radius=float(_SUN * rng.uniform(.002, .02)))
