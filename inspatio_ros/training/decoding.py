# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The decoder goes on learning once there is a student: on what the student makes of clips, which is what it will meet.

It was trained on the latents of true clips, which a student's are not: they are means of what could be there. The
encoder and the transformer stay as they are, and so do latents, so clips are rolled out once, into a pool.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from inspatio_ros.errors import ConfigurationError
from inspatio_ros.training.data import Clips, ClipSource, crop, integer, unit
from inspatio_ros.training.likeness import OFFSETS, PatchLikeness
from inspatio_ros.training.measure import SEED, Figures
from inspatio_ros.training.networks import Networks
from inspatio_ros.training.stages import LEAST_SQUARE, LossConfig, drop_guide

#: Keeps the draws of the pool apart from those of a trainer's steps.
_SEED = 0x5A4
SMALLEST = 1e-8


@dataclass(frozen=True)
class _RolledOut:
    """A clip, what the student made of it, and what the encoder makes of the truth: latents [1, T', C, h, w]."""

    clip: Clips
    made: Tensor
    true: Tensor
    #: The filled render's mean squared error.
    filled: float


@dataclass(frozen=True)
class Windows:
    """Windows of clips: what is true, what the decoder made [B, T, 3, H, W], and masks [B, T, 1, H, W], 1 known.

    `filled` [B]: the mean squared error of the filled render over the window's whole clip; `own` [B]: whether it was
    decoded from what the student made, and not from true latents.
    """

    truth: Tensor
    image: Tensor
    mask: Tensor
    filled: Tensor
    own: Tensor


class FinishStage:
    """Train the decoder alone, on what the student made and on true latents.

    By squared error, relative to that of the filled render as PSNR's mean over clips is, and if that is asked for by
    how unlike true patches made-up ones are.
    """

    name = 'finish'
    goes_by = ('crop', 'guide_dropout', 'latent_noise', 'rolled_out', 'own_latents', 'likeness',
               'likeness_of_own')

    def __init__(self, networks: Networks, clips: ClipSource, held_out: ClipSource, config: LossConfig) -> None:
        self.networks, self.clips, self.held_out, self.config = networks, clips, held_out, config
        for part in networks.autoencoder.encoding_parts():
            part.requires_grad_(False)
        networks.leave_mend_and_texture()
        self.modules: dict[str, nn.Module] = {'autoencoder': networks.autoencoder}
        least = networks.config.size_multiple + max(OFFSETS)
        if config.likeness and min(config.crop) < least:
            raise ConfigurationError(f'loss.likeness needs windows of {least} pixels at least; loss.crop is '
                                     f'{config.crop[0]}x{config.crop[1]}')
        self._pool: list[_RolledOut] = []
        self._held_out_latents: list[Tensor] = []
        self._likeness: PatchLikeness | None = None

    def loss(self, batch_size: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Decode windows of clips and compare with the truth."""
        windows = self.decoded(batch_size, generator)
        square = (windows.image - windows.truth).square().mean(dim=(1, 2, 3, 4))
        loss = (square / (windows.filled + LEAST_SQUARE)).mean()
        figures = {'psnr': float(-10 * torch.log10(square.detach().mean()))}
        if self.config.likeness:
            unlike = self._patches(batch_size)(*self._judged(windows), generator)
            loss, figures['unlike'] = loss + self.config.likeness * unlike, float(unlike.detach())
        return loss, figures

    def _patches(self, batch_size: int) -> PatchLikeness:
        if self._likeness is None:
            self._likeness = PatchLikeness.started(
                self.networks.autoencoder, self.networks.config.size_multiple, _SEED,
                lambda generator: self._judged(self.decoded(batch_size, generator)))
        return self._likeness

    def _judged(self, windows: Windows) -> tuple[Tensor, Tensor, Tensor]:
        """Give images, truth and masks of the windows whose likeness counts."""
        kept = windows.own if self.config.likeness_of_own else torch.ones_like(windows.own)
        return windows.image[kept], windows.truth[kept], windows.mask[kept]

    def decoded(self, batch_size: int, generator: torch.Generator) -> Windows:
        """Draw windows of clips and decode them."""
        self._fill_pool()
        drawn = [self._pool[integer(len(self._pool), generator)] for _ in range(batch_size)]
        parts = [self._window(clip, generator) for clip in drawn]
        truth, render, mask, latent = (torch.cat([part[name] for part in parts]).to(self.networks.device)
                                       for name in ('truth', 'render', 'mask', 'latent'))
        image = self.networks.autoencoder.decode(latent, (render, mask), clamp=False).float()
        filled, own = torch.tensor([clip.filled for clip in drawn]), torch.tensor([part['own'] for part in parts])
        return Windows(truth, image, mask, filled.to(truth), own.to(truth.device))

    def _window(self, drawn: _RolledOut, generator: torch.Generator) -> dict[str, Any]:
        """Cut a window out of a clip, and the part of its latents, the student's or true ones."""
        size, multiple = self.config.crop, self.networks.config.size_multiple
        window, rows, columns = crop(drawn.clip, *size, multiple, generator)
        render, mask = self.networks.guide(drawn.clip, rows, columns)
        latent, own = drawn.made, float(torch.rand(1, generator=generator)) < self.config.own_latents
        if not own:
            noise = torch.randn(drawn.true.shape, generator=generator).to(drawn.true)
            latent = drawn.true + self.config.latent_noise * noise
            render, mask = drop_guide(render, mask, self.config.guide_dropout, generator)
        cell = self.networks.config.autoencoder.spatial_factor
        part = latent[..., rows.start // cell:rows.stop // cell, columns.start // cell:columns.stop // cell]
        return {'truth': unit(window.truth), 'render': render, 'mask': mask, 'latent': part.float(),
                'own': own}

    def _fill_pool(self) -> None:
        """Roll out the clips whose windows are drawn: once, since neither encoder nor transformer changes."""
        if self._pool:
            return
        from tqdm import tqdm
        generator = torch.Generator().manual_seed(_SEED)
        for _ in tqdm(range(self.config.rolled_out), mininterval=10, desc='rolling clips out'):
            clip = self.clips.draw(1, generator)
            true, conditions = self.networks.encode(clip)
            made = self.networks.roll_out_whole(conditions, generator)
            filled = float((unit(clip.filled) - unit(clip.truth)).square().mean())
            self._pool.append(_RolledOut(replace(clip, reference=clip.reference[:, :0]), made, true, filled))

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Decode what the student makes of held-out clips: PSNR, and gradient energy in holes relative to the truth."""
        figures, made, true = Figures(), 0., 0.
        for index, clips in enumerate(self.held_out.batches(1)):
            if index == len(self._held_out_latents):
                generator = torch.Generator().manual_seed(SEED + index)
                self._held_out_latents.append(self.networks.roll_out_whole(self.networks.conditions(clips), generator))
            truth, mask = unit(clips.truth), clips.mask.float()
            image = self.networks.autoencoder.decode(self._held_out_latents[index], self.networks.guide(clips))
            image = image.float().cpu()
            figures.add(image, truth, mask)
            made, true = made + gradient_energy(image, mask), true + gradient_energy(truth, mask)
        return {**figures.psnr(), 'sharp': made / max(true, SMALLEST)}


def gradient_energy(image: Tensor, mask: Tensor) -> float:
    """Give the sum of squared differences between neighbouring hole pixels of [..., 3, H, W]; `mask` is 0 in holes.

    Of every colour by itself: what training is watched by. Evaluation counts differences of brightness.
    """
    holes, energy = 1 - mask, 0.
    for dim in (-1, -2):
        size = image.shape[dim] - 1
        both = holes.narrow(dim, 0, size) * holes.narrow(dim, 1, size)
        energy += float((image.detach().diff(dim=dim).square() * both).sum())
    return energy
