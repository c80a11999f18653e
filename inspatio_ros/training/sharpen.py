# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Teach the decoder fine texture: beside the squared error, a discriminator that tells decoded from true pictures.

Squared error makes the decoder give the mean of all textures that a latent may stand for, which is none: even true
latents decoded to a quarter of the truth's gradient energy. The discriminator is told where the holes are, and judges
them alone: known pixels come from the render.

The weight of the adversary is that of VQGAN (arXiv 2012.09841, equation 7): a share of the squared error's gradient at
the decoder's last layer.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from inspatio_ros.training.data import ClipSource
from inspatio_ros.training.decoding import SMALLEST, DecoderStage, gradient_energy
from inspatio_ros.training.networks import Networks
from inspatio_ros.training.stages import LossConfig

#: Successive frames that the discriminator sees as one picture: flicker gives a decoder away.
FRAMES_SEEN = 3
#: Widths of the discriminator's layers, each half as fine as the one before.
WIDTHS = (32, 64, 96)
#: Steps over which the adversary's weight grows: it has to learn something first.
RAMP = 100
#: The discriminator's learning rate, as a share of the decoder's.
RATE = 1.


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


class SharpenStage(DecoderStage):
    """Train the decoder by squared error and a discriminator; the encoder and the transformer are frozen."""

    name = 'sharpen'
    hunt = 4

    def __init__(self, networks: Networks, clips: ClipSource, held_out: ClipSource, config: LossConfig) -> None:
        super().__init__(networks, clips, held_out, config)
        self.discriminator = Discriminator(networks.config.autoencoder.image_channels).to(networks.device)
        self.modules['discriminator'] = self.discriminator
        self.rates = {'autoencoder': 1., 'discriminator': RATE}

    def loss(self, batch_size: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Refuse: two networks have a loss each (use `backward`)."""
        raise NotImplementedError('the two networks have a loss each; train them with training/distributed.py')

    def backward(self, batch_size: int, generator: torch.Generator, shared: torch.Generator,
                 step: int) -> tuple[Tensor, dict[str, float]]:
        """Add the gradients of both networks; gives the decoder's squared error and figures to log."""
        windows = self.decoded(batch_size, generator)
        truth, image, mask = windows.truth, windows.image, windows.mask
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
                                 'sharp': gradient_energy(image, mask) / max(gradient_energy(truth, mask), SMALLEST)}

    def _judge(self, truth: Tensor, image: Tensor, mask: Tensor) -> Tensor:
        """Give the discriminator's hinge loss."""
        return (_in_holes(F.relu(1 - self.discriminator(truth, mask)), mask)
                + _in_holes(F.relu(1 + self.discriminator(image, mask)), mask))

    def _balance(self, wanted: Tensor, score: Tensor) -> Tensor:
        last = self.networks.autoencoder.decoder[-1].weight
        sizes = [torch.autograd.grad(loss, last, retain_graph=True)[0].norm() for loss in (wanted, score)]
        return sizes[0] / sizes[1].clamp_min(SMALLEST)


def _windows(clip: Tensor) -> Tensor:
    """Cut clips [B, T, C, H, W] into windows [B * T // FRAMES_SEEN, FRAMES_SEEN, C, H, W] of successive frames."""
    whole = clip.shape[1] // FRAMES_SEEN * FRAMES_SEEN
    return clip[:, :whole].unflatten(1, (-1, FRAMES_SEEN)).flatten(0, 1)


def _in_holes(scores: Tensor, mask: Tensor) -> Tensor:
    """Give the mean of scores [N, 1, h, w] of windows, weighted by the share of holes under them."""
    share = F.adaptive_avg_pool2d(1 - _windows(mask.to(scores)).mean(dim=1), scores.shape[2:])
    return (scores * share).sum() / share.sum().clamp_min(1.)
