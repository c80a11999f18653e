# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Mend the known pixels of a render: a few convolutions for what resampling has blurred here and left jagged there."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: Pixels are folded in squares of this side: a quarter of the places, and each sees more of its surroundings.
FOLD = 2
_MID_GREY = 0.5


class Mend(nn.Module):
    """Adds a small correction to known pixels; untrained, it adds nothing. Holes are left as they are.

    Args:
        channels: of an image.
        width: of the layers.

    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d((channels + 1) * FOLD**2, width, 3, padding=1), nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, padding=1), nn.ReLU(inplace=True),
            nn.Conv2d(width, channels * FOLD**2, 3, padding=1))

    def start_as_nothing(self) -> None:
        """Make the correction zero."""
        nn.init.zeros_(self.layers[-1].weight)
        nn.init.zeros_(self.layers[-1].bias)

    def forward(self, render: Tensor, mask: Tensor) -> Tensor:
        """Mend renders [B, 3, H, W] in [0, 1], holes filled, under masks [B, 1, H, W] (1 known, 0 hole)."""
        seen = F.pixel_unshuffle(torch.cat([render - _MID_GREY, mask], dim=1), FOLD)
        change = F.pixel_shuffle(self.layers(seen.contiguous(memory_format=torch.channels_last)), FOLD)
        return render + mask * change.to(render.dtype)
