# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Teach the decoder fine texture: beside the squared error, a discriminator that tells decoded from true pictures.

Squared error makes the decoder give the mean of all textures that a latent may stand for, which is none: even true
latents decoded to a quarter of the truth's gradient energy. The encoder stays as it is, and so do latents and whatever
was trained on them. The weight of the adversary is that of VQGAN (arXiv 2012.09841, equation 7): a share of the squared
error's gradient at the decoder's last layer.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from inspatio_ros.training.data import Clips, ClipSource, crop, unit
from inspatio_ros.training.networks import Networks
from inspatio_ros.training.stages import LossConfig, blank, drop_guide, first_frames

#: Successive frames that the discriminator sees as one picture: flicker gives a decoder away.
FRAMES_SEEN = 3
#: Widths of the discriminator's layers, each half as fine as the one before.
WIDTHS = (32, 64, 96)
#: Steps over which the adversary's weight grows: it has to learn something first.
RAMP = 100
#: The discriminator's learning rate, as a share of the decoder's.
RATE = 1.
_SMALLEST = 1e-8


class Discriminator(nn.Module):
    """Scores windows of a few successive frames, patch by patch: above 0 it takes them for true."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        widths = (channels * FRAMES_SEEN, *WIDTHS)
        layers: list[nn.Module] = []
        for before, after in zip(widths, widths[1:], strict=False):
            layers += [spectral_norm(nn.Conv2d(before, after, 4, stride=2, padding=1)), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, spectral_norm(nn.Conv2d(widths[-1], 1, 3, padding=1)))

    def forward(self, image: Tensor) -> Tensor:
        """Score clips [B, T, 3, H, W] in [0, 1]; frames that fill no window are left out."""
        windows = image[:, :image.shape[1] // FRAMES_SEEN * FRAMES_SEEN].unflatten(1, (-1, FRAMES_SEEN))
        x = (windows.flatten(0, 1).flatten(1, 2) * 2 - 1).contiguous(memory_format=torch.channels_last)
        return self.layers(x)


class SharpenStage:
    """Train the decoder by squared error and a discriminator; the encoder is frozen."""

    name = 'sharpen'

    def __init__(self, networks: Networks, clips: ClipSource, held_out: ClipSource, config: LossConfig) -> None:
        self.networks, self.clips, self.held_out, self.config = networks, clips, held_out, config
        for part in networks.autoencoder.encoding_parts():
            part.requires_grad_(False)
        self.discriminator = Discriminator(networks.config.autoencoder.image_channels).to(networks.device)
        self.modules: dict[str, nn.Module] = {'autoencoder': networks.autoencoder, 'discriminator': self.discriminator}
        self.rates = {'autoencoder': 1., 'discriminator': RATE}

    def loss(self, batch_size: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Refuse: two networks have a loss each (use `backward`)."""
        raise NotImplementedError('the two networks have a loss each; train them with training/distributed.py')

    def backward(self, batch_size: int, generator: torch.Generator, shared: torch.Generator,
                 step: int) -> tuple[Tensor, dict[str, float]]:
        """Add the gradients of both networks; gives the decoder's squared error and figures to log."""
        clips, _, _ = crop(self.clips.draw(batch_size, generator), *self.config.crop,
                           self.networks.config.size_multiple, generator)
        truth, image = self._decoded(clips, generator)
        judged = self._judge(truth, image.detach())
        judged.backward()
        self.discriminator.requires_grad_(False)
        error = image - truth
        square = error.square().mean()
        wanted, score = square + self.config.absolute * error.abs().mean(), -self.discriminator(image).mean()
        weight = self.config.sharpness * min(1., step / RAMP) * self._balance(wanted, score)
        (wanted + weight * score).backward()
        self.discriminator.requires_grad_(True)
        return square.detach(), {'psnr': float(-10 * torch.log10(square.detach())), 'weight': float(weight),
                                 'discriminator': float(judged.detach())}

    def _decoded(self, clips: Clips, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Give the first block of true windows, and what the decoder makes of its latents."""
        clips = first_frames(clips, self.networks.config.frames_in_first_block)
        truth = unit(clips.truth.to(self.networks.device))
        with torch.no_grad():
            latent = self.networks.autoencoder.encode(truth)
        latent = latent + self.config.latent_noise * torch.randn(latent.shape, generator=generator).to(latent)
        guide = drop_guide(*self.networks.guide(clips), self.config.guide_dropout, generator)
        return truth, self.networks.autoencoder.decode(latent, guide, clamp=False).float()

    def _judge(self, truth: Tensor, image: Tensor) -> Tensor:
        """Give the discriminator's hinge loss."""
        return F.relu(1 - self.discriminator(truth)).mean() + F.relu(1 + self.discriminator(image)).mean()

    def _balance(self, wanted: Tensor, score: Tensor) -> Tensor:
        last = self.networks.autoencoder.decoder[-1].weight
        sizes = [torch.autograd.grad(loss, last, retain_graph=True)[0].norm() for loss in (wanted, score)]
        return sizes[0] / sizes[1].clamp_min(_SMALLEST)

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Decode held-out clips without the guide: PSNR, and gradient energy as a share of the truth's."""
        square = values = made = true = 0.
        for clips in self.held_out.batches(1):
            truth = unit(clips.truth.to(self.networks.device))
            guide = blank(*self.networks.guide(clips))
            image = self.networks.autoencoder.decode(self.networks.autoencoder.encode(truth), guide).float()
            square, values = square + float((image - truth).square().sum()), values + truth.numel()
            made, true = made + gradient_energy(image), true + gradient_energy(truth)
        return {'psnr_without_guide': float(-10 * torch.log10(torch.tensor(square / values))), 'sharp': made / true}


def gradient_energy(image: Tensor) -> float:
    """Give the sum of squared differences between neighbouring pixels of [..., H, W]."""
    return float(image.diff(dim=-1).square().sum() + image.diff(dim=-2).square().sum())
