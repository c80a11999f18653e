# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Train what mends known pixels of the render (star/mend.py), on single frames: it needs no latents."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from inspatio_ros.errors import ConfigurationError
from inspatio_ros.star.mend import FOLD
from inspatio_ros.training.data import ClipSource, place, unit
from inspatio_ros.training.networks import Networks
from inspatio_ros.training.stages import LEAST_SQUARE, LossConfig


class MendStage:
    """Train the autoencoder's mend by the error of known pixels, relative to the render's own."""

    name = 'mend'
    goes_by = ('crop',)

    def __init__(self, networks: Networks, clips: ClipSource, held_out: ClipSource, config: LossConfig) -> None:
        if networks.autoencoder.mend is None:
            raise ConfigurationError('stage mend has nothing to train: autoencoder.mend_width is 0')
        self.mend = networks.autoencoder.mend.requires_grad_(True)
        self.networks, self.clips, self.held_out, self.config = networks, clips, held_out, config
        self.modules: dict[str, nn.Module] = {'mend': self.mend}

    def loss(self, batch_size: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Mend windows of single frames."""
        truth, filled, mask = self.clips.draw_frames(batch_size, generator)
        places = [[place(side, part, FOLD, generator)
                   for side, part in zip(truth.shape[-2:], self.config.crop, strict=True)]
                  for _ in range(batch_size)]
        frames = truth, self.networks.fill(filled, mask), mask
        truth, render, mask = (self._windows(images, places) for images in frames)
        error = relative_known_error(self.mend(render, mask), truth, render, mask)
        return error, {}

    def _windows(self, images: Tensor, places: list[list[slice]]) -> Tensor:
        return torch.stack([image[..., rows, columns]
                            for image, (rows, columns) in zip(images, places, strict=True)]).to(self.networks.device)

    def validate(self) -> dict[str, float]:
        """Mend held-out clips: what known pixels gain, in dB, as the mean over clips."""
        gains = []
        for clips in self.held_out.batches(1):
            truth, filled = (unit(part[0].to(self.networks.device)) for part in (clips.truth, clips.filled))
            mask = clips.mask[0].to(truth)
            render = self.networks.fill(filled, mask)
            made, own = ((((image - truth).square() * mask).sum())
                         for image in (self.mend(render, mask).clamp(0, 1), render))
            gains.append(float(10 * torch.log10(own / made)) if float(made) > 0 else 0.)
        return {'gain': sum(gains) / len(gains)}


def relative_known_error(image: Tensor, truth: Tensor, render: Tensor, mask: Tensor) -> Tensor:
    """Give the mean over images [B, 3, H, W] of known pixels' squared error, relative to the render's own there.

    PSNR's mean over clips is a logarithm, whose slope is one over a clip's error.
    """
    known = mask.sum(dim=(1, 2, 3)).clamp_min(1.) * image.shape[1]
    error, own = (((made - truth).square() * mask).sum(dim=(1, 2, 3)) / known for made in (image, render))
    return (error / (own + LEAST_SQUARE)).mean()
