# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The networks that are trained together, and what every stage does with them: encode, roll out, decode."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from inspatio_ros.config import GeneratorConfig
from inspatio_ros.evaluation.ablation import AblatedBlocks, taken_away
from inspatio_ros.spatial.grain import GrainField
from inspatio_ros.spatial.positions import BlockPositions, BlockViews, block_positions, latent_views
from inspatio_ros.star.autoencoder import TinyAutoencoder
from inspatio_ros.star.condition import pack_mask
from inspatio_ros.star.generator import BlockGenerator
from inspatio_ros.star.scheduler import FlowScheduler
from inspatio_ros.star.transformer import DiffusionTransformer
from inspatio_ros.training.data import STILLS, Clips, unit
from inspatio_ros.training.refill import STORED_FILL, refilled
from inspatio_ros.training.self_forcing import Conditions, draw_noise, roll_block

#: The caption's embedding is drawn once from this seed: nano is trained under one fixed caption.
TEXT_SEED = 0


class Networks:
    """Autoencoder and transformer of one GeneratorConfig, on one device.

    `ablation`, one of evaluation.ablation.ABLATIONS, trains without a part: the networks never see it.
    """

    def __init__(self, config: GeneratorConfig, device: str = 'cpu', seed: int = 0, ablation: str = '') -> None:
        torch.manual_seed(seed)
        self.config = config
        self.device = torch.device(device)
        #: Whether these are weights that were trained before: then no stage starts from nothing.
        self.trained = False
        self.autoencoder = TinyAutoencoder(config.autoencoder).to(self.device, memory_format=torch.channels_last)
        self.transformer = DiffusionTransformer(config.transformer).to(self.device)
        self.scheduler = FlowScheduler(config.scheduler)
        self.text = text_embedding(config).to(self.device)
        without = taken_away(ablation)
        self.hides_render = 'render' in without
        self.blocks = BlockGenerator(config, self.transformer, self.scheduler, self.text)
        if without - {'render'}:
            self.blocks = AblatedBlocks(self.blocks, without)

    @property
    def frames(self) -> int:
        """Latent frames of a block."""
        return self.config.latent_frames_per_block

    @property
    def empty(self) -> float:
        """What filling makes of a render that shows nothing: black, or mid grey."""
        return 0. if self.config.condition_fill == 'black' else 0.5

    def guide(self, clips: Clips, rows: slice = slice(None), columns: slice = slice(None)) -> tuple[Tensor, Tensor]:
        """Give the filled render and the mask of clips, or of a window of theirs, as the generator gets them.

        Encoder and decoder see the same render, its holes filled as the configuration says.
        """
        window = (..., rows, columns)
        filled = unit(clips.filled[window].to(self.device))
        mask = clips.mask[window].to(self.device, torch.float32)
        if self.hides_render:
            return torch.full_like(filled, self.empty), torch.zeros_like(mask)
        if self.config.condition_fill != STORED_FILL:
            # Filled whole and cut then: what is nearest to a hole may lie beyond the window.
            filled = self.fill(unit(clips.filled.to(self.device)), clips.mask.to(self.device))[window]
        return filled, mask

    def fill(self, render: Tensor, mask: Tensor) -> Tensor:
        """Fill the stored renders of clips [..., 3, H, W] in [0, 1] as the configuration says."""
        method = self.config.condition_fill
        return render if method == STORED_FILL else refilled(render, mask.float(), method)

    def grain(self, clips: Clips) -> Tensor:
        """Give the noise that texture is made of, float32 [B, T, 1, H, W]."""
        views, mask = clips.views.to(self.device), clips.mask.to(self.device)
        return torch.cat([GrainField().look(views.K[i:i + 1], views.block.sample(i), mask[i:i + 1])
                          for i in range(len(clips))])

    @torch.no_grad()
    def conditions(self, clips: Clips) -> Conditions:
        """Encode reference, render and mask of clips."""
        render, mask = self.guide(clips)
        factor = self.config.autoencoder
        packed = pack_mask(2 * mask - 1, True, factor.spatial_factor, factor.temporal_factor)
        return Conditions(self.encode_reference(clips).float(), self.autoencoder.encode(render).float(), packed,
                          self.place(clips))

    def place(self, clips: Clips) -> tuple[BlockPositions, ...]:
        """Place the tokens of a clip's blocks by its geometry, if the configuration asks for it."""
        if self.config.positions == 'grid':
            return ()
        views, found, previous = clips.views.to(self.device), [], None
        if self.hides_render:
            views = views.without_depth()
        start, length = 0, self.config.frames_in_first_block
        for index in range(2):
            block = slice(start, start + length)
            reference = slice(index * STILLS, (index + 1) * STILLS) if clips.stills else block
            seen = latent_views(BlockViews(views.K, views.block[block], views.reference[reference]), self.frames,
                                self.config.autoencoder.temporal_factor, index == 0)
            found.append(block_positions(seen, previous, self.config.size_multiple))
            previous, start, length = seen.block, block.stop, self.config.frames_per_block
        return tuple(found)

    @torch.no_grad()
    def encode(self, clips: Clips) -> tuple[Tensor, Conditions]:
        """Encode true clips [B, T', C, h, w] and what they are generated from."""
        return self.autoencoder.encode(unit(clips.truth.to(self.device))).float(), self.conditions(clips)

    @torch.no_grad()
    def encode_reference(self, clips: Clips) -> Tensor:
        """Encode the reference: aligned frames as a stream, stills each as a clip of one frame."""
        reference = unit(clips.reference.to(self.device))
        if not clips.stills:
            return self.autoencoder.encode(reference)
        alone = self.autoencoder.encode(reference.flatten(0, 1)[:, None])
        return alone[:, 0].unflatten(0, (len(clips), -1))

    def roll_out(self, conditions: Conditions, noise: Tensor, exit_pass: int) -> Tensor:
        """Generate a clip's blocks one after the other and leave each at denoising pass `exit_pass`.

        Gradients flow through that pass and the block's context pass only; the next block remembers the result without
        gradient. `noise` is [blocks, passes, B, F, C, h, w]. Gives clean latents [B, blocks * F, C, h, w].
        """
        constants = self.blocks.constants(self.text, noise.shape[2])
        previous, out = None, []
        for index in range(len(noise)):
            latent = roll_block(self.blocks, constants, conditions.block(index, self.frames), previous, noise[index],
                                exit_pass)
            previous = latent.detach()
            out.append(latent)
        return torch.cat(out, dim=1)

    def draw_noise(self, batch: int, generator: torch.Generator, blocks: int = 2) -> Tensor:
        """Draw noise [blocks, passes, B, F, C, h, w] for a roll-out, scaled as it is when the generator runs."""
        return self.config.noise_scale * draw_noise(self.blocks, blocks, batch, generator)

    @torch.no_grad()
    def generate(self, clips: Clips, generator: torch.Generator, texture: bool = False) -> Tensor:
        """Generate whole clips as the simulator does: float32 [B, T, 3, H, W] in [0, 1]."""
        latent = self.roll_out_whole(self.conditions(clips), generator)
        guide = self.guide(clips)
        return self.autoencoder.decode(latent, (*guide, self.grain(clips)) if texture else guide).float()

    @torch.no_grad()
    def roll_out_whole(self, conditions: Conditions, generator: torch.Generator) -> Tensor:
        """Generate a clip's blocks by all denoising passes: latents [B, blocks * F, C, h, w]."""
        last = len(self.config.scheduler.denoising_steps) - 1
        return self.roll_out(conditions, self.draw_noise(len(conditions.render), generator), last)

    def leave_mend_and_texture(self) -> None:
        """Keep what mends known pixels and what gives holes texture as they are: they have stages of their own."""
        for part in (self.autoencoder.mend, self.autoencoder.texture):
            if part is not None:
                part.requires_grad_(False)

    def modules(self) -> dict[str, nn.Module]:
        """Name the networks."""
        return {'autoencoder': self.autoencoder, 'transformer': self.transformer}


def text_embedding(config: GeneratorConfig) -> Tensor:
    """Give the fixed caption's embedding [1, text_len, text_dim]."""
    generator = torch.Generator().manual_seed(TEXT_SEED)
    return torch.randn(1, config.transformer.text_len, config.transformer.text_dim, generator=generator)
