# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Patches of photographs on the surfaces of a scene: a mip atlas that both ray casters read.

Photograph p of an atlas float32 [P, G, 2 G, 3], linear, holds its sizes G, G / 2, ... 1 side by side: level l begins
at column 2 G - 2 (G >> l). G is a power of two.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from inspatio_ros.scenes.scene import Scene, linear
from inspatio_ros.scenes.textures import ASPECT, EMISSION, SCALE, SEED, Pattern

#: Pixels along the side of a patch.
SIZE = 128
#: Metres that a patch covers: the least and the most.
PATCH = (.4, 2.5)


def make_atlas(images: Iterable[np.ndarray], rng: np.random.Generator, size: int = SIZE) -> np.ndarray:
    """Cut a square patch of random place and size out of each of the images uint8 [H, W, 3]; give their atlas.

    Images are looked at one after the other, so that they need not be in memory together. Raises ValueError if there is
    none, or one is smaller than a patch.
    """
    atlas = [_levels(_patch(image, rng, size)) for image in images]
    if not atlas:
        raise ValueError('there is no photograph')
    return np.stack(atlas)


def _patch(image: np.ndarray, rng: np.random.Generator, size: int) -> np.ndarray:
    """Cut a patch: a whole number of pixels of the image becomes one of the patch."""
    if min(image.shape[:2]) < size:
        raise ValueError(f'photographs of at least {size} x {size} pixels are wanted')
    step = int(rng.integers(1, min(image.shape[:2]) // size + 1))
    top, left = (int(rng.integers(length - step * size + 1)) for length in image.shape[:2])
    cut = linear(image[top:top + step * size, left:left + step * size] / 255.)
    return cut.reshape(size, step, size, step, 3).mean(axis=(1, 3))


def _levels(patch: np.ndarray) -> np.ndarray:
    size, level = len(patch), patch
    out = np.zeros((size, 2 * size, 3), np.float32)
    while True:
        side = len(level)
        out[:side, 2 * size - 2 * side:2 * size - side] = level
        if side == 1:
            return out
        level = level.reshape(side // 2, 2, side // 2, 2, 3).mean(axis=(1, 3))


def show_photographs(scene: Scene, atlas: np.ndarray, share: float, rng: np.random.Generator) -> Scene:
    """Give the scene with photographs on a share of its materials; what shines stays as it is."""
    chosen = (rng.random(len(scene.pattern)) < share) & (scene.numbers[:, EMISSION] == 0)
    numbers, pattern = scene.numbers.copy(), np.where(chosen, int(Pattern.IMAGE), scene.pattern)
    numbers[chosen, SCALE] = rng.uniform(*PATCH, len(chosen))[chosen]
    numbers[chosen, ASPECT] = 1.
    numbers[chosen, SEED] = rng.integers(1, 100_000, len(chosen))[chosen]
    return replace(scene, pattern=pattern, numbers=numbers, photographs=atlas)
