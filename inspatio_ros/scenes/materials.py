# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Materials drawn at random, for scenes to train on."""

from __future__ import annotations

import colorsys

import numpy as np

from inspatio_ros.scenes.scene import Colour, Material
from inspatio_ros.scenes.textures import Pattern

_FLOOR = (Pattern.PLANKS, Pattern.TILES, Pattern.CHECKER, Pattern.NOISE, Pattern.WEAVE, Pattern.STONES, Pattern.WOOD,
          Pattern.MARBLE, Pattern.DOTS)
_WALL = (Pattern.NOISE, Pattern.NOISE, Pattern.STRIPES, Pattern.BRICKS, Pattern.PLANKS, Pattern.TILES, Pattern.DOTS,
         Pattern.STONES, Pattern.PLAIN, Pattern.MARBLE, Pattern.WEAVE)
_THING = (Pattern.PLAIN, Pattern.NOISE, Pattern.WOOD, Pattern.STRIPES, Pattern.CHECKER, Pattern.DOTS, Pattern.WEAVE,
          Pattern.MARBLE, Pattern.TEXT, Pattern.PLANKS, Pattern.BRICKS, Pattern.BOOKS, Pattern.STONES, Pattern.TILES)
_GROUND = (Pattern.NOISE, Pattern.NOISE, Pattern.STONES, Pattern.TILES, Pattern.BRICKS, Pattern.CHECKER)

#: Typical size of a feature in metres by pattern, where a wall or a floor has it.
_SCALE = {Pattern.PLANKS: 1.1, Pattern.TILES: .4, Pattern.CHECKER: .35, Pattern.NOISE: .5, Pattern.WEAVE: .06,
          Pattern.STONES: .35, Pattern.WOOD: .5, Pattern.MARBLE: .6, Pattern.DOTS: .2, Pattern.STRIPES: .2,
          Pattern.BRICKS: .25, Pattern.TEXT: .04, Pattern.BOOKS: 1., Pattern.FACADE: 1.6, Pattern.PLAIN: 1.}
_ASPECT = {Pattern.PLANKS: .13, Pattern.BRICKS: .35, Pattern.BOOKS: .35, Pattern.FACADE: 1.2}


def colour(rng: np.random.Generator, vivid: float = .3) -> Colour:
    """Draw a colour; most are pale or dull, a part `vivid` is saturated."""
    saturation = rng.uniform(.5, .95) if rng.random() < vivid else rng.beta(1.3, 3.5)
    return colorsys.hsv_to_rgb(rng.random(), saturation, rng.uniform(.12, .98))


def palette(rng: np.random.Generator, vivid: float = .3) -> tuple[Colour, Colour, Colour]:
    """Draw three colours that stand apart by a contrast which varies much from draw to draw."""
    first = np.array(colour(rng, vivid))
    contrast = rng.choice((.06, .15, .35, 1.), p=(.25, .3, .25, .2))
    others = [tuple(np.clip(first + contrast * (np.array(colour(rng, vivid)) - first)
                            + rng.uniform(-.1, .1) * contrast, .02, 1.)) for _ in range(2)]
    return (tuple(first), *others)


def material(rng: np.random.Generator, role: str) -> Material:
    """Draw a material for a role: 'floor', 'wall', 'thing' or 'ground'."""
    patterns = {'floor': _FLOOR, 'wall': _WALL, 'thing': _THING, 'ground': _GROUND}[role]
    pattern = patterns[rng.integers(len(patterns))]
    size = _SCALE[pattern] * np.exp(rng.normal(0., .35))
    if role == 'thing' and pattern not in (Pattern.TEXT, Pattern.BOOKS, Pattern.WEAVE):
        size *= .45
    if role == 'ground':
        size *= 2.5
    return Material(pattern, palette(rng, .15 if role in ('wall', 'ground') else .35), scale=float(size),
                    aspect=float(_ASPECT.get(pattern, 1.) * np.exp(rng.normal(0., .2))),
                    grain=float(rng.uniform(.03, .2)), seed=int(rng.integers(1, 10000)),
                    specular=float(rng.choice((0., .1, .3), p=(.75, .15, .1))))


def wood(rng: np.random.Generator) -> Material:
    """Draw a kind of wood, or of painted wood."""
    if rng.random() < .3:
        return Material(Pattern.NOISE, palette(rng, .3), scale=.3, grain=.05, seed=int(rng.integers(1, 10000)))
    tone, red = rng.uniform(.2, .8), rng.uniform(.9, 1.1)
    base = np.array([tone, .68 * tone * red, .42 * tone])
    return Material(Pattern.WOOD, tuple(tuple(np.clip(base * k, 0., 1.)) for k in (.8, 1., 1.15)),
                    scale=float(rng.uniform(.3, .6)), grain=.05, seed=int(rng.integers(1, 10000)))


def leaves(rng: np.random.Generator) -> Material:
    """Draw foliage."""
    base = np.array([rng.uniform(.15, .45), rng.uniform(.35, .6), rng.uniform(.08, .25)])
    return Material(Pattern.NOISE, tuple(tuple(np.clip(base * k, 0., 1.)) for k in (.5, 1.1, 1.6)),
                    scale=float(rng.uniform(.04, .12)), grain=.25, seed=int(rng.integers(1, 10000)))


def art(rng: np.random.Generator) -> Material:
    """Draw a picture: a poster, a page of text or a pattern."""
    seed = int(rng.integers(1, 100000))
    if rng.random() < .65:
        return Material(Pattern.POSTER, palette(rng, .3), seed=seed, grain=.04)
    if rng.random() < .5:
        return Material(Pattern.TEXT, ((.93, .92, .88), (.12, .12, .15), colour(rng, .8)), seed=seed, grain=.04,
                        scale=float(rng.uniform(.03, .1)))
    return material(rng, 'thing')
