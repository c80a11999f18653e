# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Layers for inference on a CPU (the autoencoder's on any device): the same numbers as their plain twins, in less time.

Convolutions want channels-last memory. The plain layers join and split frames in a way that changes the layout, so that
the next convolution first puts its input in order; these copy once, into the layout that follows. Two things are
computed where they cost less: a 1x1 convolution before its input is doubled in size instead of after it, and a 3x3
convolution of a doubled image as four 2x2 convolutions of the image itself (4 products a pixel instead of 9).

The twins are in autoencoder.py and transformer.py, and the tests compare them.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from inspatio_ros.star.autoencoder import MemoryBlock, TimeGrow, TimePool
from inspatio_ros.star.transformer import Rotary


class FusedMemoryBlock(MemoryBlock):
    """A memory block that lays a frame and the one before it side by side by one copy."""

    def __init__(self, block: MemoryBlock) -> None:
        nn.Module.__init__(self)
        self.conv = block.conv

    def forward(self, x: Tensor, batch: int, memory: Tensor | None) -> tuple[Tensor, Tensor]:
        """Map [N*T, C, h, w] and the frame before it [N, C, h, w] to the same shape and the frame to remember."""
        joined = torch.empty(x.shape[0], 2 * x.shape[1], *x.shape[2:], device=x.device, dtype=x.dtype,
                             memory_format=torch.channels_last)
        now, past = (part.unflatten(0, (batch, -1)) for part in joined.chunk(2, dim=1))
        frames = x.unflatten(0, (batch, -1))
        now.copy_(frames)
        past[:, 1:].copy_(frames[:, :-1])
        past[:, 0].zero_() if memory is None else past[:, 0].copy_(memory)
        return self.conv(joined).add_(x).relu_(), frames[:, -1].clone()


class FusedTimePool(TimePool):
    """Joins frames by one copy."""

    def __init__(self, pool: TimePool) -> None:
        nn.Module.__init__(self)
        self.stride, self.conv = pool.stride, pool.conv

    def forward(self, x: Tensor) -> Tensor:
        """Map [N*T, C, h, w] to [N*T/stride, C, h, w]."""
        if self.stride == 1:
            return self.conv(x)
        rows = x.permute(0, 2, 3, 1).unflatten(0, (-1, self.stride)).permute(0, 2, 3, 1, 4)
        return self.conv(rows.flatten(3).permute(0, 3, 1, 2))


class FusedTimeGrow(TimeGrow):
    """Splits frames by one copy."""

    def __init__(self, grow: TimeGrow) -> None:
        nn.Module.__init__(self)
        self.conv = grow.conv

    def forward(self, x: Tensor) -> Tensor:
        """Map [N*T, C, h, w] to [N*T*stride, C, h, w]."""
        grown, channels = self.conv(x), x.shape[1]
        if grown.shape[1] == channels:
            return grown
        rows = grown.permute(0, 2, 3, 1).unflatten(3, (-1, channels)).permute(0, 3, 1, 2, 4)
        return rows.flatten(0, 1).permute(0, 3, 1, 2)


class DoublingConvolution(nn.Module):
    """A 3x3 convolution of an image doubled in size (each pixel repeated), computed on the image before that.

    Of the three rows that a 3x3 kernel sees of the doubled image two are the same row of the image, so that their
    weights add up: for an even row of the result (w0, w1 + w2) of the rows i-1 and i, for an odd one (w0 + w1, w2) of
    the rows i and i+1. So it is for columns. The four kernels are one convolution with four times the channels.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        weight = conv.weight.detach()
        phases = [phase for row in _sums(weight, 2) for phase in _sums(row, 3)]
        self.conv = nn.Conv2d(conv.in_channels, 4 * conv.out_channels, 2, padding=1, bias=False, device='meta')
        self.conv.weight = nn.Parameter(torch.cat(phases), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, h, w] to [N, C', 2h, 2w]."""
        height, width = x.shape[2:]
        phases = self.conv(x).chunk(4, dim=1)
        out = torch.empty(x.shape[0], phases[0].shape[1], 2 * height, 2 * width, device=x.device,
                          dtype=phases[0].dtype, memory_format=torch.channels_last)
        for index, phase in enumerate(phases):
            row, column = divmod(index, 2)
            out[:, :, row::2, column::2].copy_(phase[:, :, row:row + height, column:column + width])
        return out


def _sums(weight: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Add up the weights that fall on the same row (dim 2) or column (dim 3), for even and for odd results."""
    first, middle, last = weight.split(1, dim=dim)
    return torch.cat([first, middle + last], dim=dim), torch.cat([first + middle, last], dim=dim)


def fuse_layers(layers: nn.Sequential) -> None:
    """Replace the layers of an encoder or decoder by those of this module, at the same indices."""
    doubled = False
    for index, layer in enumerate(layers):
        if isinstance(layer, MemoryBlock):
            layers[index] = FusedMemoryBlock(layer)
        elif isinstance(layer, TimePool):
            layers[index] = FusedTimePool(layer)
        elif isinstance(layer, TimeGrow):
            layers[index] = FusedTimeGrow(layer)
        elif isinstance(layer, nn.Upsample):
            # The layer that grows in time is the same for every pixel, so it comes before the doubling.
            layers[index], doubled = nn.Identity(), layer.scale_factor == 2
        elif isinstance(layer, nn.Conv2d) and layer.bias is None and doubled:
            layers[index], doubled = DoublingConvolution(layer), False


def unshuffle(image: Tensor, patch: int) -> Tensor:
    """Fold pixels into channels, as pixel_unshuffle does, [N, C, H, W] to channels-last [N, C*patch^2, h, w]."""
    return functional.pixel_unshuffle(image, patch).contiguous(memory_format=torch.channels_last)


def rotate_complex(x: Tensor, rotary: Rotary) -> Tensor:
    """Turn channel pairs of x [B, tokens, heads, head_dim] as `transformer.rotate` does, by one complex product."""
    pairs = torch.view_as_complex(x.to(rotary.cos.dtype).unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * torch.complex(rotary.cos, rotary.sin)).flatten(-2).to(x.dtype)


class FusedGelu(nn.Module):
    """The tanh form of GELU by a sigmoid: x * sigmoid(2 sqrt(2 / pi) (x + 0.044715 x^3)), by vectorised passes."""

    SCALE = 2 * (2 / math.pi)**0.5

    def forward(self, x: Tensor) -> Tensor:
        """Map x [...]; it is not changed."""
        inner = (x * x).mul_(0.044715 * self.SCALE).add_(self.SCALE).mul_(x)
        return inner.sigmoid_().mul_(x)
