# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Teach the decoder fine texture: beside the squared error, a discriminator that tells decoded from true pictures.

Squared error makes the decoder give the mean of all textures that a latent may stand for, which is none: even true
latents decoded to a quarter of the truth's gradient energy. The encoder and the transformer stay as they are, and so do
latents. The decoder learns on both kinds that it will meet: those that the student made, under the guide, and true
ones. The discriminator is told where the holes are, and judges them alone: known pixels come from the render.

The weight of the adversary is that of VQGAN (arXiv 2012.09841, equation 7): a share of the squared error's gradient at
the decoder's last layer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from inspatio_ros.training.data import Clips, ClipSource, crop, integer, unit
from inspatio_ros.training.measure import SEED, Figures
from inspatio_ros.training.networks import Networks
from inspatio_ros.training.stages import LossConfig, drop_guide

#: Successive frames that the discriminator sees as one picture: flicker gives a decoder away.
FRAMES_SEEN = 3
#: Widths of the discriminator's layers, each half as fine as the one before.
WIDTHS = (32, 64, 96)
#: Steps over which the adversary's weight grows: it has to learn something first.
RAMP = 100
#: The discriminator's learning rate, as a share of the decoder's.
RATE = 1.
#: Windows that are drawn for one that is used, the one with the most hole pixels.
WINDOWS = 4
#: Keeps the draws of the pool apart from those of a trainer's steps.
_SEED = 0x5A4
_SMALLEST = 1e-8


class Discriminator(nn.Module):
    """Scores windows of a few successive frames, patch by patch: above 0 it takes them for true."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        widths = ((channels + 1) * FRAMES_SEEN, *WIDTHS)
        layers: list[nn.Module] = []
        for before, after in zip(widths, widths[1:], strict=False):
            layers += [spectral_norm(nn.Conv2d(before, after, 4, stride=2, padding=1)), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, spectral_norm(nn.Conv2d(widths[-1], 1, 3, padding=1)))

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        """Score clips [B, T, 3, H, W] in [0, 1] with masks [B, T, 1, H, W]; frames that fill no window are left out."""
        x = _windows(torch.cat([image * 2 - 1, mask.to(image)], dim=2)).flatten(1, 2)
        return self.layers(x.contiguous(memory_format=torch.channels_last))


@dataclass(frozen=True)
class _RolledOut:
    """A clip, what the student made of it, and what the encoder makes of the truth: latents [1, T', C, h, w]."""

    clip: Clips
    made: Tensor
    true: Tensor


class SharpenStage:
    """Train the decoder by squared error and a discriminator; the encoder and the transformer are frozen."""

    name = 'sharpen'

    def __init__(self, networks: Networks, clips: ClipSource, held_out: ClipSource, config: LossConfig) -> None:
        self.networks, self.clips, self.held_out, self.config = networks, clips, held_out, config
        for part in networks.autoencoder.encoding_parts():
            part.requires_grad_(False)
        networks.leave_mend()
        self.discriminator = Discriminator(networks.config.autoencoder.image_channels).to(networks.device)
        self.modules: dict[str, nn.Module] = {'autoencoder': networks.autoencoder, 'discriminator': self.discriminator}
        self.rates = {'autoencoder': 1., 'discriminator': RATE}
        self._pool: list[_RolledOut] = []
        self._held_out_latents: list[Tensor] = []

    def loss(self, batch_size: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Refuse: two networks have a loss each (use `backward`)."""
        raise NotImplementedError('the two networks have a loss each; train them with training/distributed.py')

    def backward(self, batch_size: int, generator: torch.Generator, shared: torch.Generator,
                 step: int) -> tuple[Tensor, dict[str, float]]:
        """Add the gradients of both networks; gives the decoder's squared error and figures to log."""
        truth, image, mask = self._decoded(batch_size, generator)
        judged = self._judge(truth, image.detach(), mask)
        judged.backward()
        self.discriminator.requires_grad_(False)
        error = image - truth
        square = error.square().mean()
        wanted = square + self.config.absolute * error.abs().mean()
        score = -_in_holes(self.discriminator(image, mask), mask)
        weight = self.config.sharpness * min(1., step / RAMP) * self._balance(wanted, score)
        (wanted + weight * score).backward()
        self.discriminator.requires_grad_(True)
        return square.detach(), {'psnr': float(-10 * torch.log10(square.detach())), 'weight': float(weight),
                                 'discriminator': float(judged.detach()),
                                 'sharp': gradient_energy(image, mask) / max(gradient_energy(truth, mask), _SMALLEST)}

    def _decoded(self, batch_size: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Give windows of true clips, what the decoder makes of their latents, and their masks."""
        self._fill_pool()
        parts = [self._window(self._pool[integer(len(self._pool), generator)], generator) for _ in range(batch_size)]
        truth, render, mask, latent = (torch.cat([part[name] for part in parts]).to(self.networks.device)
                                       for name in ('truth', 'render', 'mask', 'latent'))
        return truth, self.networks.autoencoder.decode(latent, (render, mask), clamp=False).float(), mask

    def _window(self, drawn: _RolledOut, generator: torch.Generator) -> dict[str, Tensor]:
        """Cut a window with holes out of a clip, and the part of its latents, the student's or true ones."""
        size, multiple = self.config.crop, self.networks.config.size_multiple
        windows = [crop(drawn.clip, *size, multiple, generator) for _ in range(WINDOWS)]
        window, rows, columns = min(windows, key=lambda found: int(found[0].mask.sum()))
        render, mask = self.networks.guide(window)
        latent = drawn.made
        if float(torch.rand(1, generator=generator)) >= self.config.own_latents:
            noise = torch.randn(drawn.true.shape, generator=generator).to(drawn.true)
            latent = drawn.true + self.config.latent_noise * noise
            render, mask = drop_guide(render, mask, self.config.guide_dropout, generator)
        cell = self.networks.config.autoencoder.spatial_factor
        part = latent[..., rows.start // cell:rows.stop // cell, columns.start // cell:columns.stop // cell]
        return {'truth': unit(window.truth), 'render': render, 'mask': mask, 'latent': part.float()}

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
            self._pool.append(_RolledOut(replace(clip, reference=clip.reference[:, :0]), made, true))

    def _judge(self, truth: Tensor, image: Tensor, mask: Tensor) -> Tensor:
        """Give the discriminator's hinge loss."""
        return (_in_holes(F.relu(1 - self.discriminator(truth, mask)), mask)
                + _in_holes(F.relu(1 + self.discriminator(image, mask)), mask))

    def _balance(self, wanted: Tensor, score: Tensor) -> Tensor:
        last = self.networks.autoencoder.decoder[-1].weight
        sizes = [torch.autograd.grad(loss, last, retain_graph=True)[0].norm() for loss in (wanted, score)]
        return sizes[0] / sizes[1].clamp_min(_SMALLEST)

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
        return {**figures.psnr(), 'sharp': made / max(true, _SMALLEST)}


def gradient_energy(image: Tensor, mask: Tensor) -> float:
    """Give the sum of squared differences between neighbouring hole pixels of [..., 3, H, W]; `mask` is 0 in holes."""
    holes, energy = 1 - mask, 0.
    for dim in (-1, -2):
        size = image.shape[dim] - 1
        both = holes.narrow(dim, 0, size) * holes.narrow(dim, 1, size)
        energy += float((image.detach().diff(dim=dim).square() * both).sum())
    return energy


def _windows(clip: Tensor) -> Tensor:
    """Cut clips [B, T, C, H, W] into windows [B * T // FRAMES_SEEN, FRAMES_SEEN, C, H, W] of successive frames."""
    whole = clip.shape[1] // FRAMES_SEEN * FRAMES_SEEN
    return clip[:, :whole].unflatten(1, (-1, FRAMES_SEEN)).flatten(0, 1)


def _in_holes(scores: Tensor, mask: Tensor) -> Tensor:
    """Give the mean of scores [N, 1, h, w] of windows, weighted by the share of holes under them."""
    share = F.adaptive_avg_pool2d(1 - _windows(mask.to(scores)).mean(dim=1), scores.shape[2:])
    return (scores * share).sum() / share.sum().clamp_min(1.)
