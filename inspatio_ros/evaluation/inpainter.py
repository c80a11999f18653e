# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The control: a plain convolutional in-painter of nano's size, which sees one filled render at a time.

It has no reference, no history and no latents, so what STAR does better than it is what those are good for. It is
trained by `python -m inspatio_ros.training.inpainter`.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from inspatio_ros.errors import WeightsError
from inspatio_ros.spatial.fill import fill
from inspatio_ros.star.checkpoint import TensorFile, load_module

if TYPE_CHECKING:
    from inspatio_ros.spatial.render import Condition

#: The fill that it starts from, the same as nano's.
START = 'smooth'
#: Of what is below zero. A smooth unit that saturates leaves numbers so small that a CPU becomes ten times as slow.
_SLOPE = 0.2
#: Frames that pass through the network at a time.
_FRAMES_AT_ONCE = 8


@dataclass(frozen=True)
class InpainterConfig:
    """Widths of the U-Net's levels, each half as fine as the one before; pixels are folded by `patch` first.

    The defaults have as many parameters as nano's transformer and autoencoder together: 7.4 million.
    """

    widths: tuple[int, ...] = (56, 112, 216, 432)
    patch: int = 2

    @property
    def multiple(self) -> int:
        """What the network wants width and height to be multiples of."""
        return self.patch * 2 ** (len(self.widths) - 1)


class Inpainter(nn.Module):
    """A U-Net that adds a change to the filled render; untrained, the change is zero."""

    def __init__(self, config: InpainterConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or InpainterConfig()
        widths, folded = config.widths, config.patch**2
        self.stem = nn.Conv2d(4 * folded, widths[0], 3, padding=1)
        self.down = nn.ModuleList([_convolutions(w, w) for w in widths])
        self.shrink = nn.ModuleList([nn.Conv2d(a, b, 3, stride=2, padding=1)
                                     for a, b in zip(widths, widths[1:], strict=False)])
        self.grow = nn.ModuleList([nn.Conv2d(b, a, 1) for a, b in zip(widths, widths[1:], strict=False)])
        self.up = nn.ModuleList([_convolutions(2 * w, w) for w in widths[:-1]])
        self.out = nn.Conv2d(widths[0], 3 * folded, 3, padding=1)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, _SLOPE)
                nn.init.zeros_(layer.bias)
        nn.init.zeros_(self.out.weight)

    def forward(self, filled: Tensor, mask: Tensor) -> Tensor:
        """Complete filled renders [N, 3, H, W] in [0, 1] with masks [N, 1, H, W] (1 known): [N, 3, H, W], unbounded.

        Width and height may be any; the borders are repeated up to what the network wants.
        """
        height, width = filled.shape[-2:]
        multiple = self.config.multiple
        pad = (0, -width % multiple, 0, -height % multiple)
        x = F.pixel_unshuffle(F.pad(torch.cat([filled, mask], dim=1), pad, mode='replicate'), self.config.patch)
        x = self.stem(x.contiguous(memory_format=torch.channels_last))
        levels = []
        for level, block in enumerate(self.down):
            x = block(x)
            if level < len(self.shrink):
                levels.append(x)
                x = self.shrink[level](x)
        for level in reversed(range(len(self.up))):
            finer = F.interpolate(self.grow[level](x), scale_factor=2)
            x = self.up[level](torch.cat([levels[level], finer], dim=1))
        return filled + F.pixel_shuffle(self.out(x), self.config.patch)[..., :height, :width]

    @torch.inference_mode()
    def complete(self, condition: Condition) -> Tensor:
        """Complete the render of any frames: float32 [F, 3, H, W] in [-1, 1]."""
        filled = (fill(condition, START) + 1) / 2
        parts = zip(filled.split(_FRAMES_AT_ONCE), condition.mask.split(_FRAMES_AT_ONCE), strict=True)
        return torch.cat([self(image, mask) for image, mask in parts]).clamp(0, 1) * 2 - 1


def _convolutions(wide: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(wide, width, 3, padding=1), nn.LeakyReLU(_SLOPE, inplace=True),
                         nn.Conv2d(width, width, 3, padding=1), nn.LeakyReLU(_SLOPE, inplace=True))


def describe(config: InpainterConfig) -> dict[str, str]:
    """Give the metadata that a file of weights carries, so that it can be opened."""
    return {'inpainter': json.dumps(asdict(config))}


def open_inpainter(path: str | Path, device: str = 'cpu') -> Inpainter:
    """Load an in-painter's weights; WeightsError where the file is none, is damaged, or does not fit itself."""
    metadata = TensorFile(path).metadata
    if 'inpainter' not in metadata:
        raise WeightsError(f'{path} holds no in-painter; train one with python -m inspatio_ros.training.inpainter')
    plain = json.loads(metadata['inpainter'])
    net = Inpainter(InpainterConfig(tuple(plain['widths']), plain['patch']))
    return load_module(net, path, device).eval().requires_grad_(False)
