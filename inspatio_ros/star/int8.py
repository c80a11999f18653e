# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Large convolutions and matrices in int8, on CPUs that multiply it (VNNI): about four times float32's rate.

Weights are rounded by output channel once, inputs by one scale a tensor as they come (the largest value becomes the
largest number, so nothing is clipped and nothing must be calibrated); products are summed in int32 and come out as
float32. An input that is never negative uses all 256 steps. In float32 stay the first and last layers, which make
latents or pixels directly, 1x1 convolutions, attention, norms, residuals and whatever is too small to be worth it.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from inspatio_ros.star.autoencoder import MemoryBlock, TinyAutoencoder
from inspatio_ros.star.fused_layers import DoublingConvolution, FusedMemoryBlock
from inspatio_ros.star.int8_kernel import round_into
from inspatio_ros.star.transformer import DiffusionTransformer

#: Fewer multiplications a result than this are not worth the rounding of the input.
LEAST_PRODUCTS = 9 * 32
#: Zeros have no scale of their own.
LEAST = 1e-12


def supported() -> bool:
    """Say whether this CPU has int8 products that are worth it, and torch the convolution that uses them."""
    return (torch.cpu._is_vnni_supported() and torch.cpu._is_avx512_supported()
            and hasattr(torch.ops.onednn, 'qconv_pointwise'))


class Int8Convolution(nn.Module):
    """A convolution in int8; `positive` says that its input is never negative, `relu` applies one to the result."""

    def __init__(self, weight: Tensor, bias: Tensor | None, stride: int, padding: int, positive: bool,
                 relu: bool) -> None:
        super().__init__()
        self.stride, self.padding, self.relu = [stride] * 2, [padding] * 2, relu
        self.zero, self.steps = (0, 255) if positive else (128, 127)
        scale = (weight.abs().amax(dim=(1, 2, 3)).float() / 127).clamp(min=LEAST)
        rounded = (weight / scale[:, None, None, None]).round().to(torch.int8)
        self.packed = torch.ops.onednn.qconv_prepack(rounded, scale, 1., self.zero, self.stride, self.padding,
                                                     [1, 1], 1)
        self.scale, self.bias = scale, bias
        self.zeros = torch.zeros(len(scale), dtype=torch.int32)

    def forward(self, *parts: Tensor) -> Tensor:
        """Map float32 [N, C, h, w], or several that together have so many channels, to float32 [N, C', h', w']."""
        scale = max(largest(part, self.zero == 0) for part in parts) / self.steps
        n, _, h, w = parts[0].shape
        rounded = np.empty((n * h * w, sum(part.shape[1] for part in parts)), np.uint8)
        start = 0
        for part in parts:
            round_into(as_rows(part), np.float32(1 / scale), np.float32(self.zero), rounded, start)
            start += part.shape[1]
        return self.multiply(torch.from_numpy(rounded).view(n, h, w, -1).permute(0, 3, 1, 2), scale)

    def with_past(self, x: Tensor, batch: int, memory: Tensor | None) -> Tensor:
        """Map each frame of x [N*T, C, h, w] and the frame before it, which for the first is `memory` [N, C, h, w]."""
        scale = max(largest(part, self.zero == 0) for part in (x, memory) if part is not None) / self.steps
        frames, channels, height, width = x.shape
        rounded = np.empty((batch, frames // batch, height * width, 2 * channels), np.uint8)
        rows = as_rows(x).reshape(batch, frames // batch, height * width, channels)
        given = np.float32(1 / scale), np.float32(self.zero)
        for sample in range(batch):
            now, out = rows[sample].reshape(-1, channels), rounded[sample].reshape(-1, 2 * channels)
            round_into(now, *given, out, 0)
            round_into(now[:-height * width], *given, out[height * width:], channels)
            if memory is None:
                out[:height * width, channels:] = self.zero
            else:
                round_into(as_rows(memory[sample:sample + 1]), *given, out[:height * width], channels)
        return self.multiply(torch.from_numpy(rounded).view(frames, height, width, -1).permute(0, 3, 1, 2), scale)

    def multiply(self, rounded: Tensor, scale: float) -> Tensor:
        """Map uint8 [N, C, h, w], each number (value - zero) * scale, to float32."""
        return torch.ops.onednn.qconv_pointwise(
            rounded, scale, self.zero, self.packed, self.scale, self.zeros, self.bias, self.stride, self.padding,
            [1, 1], 1, 1., 0, torch.float32, 'relu' if self.relu else 'none', [], '')


class Int8Linear(nn.Module):
    """A linear layer in int8; `gelu` applies the tanh form of GELU to the result."""

    def __init__(self, linear: nn.Linear, gelu: bool = False) -> None:
        super().__init__()
        self.in_features, self.gelu = linear.in_features, gelu
        scale = (linear.weight.abs().amax(dim=1).float() / 127).clamp(min=LEAST)
        self.packed = torch.ops.onednn.qlinear_prepack((linear.weight / scale[:, None]).round().to(torch.int8), None)
        self.scale, self.bias, self.zeros = scale, linear.bias, torch.zeros(len(scale), dtype=torch.int32)

    def forward(self, x: Tensor) -> Tensor:
        """Map float32 [..., in_features] to float32 [..., out_features]."""
        scale, rows = largest(x, False) / 127, x.reshape(-1, self.in_features)
        rounded = np.empty(rows.shape, np.uint8)
        round_into(rows.numpy(), np.float32(1 / scale), np.float32(128), rounded, 0)
        out = torch.ops.onednn.qlinear_pointwise(
            torch.from_numpy(rounded), scale, 128, self.packed, self.scale, self.zeros, self.bias, 1., 0,
            torch.float32, 'gelu' if self.gelu else 'none', [], 'tanh' if self.gelu else '')
        return out.unflatten(0, x.shape[:-1])

    def rows(self, x: Tensor, start: int) -> Tensor:
        """Give the outputs from `start` on alone."""
        return self(x)[..., start:]


class Int8MemoryBlock(MemoryBlock):
    """A memory block in int8; the residual stays in float32."""

    def __init__(self, block: MemoryBlock, positive: bool) -> None:
        nn.Module.__init__(self)
        first, _, second, _, third = block.conv
        # What each of the three sees: a frame and the one before it, then what a ReLU left.
        self.first, self.second, self.third = (_int8(first, positive, True), _int8(second, True, True),
                                               _int8(third, True, False))

    def forward(self, x: Tensor, batch: int, memory: Tensor | None) -> tuple[Tensor, Tensor]:
        """Map [N*T, C, h, w] and the frame before it [N, C, h, w] to the same shape and the frame to remember."""
        last = x.unflatten(0, (batch, -1))[:, -1].clone()
        return self.third(self.second(self.first.with_past(x, batch, memory))).add_(x).relu_(), last


def as_rows(x: Tensor) -> np.ndarray:
    """Give channels-last [N, C, h, w] as [N*h*w, C] without a copy."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1]).numpy()


def largest(x: Tensor, positive: bool) -> float:
    """Give the largest magnitude of x, but never zero."""
    high = float(x.amax())
    return max(high, LEAST) if positive else max(high, -float(x.amin()), LEAST)


def to_int8(autoencoder: TinyAutoencoder, transformer: DiffusionTransformer) -> int:
    """Turn the large layers of fused networks in float32 into int8; gives how many."""
    count = sum(_convert(layers) for layers in (autoencoder.encoder, autoencoder.decoder))
    if autoencoder.config.guided:
        # Both see what a ReLU left.
        for name in ('down', 'mix'):
            conv = getattr(autoencoder.guide, name)
            if _worth_it(conv.weight):
                setattr(autoencoder.guide, name, _int8(conv, True, False))
                count += 1
    if autoencoder.mend is not None and _worth_it(autoencoder.mend.layers[2].weight):
        # Between two ReLUs, the second of which becomes part of it.
        layers = autoencoder.mend.layers
        layers[2], layers[3] = _int8(layers[2], True, True), nn.Identity()
        count += 1
    for block in transformer.blocks:
        block.self_attn.qkv = Int8Linear(block.self_attn.qkv)
        # The activation is part of the first layer.
        block.ffn[0], block.ffn[1] = Int8Linear(block.ffn[0], gelu=True), nn.Identity()
        block.ffn[2] = Int8Linear(block.ffn[2])
    return count + 3 * len(transformer.blocks)


def _convert(layers: nn.Sequential) -> int:
    """Convert an encoder or decoder but for its first and last layers."""
    count, last = 0, len(layers) - 1
    for index, layer in enumerate(layers):
        before = layers[index - 1] if index else None
        if isinstance(layer, FusedMemoryBlock):
            if _worth_it(layer.conv[2].weight):
                # Memory blocks end in a ReLU.
                layers[index] = Int8MemoryBlock(layer, isinstance(before, MemoryBlock | nn.ReLU))
                count += 3
        elif isinstance(layer, DoublingConvolution):
            if _worth_it(layer.conv.weight):
                layer.conv = _int8(layer.conv, False, False)
                count += 1
        elif isinstance(layer, nn.Conv2d) and 0 < index < last and _worth_it(layer.weight):
            layers[index] = _int8(layer, False, False)
            count += 1
    return count


def _worth_it(weight: Tensor) -> bool:
    return weight[0].numel() >= LEAST_PRODUCTS and len(weight) >= 32


def _int8(conv: nn.Conv2d, positive: bool, relu: bool) -> Int8Convolution:
    return Int8Convolution(conv.weight.detach(), conv.bias, conv.stride[0], conv.padding[0], positive, relu)
