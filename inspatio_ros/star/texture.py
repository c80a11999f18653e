# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Give made-up regions texture: a small U-Net that shapes noise lying on the scene (spatial/grain.py) into detail.

What nobody recorded comes out of a network that was trained by squared error as the mean of all that could be there:
without detail. This adds one of the details that could be there. Known pixels are left as they are.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: Pixels are folded in squares of this side: a quarter of the places, and each sees more of its surroundings.
FOLD = 2
#: Of what is below zero: adversarial training wants gradients everywhere.
_SLOPE = 0.2
_MID_GREY = 0.5
#: Detail is what differs within squares of so many cells, each of so many pixels; what is coarser stays as it is.
COARSE, STRIDE = 3, 4
#: Untrained weights are drawn from this seed: those of the networks beside it are the same with and without it.
_SEED = 0


class Texture(nn.Module):
    """Adds detail to holes; untrained, it adds nothing.

    Args:
        channels: of an image.
        width: of the layers at half the resolution; those at a quarter and an eighth are 4 / 3 as wide.

    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        wide = width * 4 // 3
        with torch.random.fork_rng():
            torch.manual_seed(_SEED)
            self.stem = nn.Conv2d((channels + 2) * FOLD**2, width, 3, padding=1)
            self.down = nn.ModuleList([_layers(width, wide, 2), _layers(wide, wide, 2)])
            self.up = nn.ModuleList([_layers(2 * wide, wide, 1), _layers(wide + width, width, 1)])
            self.out = nn.Conv2d(width, channels * FOLD**2, 3, padding=1)
            for layer in self.modules():
                if isinstance(layer, nn.Conv2d):
                    nn.init.kaiming_normal_(layer.weight, _SLOPE)
                    nn.init.zeros_(layer.bias)
            nn.init.zeros_(self.out.weight)

    def forward(self, image: Tensor, mask: Tensor, grain: Tensor, scale: float = 1.) -> Tensor:
        """Add detail to images [B, 3, H, W] in [0, 1] under masks [B, 1, H, W] (1 known, 0 hole), of grain alike.

        `scale` is the share of the detail that is added. Where detail has nothing to do with the truth's, its contrast
        falls with the share, and what it costs in squared error with the share's square.
        """
        seen = F.pixel_unshuffle(torch.cat([image - _MID_GREY, mask, grain], dim=1), FOLD)
        levels = [F.leaky_relu(self.stem(seen.contiguous(memory_format=torch.channels_last)), _SLOPE)]
        for down in self.down:
            levels.append(down(levels[-1]))
        x = levels.pop()
        for up in self.up:
            beside = levels.pop()
            x = up(torch.cat([F.interpolate(x, beside.shape[-2:], mode='nearest'), beside], dim=1))
        detail = F.pixel_shuffle(self.out(x), FOLD)
        return image + scale * (1 - mask) * (detail - _coarse(detail)).to(image.dtype)


def _coarse(image: Tensor) -> Tensor:
    """Give the mean about each pixel: of squares of COARSE cells of STRIDE pixels, interpolated between them."""
    cells = F.avg_pool2d(F.avg_pool2d(image, STRIDE), COARSE, 1, COARSE // 2, count_include_pad=False)
    return F.interpolate(cells, scale_factor=STRIDE, mode='bilinear', align_corners=False)


def _layers(before: int, after: int, stride: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, after, 3, stride=stride, padding=1), nn.LeakyReLU(_SLOPE, inplace=True),
                         nn.Conv2d(after, after, 3, padding=1), nn.LeakyReLU(_SLOPE, inplace=True))
