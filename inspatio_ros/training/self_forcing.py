# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Self-forcing: the student's own roll-outs by its own block loop, and their gradient one block at a time.

All blocks leave at the same denoising pass, drawn anew for every step, and gradients flow through that pass alone
(and through the context pass at t = 0 that rewrote the cache for it). What a block remembers of the one before is a
constant. So the gradient of a loss on the final latents is a sum over blocks, and each block can be recomputed and
back-propagated alone: the memory of one block, the gradient of the whole graph.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from inspatio_ros.spatial.positions import BlockPositions
from inspatio_ros.star.cache import Cache
from inspatio_ros.star.generator import BlockGenerator, RunConstants
from inspatio_ros.star.scheduler import mix
from inspatio_ros.training.noise import normal


@dataclass(frozen=True)
class Conditions:
    """What clips are generated from, in latents [B, blocks * F, C, h, w].

    `reference` is None for a task without one (text to video); render and mask are zero for a task without geometry.
    `positions` has an entry a block where tokens are placed by geometry; else they lie on the grid.
    """

    reference: Tensor | None
    render: Tensor
    mask: Tensor
    positions: tuple[BlockPositions, ...] = ()

    def block(self, index: int, frames: int) -> Conditions:
        """Give the conditions of one block."""
        part = slice(index * frames, (index + 1) * frames)
        return Conditions(None if self.reference is None else self.reference[:, part], self.render[:, part],
                          self.mask[:, part], self.positions[index:index + 1])

    def twice(self) -> Conditions:
        """Give the same clips twice, one batch behind the other."""
        return Conditions(*(None if part is None else torch.cat([part, part])
                            for part in (self.reference, self.render, self.mask)),
                          tuple(block.twice() for block in self.positions))

    def without_geometry(self, keep_reference: bool) -> Conditions:
        """Give the conditions of the other task: mask and render zero, the reference kept or not."""
        return Conditions(self.reference if keep_reference else None, torch.zeros_like(self.render),
                          torch.zeros_like(self.mask))


@dataclass(frozen=True)
class RollOut:
    """One roll-out of the student, all that is needed to take it again.

    `noise` [blocks, passes, B, F, C, h, w]; `exit_pass`: the pass at which every block leaves; `text`: the caption
    [1 or B, L, text_dim]; `train_context`: whether gradients also flow through each block's own context pass.
    """

    blocks: BlockGenerator
    conditions: Conditions
    noise: Tensor
    exit_pass: int
    text: Tensor
    train_context: bool = True

    @property
    def batch(self) -> int:
        """Clips of the roll-out."""
        return self.noise.shape[2]

    @torch.no_grad()
    def generate(self) -> Tensor:
        """Generate all blocks without gradient: latents [B, blocks * F, C, h, w]."""
        previous, latents = None, []
        constants = self.blocks.constants(self.text, self.batch)
        for index in range(len(self.noise)):
            previous = self._block(constants, index, previous)
            latents.append(previous)
        return torch.cat(latents, dim=1)

    def recompute(self, latents: Tensor) -> Iterator[Tensor]:
        """Compute the blocks of known latents again, one by one, each with its own graph [B, F, C, h, w]."""
        frames = self.blocks.config.latent_frames_per_block
        for index in range(len(self.noise)):
            previous = latents[:, (index - 1) * frames:index * frames].detach() if index else None
            # Constants anew for every block: they are small, and their graph is freed with the block's.
            yield self._block(self.blocks.constants(self.text, self.batch), index, previous)

    def backpropagate(self, latents: Tensor, gradient: Tensor) -> None:
        """Add to the parameters' gradients those of sum(latents * gradient), at the memory of one block.

        Args:
            latents: what `generate` gave, [B, blocks * F, C, h, w].
            gradient: of the loss with respect to them, of the same shape.

        """
        frames = self.blocks.config.latent_frames_per_block
        for block, part in zip(self.recompute(latents), gradient.split(frames, dim=1), strict=True):
            block.backward(part.to(block))

    def _block(self, constants: RunConstants, index: int, previous: Tensor | None) -> Tensor:
        parts = self.conditions.block(index, self.blocks.config.latent_frames_per_block)
        return roll_block(self.blocks, constants, parts, previous, self.noise[index], self.exit_pass,
                          self.train_context)


def roll_block(blocks: BlockGenerator, constants: RunConstants, parts: Conditions, previous: Tensor | None,
               noise: Tensor, exit_pass: int, train_context: bool = True) -> Tensor:
    """Generate one block as the simulator does, and leave it at denoising pass `exit_pass`: latents [B, F, C, h, w].

    `parts` are the block's conditions, `previous` is the block before, `noise` [passes, B, F, C, h, w]. What the last
    pass gives is finished as it is shown and remembered. Gradients flow through the pass of the exit, and with
    `train_context` through the context pass.
    """
    cache, constants = Cache(blocks.config.transformer.num_layers), placed(blocks, constants, parts)
    with torch.set_grad_enabled(torch.is_grad_enabled() and train_context):
        remember(blocks, constants, cache, parts.reference, previous)
    x_t = noise[0]
    for step in range(exit_pass):
        with torch.no_grad():
            x0 = blocks.predict(constants, cache, x_t, step, parts.render, parts.mask)
        x_t = mix(x0, noise[step + 1], constants.sigmas[step + 1])
    latent = blocks.predict(constants, cache, x_t, exit_pass, parts.render, parts.mask)
    return blocks.finished(latent, parts.mask) if exit_pass == len(noise) - 1 else latent


def placed(blocks: BlockGenerator, constants: RunConstants, parts: Conditions) -> RunConstants:
    """Give the constants of one block, whose tokens may be placed by geometry."""
    return blocks.placed(constants, parts.positions[0]) if parts.positions else constants


def remember(blocks: BlockGenerator, constants: RunConstants, cache: Cache, reference: Tensor | None,
             previous: Tensor | None) -> None:
    """Rewrite the cache from what there is: reference and previous block, one of them, or nothing.

    The previous block keeps its positions in time where there is no reference.
    """
    if reference is not None:
        blocks.remember(constants, cache, reference, previous)
    elif previous is not None and 'history' not in getattr(blocks, 'without', ()):
        net, config = blocks.transformer, blocks.config
        x = F.pad(previous, (0, 0, 0, 0, 0, config.transformer.condition_dim)).to(net.dtype)
        frames = config.latent_frames_per_block
        rotary = net.rotary(frames, config.latent_height, config.latent_width, frames)
        net.context_pass(x, constants.text, constants.context_modulation, rotary, cache)


def draw_noise(blocks: BlockGenerator, count: int, batch: int, generator: torch.Generator) -> Tensor:
    """Draw the noise [count, passes, batch, F, C, h, w] of a roll-out of `count` blocks."""
    passes = len(blocks.config.scheduler.denoising_steps)
    return normal((count, passes, batch, *blocks.latent_shape), generator, blocks.transformer.device)
