# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What is measured: a generator, whole and ablated, and the baselines that need no generator."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from inspatio_ros.errors import ConfigurationError
from inspatio_ros.evaluation.ablation import ablate, taken_away, twin
from inspatio_ros.evaluation.suites import SIZE, TEXTURE
from inspatio_ros.generators import Generator, open_generator
from inspatio_ros.geometry import PinholeCamera
from inspatio_ros.spatial.fill import METHODS, fill
from inspatio_ros.spatial.pixels import to_uint8
from inspatio_ros.spatial.positions import BlockViews
from inspatio_ros.spatial.render import HOLE, Condition
from inspatio_ros.star.pipeline import StarPipeline

if TYPE_CHECKING:
    import numpy as np

    from inspatio_ros.evaluation.inpainter import Inpainter

#: Ways to fill the render's holes without a network, all measured in every run.
FILLS = METHODS
INPAINTER = 'inpainter'


class Observed:
    """A generator that lets one see the condition it was given; `no_render` hides that from the generator itself."""

    def __init__(self, inner: Generator, without_render: bool = False) -> None:
        self._inner, self._without_render = inner, without_render
        self.name, self.width, self.height = inner.name, inner.width, inner.height
        self.frame_rate, self.reference_count, self.token = inner.frame_rate, inner.reference_count, inner.token
        self.condition: Condition | None = None

    def frames_in_next_block(self) -> int:
        """Count the frames that the next step wants."""
        return self._inner.frames_in_next_block()

    def frames_in_block(self, index: int) -> int:
        """Count the frames of the block `index` since the reset."""
        return self._inner.frames_in_block(index)

    def reset(self, seed: int) -> None:
        """Forget every block and draw from this seed."""
        self._inner.reset(seed)

    def forget(self, reference: bool = False) -> None:
        """Have the next block know nothing of those before."""
        self._inner.forget(reference)

    def step(self, condition: Condition, reference_images: Tensor | None,
             reference_keys: tuple[int, ...] | None,
             views: BlockViews | None = None) -> tuple[Tensor, dict[str, float]]:
        """Note the condition and complete the block."""
        return self._inner.step(*self._observe(condition, reference_images, reference_keys, views))

    def stream(self, condition: Condition, reference_images: Tensor | None,
               reference_keys: tuple[int, ...] | None, views: BlockViews | None = None) -> Iterator[Tensor]:
        """Note the condition and complete the block in parts."""
        return self._inner.stream(*self._observe(condition, reference_images, reference_keys, views))

    def stage_seconds(self) -> dict[str, float]:
        """Give the seconds of each stage of the block made last."""
        return self._inner.stage_seconds()

    def _observe(self, condition: Condition, reference_images: Tensor | None, reference_keys: tuple[int, ...] | None,
                 views: BlockViews | None) -> tuple:
        """Note the condition; give what the generator may see."""
        self.condition = condition
        if self._without_render:
            condition, views = _nothing_like(condition), None if views is None else views.without_depth()
        return condition, reference_images, reference_keys, views


def _nothing_like(condition: Condition) -> Condition:
    return Condition(torch.full_like(condition.image, HOLE), torch.zeros_like(condition.mask),
                     torch.full_like(condition.z_depth, torch.nan))


def open_candidates(name: str, ablations: tuple[str, ...] = (), weights: str | Path | None = None,
                    size: tuple[int, int] | None = None, device: str = 'cpu',
                    texture: bool = False) -> dict[str, Observed]:
    """Open a generator, and the same networks once more for each ablation: label -> generator, the whole one first.

    `texture`: and once more with texture in what is made up, where the weights can.

    The `render` generator has the suites' size unless another is asked for; STAR has its own.
    """
    width, height = size or (SIZE if name == 'render' else (None, None))
    # The recording's camera decides a default size only, which is given here.
    whole = open_generator(name, PinholeCamera(1., 1., 0., 0., *SIZE), width=width, height=height, device=device,
                           weights=weights)
    return observe(whole, ablations, texture)


def observe(whole: Generator, ablations: tuple[str, ...] = (), texture: bool = False) -> dict[str, Observed]:
    """Give a generator, and its variants where it is STAR: label -> generator, the whole one first."""
    candidates = {whole.name: Observed(whole)}
    if texture and isinstance(whole, StarPipeline) and whole.autoencoder.texture is not None:
        candidates[f'{whole.name} {TEXTURE}'] = Observed(twin(whole, texture=True))
    for ablation in ablations:
        taken = taken_away(ablation)
        if not isinstance(whole, StarPipeline):
            raise ConfigurationError(f'{whole.name} has nothing that {ablation} could take away; '
                                     'ablations are for nano and 1.3b')
        inner = whole if taken == {'render'} else ablate(whole, ablation)
        candidates[f'{whole.name} {ablation}'] = Observed(inner, 'render' in taken)
    return candidates


def baselines(condition: Condition, inpainter: Inpainter | None = None,
              methods: tuple[str, ...] = FILLS) -> dict[str, np.ndarray]:
    """Fill a render's holes without a generator: method -> uint8 [F, H, W, 3]."""
    made = {method: fill(condition, method) for method in methods}
    if inpainter is not None:
        made[INPAINTER] = inpainter.complete(condition)
    return {method: to_uint8(image) for method, image in made.items()}
