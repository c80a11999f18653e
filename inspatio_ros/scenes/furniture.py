# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Things that stand in rooms, made of a few solids each, in metres and in their own frame (x right, y back, z up)."""

from __future__ import annotations

import numpy as np

from inspatio_ros.scenes.scene import Colour, Material, Motion, SceneBuilder
from inspatio_ros.scenes.textures import Pattern


class Placed:
    """Adds solids in the frame of a thing that stands at (x, y, z), turned by yaw radians; all share one motion."""

    def __init__(self, builder: SceneBuilder, place: Colour, yaw: float = 0., motion: Motion | None = None) -> None:
        """Remember where the thing stands."""
        self._builder, self._place, self._yaw, self._motion = builder, np.asarray(place, float), yaw, motion
        c, s = np.cos(yaw), np.sin(yaw)
        self._R = np.array([[c, -s, 0.], [s, c, 0.], [0., 0., 1.]])

    def at(self, x: float, y: float, z: float) -> Colour:
        """Give a point of the thing's own frame in the world."""
        return tuple(self._R @ (x, y, z) + self._place)

    def box(self, x: float, y: float, z: float, size: Colour, material: Material | tuple, turn: float = 0.,
            **more: object) -> None:
        """Add a box whose bottom's middle is at (x, y, z)."""
        self._builder.box(self.at(x, y, z + size[2] / 2), size, material, yaw=self._yaw + turn, motion=self._motion,
                          **more)

    def cylinder(self, x: float, y: float, z: float, width: float, height: float, material: Material,
                 **more: object) -> None:
        """Add an upright cylinder whose bottom's middle is at (x, y, z)."""
        self._builder.cylinder(self.at(x, y, z + height / 2), (width, width, height), material, yaw=self._yaw,
                               motion=self._motion, **more)

    def sphere(self, x: float, y: float, z: float, size: Colour, material: Material, **more: object) -> None:
        """Add an ellipsoid whose middle is at (x, y, z)."""
        self._builder.sphere(self.at(x, y, z), size, material, yaw=self._yaw, motion=self._motion, **more)


def table(thing: Placed, size: Colour, top: Material, legs: Material) -> None:
    """A table with four legs."""
    width, depth, height = size
    thing.box(0., 0., height - .04, (width, depth, .04), top)
    for x in (-width / 2 + .06, width / 2 - .06):
        for y in (-depth / 2 + .06, depth / 2 - .06):
            thing.box(x, y, 0., (.06, .06, height - .04), legs)


def round_table(thing: Placed, width: float, height: float, top: Material, foot: Material) -> None:
    """A round table on one foot."""
    thing.cylinder(0., 0., height - .03, width, .03, top)
    thing.cylinder(0., 0., .02, .07, height - .05, foot)
    thing.cylinder(0., 0., 0., .5 * width, .02, foot)


def chair(thing: Placed, seat: Material, frame: Material) -> None:
    """A chair that faces its own -y."""
    thing.box(0., 0., .43, (.44, .44, .05), seat)
    thing.box(0., .2, .48, (.44, .05, .42), seat)
    for x in (-.19, .19):
        for y in (-.19, .19):
            thing.box(x, y, 0., (.04, .04, .43), frame)


def sofa(thing: Placed, width: float, cloth: Material, cushion: Material) -> None:
    """A sofa that faces its own -y, with two cushions."""
    thing.box(0., 0., .08, (width, .85, .34), cloth)
    thing.box(0., .34, .42, (width, .18, .42), cloth)
    for x in (-width / 2 + .1, width / 2 - .1):
        thing.box(x, -.08, .42, (.2, .68, .2), cloth)
    thing.sphere(-width / 4, .16, .58, (.46, .22, .4), cushion)
    thing.sphere(width / 5, .12, .56, (.42, .24, .36), cushion)


def shelf(thing: Placed, width: float, height: float, books: Material, wood: Material) -> None:
    """A full bookshelf that faces its own -y."""
    thing.box(0., .03, 0., (width, .24, height), (wood, wood, books, wood, wood, wood))
    for x in (-width / 2 - .015, width / 2 + .015):
        thing.box(x, 0., 0., (.03, .32, height + .03), wood)
    thing.box(0., 0., height, (width, .32, .03), wood)


def cabinet(thing: Placed, size: Colour, front: Material, body: Material) -> None:
    """A cabinet that faces its own -y."""
    thing.box(0., 0., .06, (size[0], size[1], size[2] - .06), (body, body, front, body, body, body))
    thing.box(0., .02, 0., (size[0] - .08, size[1] - .08, .06), body)


def plant(thing: Placed, height: float, pot: Material, leaves: Material, rng: np.random.Generator) -> None:
    """A plant in a pot: a stem and a crown of ellipsoids."""
    thing.cylinder(0., 0., 0., .34 * height**.5, .28 * height, pot)
    thing.cylinder(0., 0., .28 * height, .035, .4 * height, leaves)
    for i in range(5):
        angle, away = 2.5 * i + rng.uniform(0., 1.), rng.uniform(.05, .2) * height
        size = height * rng.uniform(.22, .4)
        thing.sphere(away * np.cos(angle), away * np.sin(angle), height * rng.uniform(.6, .9),
                     (size, size * rng.uniform(.6, 1.), size * rng.uniform(.6, 1.)), leaves)


def lamp(thing: Placed, height: float, shade: Material, foot: Material) -> None:
    """A lamp on a stand; its shade shines."""
    thing.cylinder(0., 0., 0., .3, .025, foot)
    thing.cylinder(0., 0., .02, .035, height - .3, foot)
    thing.cylinder(0., 0., height - .32, .36, .32, shade, casts=False)


def train(thing: Placed, radius: float, colours: tuple[Material, ...], wheel: Material) -> None:
    """A toy train on a circle of `radius` about the thing's middle: an engine and a wagon for every further colour."""
    for i, paint in enumerate(colours):
        angle = -i * .46 / radius
        x, y = radius * np.cos(angle), radius * np.sin(angle)
        turn = angle + np.pi / 2
        along, across = np.array([np.cos(turn), np.sin(turn)]), np.array([-np.sin(turn), np.cos(turn)])
        thing.box(x, y, .06, (.38, .19, .05), wheel, turn=turn)
        for a in (-.11, .11):
            for b in (-.1, .1):
                px, py = np.array([x, y]) + a * along + b * across
                thing.sphere(px, py, .06, (.12, .12, .12), wheel)
        if i:
            thing.box(x, y, .11, (.34, .2, .17), paint, turn=turn)
            continue
        cab, front = np.array([x, y]) - .1 * along, np.array([x, y]) + .08 * along
        thing.box(*cab, .11, (.15, .2, .26), paint, turn=turn)
        thing.box(*front, .11, (.22, .15, .15), paint, turn=turn)
        thing.cylinder(*(front + .05 * along), .26, .07, .12, wheel)


def picture(thing: Placed, width: float, height: float, what: Material, frame: Material) -> None:
    """A framed picture on a wall behind it (its own +y), seen from its own -y; the thing stands at its lower edge."""
    thing.box(0., 0., 0., (width, .03, height), (frame, frame, what, frame, frame, frame), casts=False)


def ball_material(seed: int, colours: tuple[Colour, Colour, Colour]) -> Material:
    """A striped, slightly shiny ball."""
    return Material(Pattern.STRIPES, colours, scale=.12, aspect=.4, grain=.04, seed=seed, specular=.25)
