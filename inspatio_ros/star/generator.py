# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The block loop: reference, render and mask latents in, the next block of latents out.

A block is one context pass, which rewrites the cache with the reference and the previous block, and a few denoising
passes. Everything is fixed in time: the reference at positions 0-2, the previous block at 3-5, the current one at
6-8, in every block, so that nothing extrapolates however long a run is, and nothing older than one block survives.
Geometry channels (mask, render) of cached tokens are zero, so that old camera commands do not leak.

Within a picture, tokens lie where they are in their own (`positions: grid`, the release), or where the block's camera
sees their content (`positions: reprojected`): then what is remembered is found where it belongs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from inspatio_ros.config import GeneratorConfig
from inspatio_ros.spatial.positions import BlockPositions
from inspatio_ros.star.cache import Cache, StaticCache
from inspatio_ros.star.capture import CapturedCall
from inspatio_ros.star.scheduler import FlowScheduler, clean, mix
from inspatio_ros.star.seams import smooth_seams
from inspatio_ros.star.transformer import DiffusionTransformer, Modulation, Rotary, TextConstants


class RunConstants(NamedTuple):
    """What does not change during a run, computed once: text, timesteps and positions.

    `modulations` has one entry a denoising pass, `sigmas` float32 [passes]; `context_rotary` is for the first block
    (reference alone) and for later blocks (reference and previous block).
    """

    text: TextConstants
    context_modulation: Modulation
    modulations: tuple[Modulation, ...]
    sigmas: Tensor
    context_rotary: tuple[Rotary, Rotary]
    block_rotary: Rotary


@dataclass
class GeneratorState:
    """One run: its randomness, its constants, its cache, and the previous block [B, F, C, h, w]."""

    batch: int
    generator: torch.Generator
    constants: RunConstants
    cache: StaticCache
    previous: Tensor | None = None
    blocks: int = 0
    #: The block step as CUDA graphs: without and with a previous block.
    captured: dict[bool, CapturedCall] = field(default_factory=dict)


class BlockGenerator:
    """Generates latents block by block; inference only (`constants`, `remember` and `predict` serve training too).

    Args:
        config: sizes and the kind of prediction.
        transformer: the network, on its device and in its type.
        scheduler: the noise schedule.
        text_embedding: the caption [1 or B, L, text_dim], computed once.

    """

    def __init__(self, config: GeneratorConfig, transformer: DiffusionTransformer, scheduler: FlowScheduler,
                 text_embedding: Tensor) -> None:
        self.config = config
        self.transformer = transformer
        self.scheduler = scheduler
        self.text_embedding = text_embedding
        self.capture = False
        self.interpret()

    def interpret(self) -> None:
        """Run the passes as they are written."""
        self._run_context, self._run_denoising = self._context_pass, self._denoising_pass

    def compile(self, **options: object) -> None:
        """Compile the two passes, each one graph without breaks: a variant for the first block, one for later blocks.

        The passes apart, not the block as a whole: inside one graph every write to the cache is a new value until the
        graph ends, and four denoising passes in one graph kept four copies of the cache.
        """
        options = {'fullgraph': True, 'dynamic': False, **options}
        self._run_context = torch.compile(self._context_pass, **options)
        self._run_denoising = torch.compile(self._denoising_pass, **options)

    @property
    def latent_shape(self) -> tuple[int, int, int, int]:
        """Shape [F, C, h, w] of a block's latents."""
        return (self.config.latent_frames_per_block, self.config.transformer.out_dim,
                self.config.latent_height, self.config.latent_width)

    @torch.inference_mode()
    def init(self, batch: int, generator: torch.Generator) -> GeneratorState:
        """Start a run of `batch` samples that draws all its noise from `generator`."""
        cache = StaticCache(self.config.transformer, batch, self.config.tokens_per_block, self.transformer.device,
                            self.transformer.dtype)
        return GeneratorState(batch, generator, self.constants(self.text_embedding, batch), cache)

    def restart(self, state: GeneratorState, generator: torch.Generator) -> None:
        """Start anew in the buffers of a run; the first context pass overwrites what they hold."""
        state.generator, state.previous, state.blocks = generator, None, 0
        state.cache.length = 0

    @torch.inference_mode()
    def step(self, state: GeneratorState, reference_latent: Tensor, render_latent: Tensor, mask_latent: Tensor,
             noise: Tensor | None = None, positions: BlockPositions | None = None) -> Tensor:
        """Generate the next block.

        Args:
            state: of this run; holds the new block afterwards.
            reference_latent: [B, F, C, h, w], the reference aligned in time with this block.
            render_latent: [B, F, C, h, w], the render of this block.
            mask_latent: [B, F, M, h, w], the packed mask of this block.
            noise: [passes, B, F, C, h, w], the first pass's start and what later passes add; drawn if not given.
            positions: where tokens lie, for positions that are reprojected; on the grid if not given.

        Returns:
            float32 [B, F, C, h, w].

        """
        frames, channels, height, width = self.latent_shape
        mask_channels = self.config.transformer.condition_dim - channels
        for name, given, wanted in (('reference_latent', reference_latent, channels),
                                    ('render_latent', render_latent, channels),
                                    ('mask_latent', mask_latent, mask_channels)):
            if tuple(given.shape) != (state.batch, frames, wanted, height, width):
                raise ValueError(f'{name} must be {(state.batch, frames, wanted, height, width)}, '
                                 f'got {tuple(given.shape)}')
        if noise is None:
            noise = self.draw_noise(state)
        tables = () if positions is None else self._tables(positions)
        latent = self._generate(state, reference_latent, state.previous, render_latent, mask_latent, noise, *tables)
        # A clone: what is remembered must not change when the caller changes what it was given.
        state.previous = latent.clone()
        state.blocks += 1
        return latent

    def _generate(self, state: GeneratorState, *inputs: Tensor | None) -> Tensor:
        function = partial(self.generate, state.constants, state.cache)
        if not self.capture:
            return function(*inputs)
        later = state.previous is not None
        if later not in state.captured:
            state.captured[later] = CapturedCall(function, inputs)
        latent = state.captured[later](*inputs).clone()
        # A replay moves tensors, not Python's numbers.
        state.cache.length = (1 + later) * self.config.tokens_per_block
        return latent

    def draw_noise(self, state: GeneratorState) -> Tensor:
        """Draw a block's noise float32 [passes, B, F, C, h, w] where the state's generator lives."""
        # A generator on the CPU gives the same noise whatever device computes the frames.
        passes = len(self.config.scheduler.denoising_steps)
        noise = self.config.noise_scale * torch.randn(passes, state.batch, *self.latent_shape,
                                                      generator=state.generator, device=state.generator.device)
        if self.transformer.device.type != 'cuda':
            return noise.to(self.transformer.device)
        # Pinned, so that the copy waits its turn on the GPU and not here.
        return noise.pin_memory().to(self.transformer.device, non_blocking=True)

    def constants(self, text_embedding: Tensor, batch: int = 1) -> RunConstants:
        """Compute what is constant for a run (differentiable, for training)."""
        net, config = self.transformer, self.config
        text = net.text_constants(text_embedding.to(net.device))
        if text_embedding.shape[0] != batch:
            text = TextConstants(*(tuple(x.expand(batch, -1, -1, -1) for x in part) for part in text))
        timesteps = torch.cat([torch.zeros(1), self.scheduler.denoising_timesteps]).to(net.device)
        context, *passes = _split(net.modulation(timesteps), len(timesteps))
        frames, size = config.latent_frames_per_block, (config.latent_height, config.latent_width)
        return RunConstants(text, context, tuple(passes), self.scheduler.denoising_sigmas.to(net.device),
                            (net.rotary(frames, *size, 0), net.rotary(2 * frames, *size, 0)),
                            net.rotary(frames, *size, 2 * frames))

    def placed(self, constants: RunConstants, positions: BlockPositions) -> RunConstants:
        """Give the constants of a block whose tokens lie at these positions."""
        return _placed(constants, *self._tables(positions))

    def _tables(self, positions: BlockPositions) -> tuple[Tensor, ...]:
        """Give cosines and sines of what is remembered, and of the block."""
        net, frames = self.transformer, self.config.latent_frames_per_block
        remembered = [positions.reference, *(() if positions.previous is None else (positions.previous,))]
        return (*net.rotary_at(torch.cat(remembered, dim=1), 0), *net.rotary_at(positions.block, 2 * frames))

    def remember(self, constants: RunConstants, cache: Cache, reference: Tensor, previous: Tensor | None) -> None:
        """Run the context pass: rewrite the cache from the reference and, if there is one, the previous block."""
        latents = reference if previous is None else torch.cat([reference, previous.to(reference)], dim=1)
        self._run_context(latents, constants.text, constants.context_modulation,
                          constants.context_rotary[previous is not None], cache)

    def predict(self, constants: RunConstants, cache: Cache, x_t: Tensor, index: int, render_latent: Tensor,
                mask_latent: Tensor) -> Tensor:
        """Predict the clean latents [B, F, C, h, w] from those of denoising pass `index`, noised to its sigma."""
        return self._run_denoising(x_t, constants.sigmas[index], render_latent, mask_latent, constants.text,
                                   constants.modulations[index], constants.block_rotary, cache)

    def _context_pass(self, latents: Tensor, text: TextConstants, modulation: Modulation, rotary: Rotary,
                      cache: Cache) -> None:
        # The geometry channels of remembered tokens stay zero.
        x = F.pad(latents, (0, 0, 0, 0, 0, self.config.transformer.condition_dim)).to(self.transformer.dtype)
        self.transformer.context_pass(x, text, modulation, rotary, cache)

    def _denoising_pass(self, x_t: Tensor, sigma: Tensor, render_latent: Tensor, mask_latent: Tensor,
                        text: TextConstants, modulation: Modulation, rotary: Rotary, cache: Cache) -> Tensor:
        x = torch.cat([x_t, mask_latent, render_latent], dim=2).to(self.transformer.dtype)
        out = self.transformer(x, text, modulation, rotary, cache).to(x_t.dtype)
        return render_latent + out if self.config.prediction == 'residual' else clean(x_t, out, sigma)

    def generate(self, constants: RunConstants, cache: Cache, reference: Tensor, previous: Tensor | None,
                 render_latent: Tensor, mask_latent: Tensor, noise: Tensor, *tables: Tensor) -> Tensor:
        """Make one block as a pure function of its arguments and the cache, without a branch on data."""
        if tables:
            constants = _placed(constants, *tables)
        self.remember(constants, cache, reference, previous)
        # A clone: a tensor from outside inference mode would have the pass compiled once more.
        x_t = noise[0].clone()
        last = len(constants.modulations) - 1
        for index in range(last):
            x0 = self.predict(constants, cache, x_t, index, render_latent, mask_latent)
            x_t = mix(x0, noise[index + 1], constants.sigmas[index + 1])
        return self.finished(self.predict(constants, cache, x_t, last, render_latent, mask_latent), mask_latent)

    def finished(self, latent: Tensor, mask_latent: Tensor) -> Tensor:
        """Give a block as it is shown and remembered, from what the last pass predicted."""
        return smooth_seams(latent, mask_latent, self.config.transformer.patch_size[1:], self.config.smooth_seams)


def _placed(constants: RunConstants, *tables: Tensor) -> RunConstants:
    remembered, block = Rotary(*tables[:2]), Rotary(*tables[2:])
    reference = Rotary(*(table[:, :block.cos.shape[1]] for table in remembered))
    return constants._replace(context_rotary=(reference, remembered), block_rotary=block)


def _split(modulation: Modulation, count: int) -> list[Modulation]:
    return [Modulation(tuple(block[i:i + 1] for block in modulation.blocks), modulation.head[i:i + 1])
            for i in range(count)]
