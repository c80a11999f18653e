# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The built-in room of the sample recording."""

from __future__ import annotations

import numpy as np

from inspatio_ros.scenes import furniture
from inspatio_ros.scenes.furniture import Placed
from inspatio_ros.scenes.scene import Material, Motion, Scene, SceneBuilder
from inspatio_ros.scenes.shapes import Shape
from inspatio_ros.scenes.textures import Pattern

#: Size of the room in metres; its floor's middle is the origin.
ROOM_SIZE = (6.4, 5.2, 2.7)

_OAK = Material(Pattern.WOOD, ((.42, .27, .15), (.56, .38, .22), (.65, .46, .28)), scale=.5, grain=.05)
_WALNUT = Material(Pattern.WOOD, ((.22, .14, .09), (.33, .21, .13), (.40, .27, .17)), scale=.4, grain=.05, seed=3)
_WHITE = Material(Pattern.NOISE, ((.88, .87, .84), (.94, .93, .91), (1., 1., 1.)), scale=.3, grain=.03)
_DARK = Material(Pattern.PLAIN, ((.09, .09, .10),) * 3, grain=.1, specular=.15)
_SHINE = Material(Pattern.PLAIN, ((1., .93, .78),) * 3, grain=0., emission=1.)


def sample_room() -> Scene:
    """Give the built-in room: textured, full of things that hide each other, with a toy train and a ball that move."""
    builder = SceneBuilder()
    _shell(builder)
    _living_corner(builder)
    _dining_corner(builder)
    _walls(builder)
    _movers(builder)
    builder.light((.2, .3, 2.45), (1.15, 1.02, .84), radius=.22, reach=2.6)
    builder.light((-2.0, -2.9, 2.3), (.75, .85, 1.05), radius=.5, reach=3.2)
    width, depth, height = ROOM_SIZE
    inside = np.array([(-width / 2 + .4, -depth / 2 + .4, .3), (width / 2 - .4, depth / 2 - .4, height - .4)])
    return builder.build(inside, ambient=((.30, .31, .34), (.24, .20, .17)))


def _shell(builder: SceneBuilder) -> None:
    """Floor, walls and ceiling, the rug, skirting boards and beams."""
    width, depth, height = ROOM_SIZE
    floor = Material(Pattern.PLANKS, ((.50, .33, .19), (.62, .43, .26), (.20, .12, .07)), scale=1.1, aspect=.13,
                     grain=.06, specular=.04)
    paper = Material(Pattern.STRIPES, ((.72, .77, .74), (.80, .84, .80), (.62, .70, .66)), scale=.22, aspect=0.,
                     grain=.05)
    brick = Material(Pattern.BRICKS, ((.60, .28, .20), (.74, .42, .30), (.80, .76, .70)), scale=.26, aspect=.32,
                     grain=.16)
    plaster = Material(Pattern.NOISE, ((.82, .72, .55), (.90, .81, .65), (.95, .88, .75)), scale=.7, grain=.06)
    ceiling = Material(Pattern.NOISE, ((.86, .86, .85), (.93, .93, .92), (.97, .97, .96)), scale=.4, grain=.04)
    # Faces of the room: -x, +x, -y, +y, -z, +z.
    builder.add(Shape.ROOM, (0., 0., height / 2), ROOM_SIZE, (plaster, brick, paper, paper, floor, ceiling))
    rug = Material(Pattern.CHECKER, ((.55, .16, .15), (.80, .70, .52), (.2, .2, .3)), scale=.2, grain=.18)
    border = Material(Pattern.WEAVE, ((.14, .18, .32), (.24, .30, .48), (.7, .6, .4)), scale=.06, grain=.15)
    builder.box((-.9, .35, .006), (2.5, 1.9, .012), border, casts=False)
    builder.box((-.9, .35, .011), (2.2, 1.6, .014), rug, casts=False)
    for y in (-depth / 2 + .01, depth / 2 - .01):
        builder.box((0., y, .05), (width, .02, .1), _WHITE, casts=False)
    for x in (-1.6, 0., 1.6):
        builder.box((x, 0., height - .07), (.16, depth, .14), _WALNUT)


def _living_corner(builder: SceneBuilder) -> None:
    """The sofa, the low table with what lies on it, the bookshelf, a lamp and a plant."""
    cloth = Material(Pattern.WEAVE, ((.16, .30, .36), (.20, .37, .44), (.28, .45, .50)), scale=.05, grain=.14)
    cushion = Material(Pattern.DOTS, ((.87, .62, .20), (.95, .90, .80), (.75, .25, .18)), scale=.11, grain=.08)
    furniture.sofa(Placed(builder, (-1.2, 2.05, 0.)), 2.1, cloth, cushion)
    furniture.table(Placed(builder, (-1., .4, 0.), .1), (1., .6, .42), _OAK, _WALNUT)
    vase = Material(Pattern.STRIPES, ((.15, .35, .60), (.90, .90, .88), (.8, .6, .2)), scale=.05, aspect=3.,
                    grain=.04, specular=.3)
    top = Placed(builder, (-1., .4, .42), .1)
    top.sphere(-.25, .05, .12, (.2, .2, .24), vase)
    top.cylinder(-.25, .05, .22, .07, .09, vase)
    page = Material(Pattern.TEXT, ((.93, .92, .88), (.15, .15, .17), (.8, .2, .2)), scale=.022, grain=.03)
    top.box(.15, -.08, 0., (.3, .22, .03), (page,) * 6, turn=.4)
    top.box(.22, .1, 0., (.22, .16, .06), (_BOOK_RED,) * 4 + (page, page), turn=-.3)
    books = Material(Pattern.BOOKS, ((.25, .16, .12), (.75, .65, .45), (.30, .20, .12)), scale=1., aspect=.36,
                     grain=.07, seed=8)
    furniture.shelf(Placed(builder, (-3.02, .9, 0.), np.pi / 2), 1.5, 2.16, books, _WALNUT)
    furniture.lamp(Placed(builder, (-2.72, 2.2, 0.)), 1.65, _SHINE, _DARK)
    leaves = Material(Pattern.NOISE, ((.08, .22, .07), (.20, .42, .14), (.40, .58, .25)), scale=.05, grain=.25)
    pot = Material(Pattern.STRIPES, ((.70, .38, .24), (.62, .31, .19), (.8, .5, .35)), scale=.06, aspect=8., grain=.1)
    rng = np.random.default_rng(4)
    furniture.plant(Placed(builder, (.45, 2.1, 0.)), 1.35, pot, leaves, rng)
    furniture.plant(Placed(builder, (2.7, -2.1, 0.)), 1.1, pot, leaves, rng)


_BOOK_RED = Material(Pattern.PLAIN, ((.65, .14, .12),) * 3, grain=.12)


def _dining_corner(builder: SceneBuilder) -> None:
    """The dining table with chairs and fruit, and the sideboard."""
    seat = Material(Pattern.WEAVE, ((.62, .22, .16), (.72, .30, .20), (.8, .4, .3)), scale=.05, grain=.12)
    furniture.table(Placed(builder, (1.9, .75, 0.), -.12), (1.5, .85, .75), _OAK, _OAK)
    for x, y, yaw in ((1.55, .05, np.pi - .25), (2.3, 0., np.pi + .2), (1.75, 1.5, .1), (.85, .95, np.pi / 2 + .1)):
        furniture.chair(Placed(builder, (x, y, 0.), yaw), seat, _WALNUT)
    plate = Material(Pattern.DOTS, ((.92, .92, .94), (.25, .40, .70), (.2, .3, .6)), scale=.05, grain=.02, specular=.3)
    top = Placed(builder, (1.9, .75, .75), -.12)
    top.cylinder(0., 0., 0., .4, .03, plate)
    for i, colour in enumerate(((.85, .20, .12), (.90, .65, .10), (.40, .62, .15), (.88, .42, .10))):
        fruit = Material(Pattern.NOISE, (colour, tuple(.75 * c for c in colour), colour), scale=.05, specular=.3)
        top.sphere(.09 * np.cos(1.6 * i), .09 * np.sin(1.6 * i), .075, (.1, .1, .1), fruit)
    doors = Material(Pattern.TILES, ((.20, .42, .42), (.24, .50, .48), (.08, .14, .15)), scale=.6, aspect=1.2,
                     grain=.06)
    furniture.cabinet(Placed(builder, (.3, -2.33, 0.), np.pi), (1.8, .45, .8), doors, _WALNUT)
    on = Placed(builder, (.3, -2.33, .8), np.pi)
    screen = Material(Pattern.POSTER, ((.1, .1, .1), (.1, .1, .1), (.03, .03, .04)), seed=77, grain=0., emission=.7)
    on.box(-.15, .1, .02, (.95, .05, .55), (_DARK, _DARK, screen, _DARK, _DARK, _DARK), casts=True)
    on.sphere(.65, .02, .13, (.24, .24, .26), Material(Pattern.MARBLE, ((.85, .82, .75), (.45, .35, .3), (.9, .85, .8)),
                                                      scale=.12, specular=.35))


def _walls(builder: SceneBuilder) -> None:
    """Posters, the window and the door."""
    width, depth, _ = ROOM_SIZE
    posters = (((-1.9, depth / 2 - .02, 1.25), 0., .75, 1., 5), ((-.75, depth / 2 - .02, 1.4), 0., .9, .65, 14),
               ((1.5, depth / 2 - .02, 1.2), 0., 1.15, .9, 23), ((width / 2 - .02, 1.3, 1.1), -np.pi / 2, .8, 1.1, 31),
               ((width / 2 - .02, .1, 1.3), -np.pi / 2, .7, .7, 46),
               ((-width / 2 + .02, -1.6, 1.2), np.pi / 2, .8, 1., 52))
    for place, yaw, wide, high, seed in posters:
        art = Material(Pattern.POSTER, ((.5, .5, .5), (.5, .5, .5), (.92, .91, .87)), seed=seed, grain=.05)
        furniture.picture(Placed(builder, place, yaw), wide, high, art, _DARK)
    view = Material(Pattern.FACADE, ((.75, .84, .95), (.55, .66, .80), (.80, .90, 1.)), scale=.28, aspect=1.4,
                    grain=.05, emission=.9)
    furniture.picture(Placed(builder, (-1.9, -depth / 2 + .02, .95), np.pi), 1.3, 1.25, view, _WHITE)
    door = Material(Pattern.TILES, ((.85, .83, .78), (.88, .86, .82), (.6, .58, .54)), scale=.45, aspect=1.7, grain=.04)
    furniture.picture(Placed(builder, (width / 2 - .02, -1.2, 0.), -np.pi / 2), .95, 2.05, door, _WHITE)


def _movers(builder: SceneBuilder) -> None:
    """A toy train that circles the low table and a ball that hops beside it."""
    pivot = (-1., .4, 0.)
    paints = tuple(Material(Pattern.STRIPES, (colour, tuple(.7 * c for c in colour), (.95, .9, .7)), scale=.12,
                            aspect=0., grain=.05, specular=.2)
                   for colour in ((.80, .12, .10), (.12, .38, .70), (.90, .68, .12), (.16, .52, .25)))
    motion = Motion(pivot=pivot, spin=.55)
    furniture.train(Placed(builder, (*pivot[:2], .02), .6, motion), .98, paints, _DARK)
    ball = furniture.ball_material(1, ((.95, .35, .10), (.98, .95, .90), (.1, .3, .6)))
    place = (-1.75, -1.35, .17)
    builder.sphere(place, (.34, .34, .34), ball,
                   motion=Motion(pivot=place, axis=(.2, 1., .1), swing=1.2, sway=(.5, .15, 0.), hop=(0., 0., .35),
                                 frequency=.4))
