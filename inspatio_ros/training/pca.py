# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Start the autoencoder's linear map from the principal components of true clips."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from inspatio_ros.star.autoencoder import TinyAutoencoder, fold
from inspatio_ros.training.data import ClipSource, unit

#: Clips and seed that the components are taken from.
CLIPS, SEED = 48, 0
#: Ends of the spectrum: standard deviations are not divided by less.
LEAST_DEVIATION = 1e-3


@torch.no_grad()
def start_from_components(autoencoder: TinyAutoencoder, clips: ClipSource) -> None:
    """Make the linear map the first principal components, whitened, and the convolutions add nothing to begin with."""
    mean, covariance = _moments(autoencoder, clips)
    values, vectors = torch.linalg.eigh(covariance)
    count = autoencoder.config.latent_channels
    deviations = values[-count:].flip(0).clamp(min=LEAST_DEVIATION**2).sqrt()
    components = vectors[:, -count:].flip(1).T
    _set(autoencoder.linear_encoder, components / deviations[:, None], -(components @ mean) / deviations)
    _set(autoencoder.linear_decoder, (components * deviations[:, None]).T, mean)
    for layer in (autoencoder.encoder[-1], autoencoder.decoder[-1]):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)


def _moments(autoencoder: TinyAutoencoder, clips: ClipSource) -> tuple[Tensor, Tensor]:
    """Give mean and covariance of the cells of true clips, in float64."""
    generator = torch.Generator().manual_seed(SEED)
    total, squares, count = 0., 0., 0
    factor = autoencoder.config.temporal_factor
    for _ in range(CLIPS):
        frames = unit(clips.draw(1, generator).truth)
        # The first latent stands for copies of the first frame.
        frames = torch.cat([frames[:, :1].expand(-1, factor - 1, -1, -1, -1), frames], dim=1)
        cells = fold(frames, autoencoder.config).transpose(0, 1).flatten(1).double()
        total, squares, count = total + cells.sum(dim=1), squares + cells @ cells.T, count + cells.shape[1]
    mean = total / count
    return mean, squares / count - torch.outer(mean, mean)


def _set(layer: nn.Conv2d, weight: Tensor, bias: Tensor) -> None:
    layer.weight.copy_(weight[:, :, None, None])
    layer.bias.copy_(bias)
