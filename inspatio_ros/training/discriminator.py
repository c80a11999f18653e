# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Tells generated from true pictures, patch by patch, a few successive frames at a time. It is told where holes are."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

#: Successive frames that it sees as one picture: flicker gives a generator away.
FRAMES_SEEN = 3
#: Widths of its layers, each half as fine as the one before.
WIDTHS = (48, 96, 128)


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


def _windows(clip: Tensor) -> Tensor:
    """Cut clips [B, T, C, H, W] into windows [B * T // FRAMES_SEEN, FRAMES_SEEN, C, H, W] of successive frames."""
    whole = clip.shape[1] // FRAMES_SEEN * FRAMES_SEEN
    return clip[:, :whole].unflatten(1, (-1, FRAMES_SEEN)).flatten(0, 1)


def in_holes(scores: Tensor, mask: Tensor) -> Tensor:
    """Give the mean of scores [N, 1, h, w] of windows, weighted by the share of holes under them."""
    share = F.adaptive_avg_pool2d(1 - _windows(mask.to(scores)).mean(dim=1), scores.shape[2:])
    return (scores * share).sum() / share.sum().clamp_min(1.)
