# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Linear layers in float8 (e4m3): weights scaled by output channel once, inputs by token as they come.

The product is `torch._scaled_mm`, which accumulates in float32 and multiplies by both scales at the end. What e4m3
loses: three bits of mantissa round a value by at most 1/16 of itself, 2.7 % of it in the mean square.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from inspatio_ros.errors import ConfigurationError

FORMAT = torch.float8_e4m3fn
LARGEST = torch.finfo(FORMAT).max
#: Rows of zeros have no scale of their own.
_LEAST_SCALE = 1e-12
#: The first compute capability whose matrix units take float8 with a scale a row (Hopper).
CAPABILITY = (9, 0)
#: Sides of a matrix must be multiples of this.
MULTIPLE = 16

#: The layers of a block that are worth it: those that see every token in every pass.
LAYERS = ('self_attn.q', 'self_attn.k', 'self_attn.v', 'self_attn.qkv', 'self_attn.o', 'cross_attn.q', 'cross_attn.o',
          'ffn.0', 'ffn.2')


def quantise(x: Tensor) -> tuple[Tensor, Tensor]:
    """Give x [N, K] as float8 [N, K] and the float32 scale [N, 1] of each row, whose largest value becomes LARGEST."""
    scale = (x.abs().amax(dim=1, keepdim=True).float() / LARGEST).clamp(min=_LEAST_SCALE)
    return (x.float() / scale).clamp(-LARGEST, LARGEST).to(FORMAT), scale


def unsupported(device: torch.device) -> str:
    """Say why a device has no float8; '' if it has."""
    if device.type != 'cuda':
        return f'float8 needs a GPU of compute capability {_dotted(CAPABILITY)} or more, and this is {device.type!r}'
    found = torch.cuda.get_device_capability(device)
    if found < CAPABILITY:
        return (f'float8 needs compute capability {_dotted(CAPABILITY)} or more, and '
                f'{torch.cuda.get_device_name(device)} has {_dotted(found)}')
    return ''


def _dotted(version: tuple[int, int]) -> str:
    return '.'.join(map(str, version))


class Float8Linear(nn.Module):
    """A linear layer whose weight is kept in float8; inference only.

    `emulated` computes the same in float32 from the same rounded numbers, on any device: what the tests use where
    there is no float8, and a way to see what float8 would cost in quality.
    """

    def __init__(self, linear: nn.Linear, emulated: bool = False) -> None:
        super().__init__()
        if linear.in_features % MULTIPLE or linear.out_features % MULTIPLE:
            raise ConfigurationError(f'float8 takes matrices whose sides are multiples of {MULTIPLE}, not '
                                     f'{linear.out_features} x {linear.in_features}')
        weight, scale = quantise(linear.weight.detach())
        self.in_features, self.out_features, self.emulated = linear.in_features, linear.out_features, emulated
        self.register_buffer('weight', weight)
        self.register_buffer('scale', scale.T.contiguous())
        self.register_buffer('bias', None if linear.bias is None else linear.bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        """Map x [..., in_features] to [..., out_features] in x's type."""
        return self.rows(x, 0)

    def rows(self, x: Tensor, start: int) -> Tensor:
        """Compute the outputs from `start` on alone."""
        tokens, token_scale = quantise(x.flatten(0, -2))
        weight, scale = self.weight[start:], self.scale[:, start:]
        bias = None if self.bias is None else self.bias[start:]
        if self.emulated:
            product = tokens.float() @ weight.float().T * token_scale * scale
            out = (product if bias is None else product + bias).to(x.dtype)
        else:
            out = torch._scaled_mm(tokens, weight.T, scale_a=token_scale, scale_b=scale.contiguous(), bias=bias,
                                   out_dtype=x.dtype, use_fast_accum=True)
        return out.unflatten(0, x.shape[:-1])


def linear_rows(layer: nn.Linear | Float8Linear, x: Tensor, start: int) -> Tensor:
    """Compute the outputs of a layer from `start` on alone."""
    if not isinstance(layer, nn.Linear):
        return layer.rows(x, start)
    return F.linear(x, layer.weight[start:], None if layer.bias is None else layer.bias[start:])


def to_float8(transformer: nn.Module, emulated: bool = False) -> int:
    """Turn the large layers of every block into float8; gives how many. First and last layers keep their type.

    Raises:
        ConfigurationError: the device has no float8, or the network does not compute in bfloat16.

    """
    if not emulated:
        reason = unsupported(transformer.device)
        if not reason and transformer.dtype != torch.bfloat16:
            reason = f'float8 gives bfloat16, and the network computes in {transformer.dtype}'
        if reason:
            raise ConfigurationError(f"{reason}; choose speed 'fast', which computes in bfloat16")
    count = 0
    for block in transformer.blocks:
        for name in LAYERS:
            owner, _, own = name.rpartition('.')
            parent = block.get_submodule(owner)
            layer = getattr(parent, own, None)
            if isinstance(layer, nn.Linear):
                setattr(parent, own, Float8Linear(layer, emulated))
                count += 1
    return count
