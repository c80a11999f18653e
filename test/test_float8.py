# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Float8 linear layers: scales, error bounds, and the device's own product where there is one."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from inspatio_ros.errors import ConfigurationError
from inspatio_ros.star.float8 import LARGEST, Float8Linear, linear_rows, quantise, to_float8, unsupported
from inspatio_ros.star.presets import TINY
from inspatio_ros.star.transformer import DiffusionTransformer

#: e4m3 rounds to 3 bits of mantissa: by at most half of 1/8.
STEP = 1 / 16
DEVICE = torch.device('cuda' if torch.cuda.is_available() else 'cpu')


def layer(out=48, inside=32, seed=0):
    torch.manual_seed(seed)
    return nn.Linear(inside, out).requires_grad_(False)


def test_every_value_is_rounded_by_a_sixteenth_at_most():
    x = torch.randn(64, 256, generator=torch.Generator().manual_seed(0)) * torch.logspace(-6, 6, 64)[:, None]
    values, scale = quantise(x)
    back = values.float() * scale
    # Below 2^-6 of the format there are no normal numbers left; the smallest step there is 2^-9.
    bound = torch.maximum(x.abs() * STEP, scale * 2**-10)
    assert ((back - x).abs() <= bound * 1.001).all()
    torch.testing.assert_close(values.float().abs().amax(1), torch.full((64,), LARGEST))


def test_zeros_and_the_largest_numbers_stay_finite():
    x = torch.zeros(3, 16)
    x[1], x[2] = torch.finfo(torch.float32).max, torch.finfo(torch.float32).tiny
    values, scale = quantise(x)
    assert torch.isfinite(values.float() * scale).all()
    assert not values[0].float().any()


def test_a_layer_is_as_near_as_its_format_allows():
    linear, x = layer(96, 512), torch.randn(40, 512, generator=torch.Generator().manual_seed(1))
    exact = nn.functional.linear(x, linear.weight)
    found = Float8Linear(linear, emulated=True)(x) - linear.bias
    error = float((found - exact).square().mean().sqrt() / exact.square().mean().sqrt())
    # Uniform rounding of weight and input: sqrt(2) times the root mean square of a value's own error, 2.7 %.
    assert 0.02 < error < 0.045
    # Large tokens do not cost small ones their precision.
    x[0] *= 1e4
    again = Float8Linear(linear, emulated=True)(x) - linear.bias
    torch.testing.assert_close(again[1:], found[1:], rtol=0, atol=1e-5)


def test_part_of_a_layer_is_part_of_its_result():
    for made in (layer(), Float8Linear(layer(), emulated=True)):
        x = torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(2))
        torch.testing.assert_close(linear_rows(made, x, 16), made(x)[..., 16:], rtol=0, atol=1e-5)


def test_sides_that_do_not_fit_are_named():
    with pytest.raises(ConfigurationError, match='multiples of 16, not 48 x 24'):
        Float8Linear(layer(48, 24))


@pytest.mark.parametrize('fused, layers', [(False, 8), (True, 6)])
def test_the_large_layers_of_every_block_are_replaced_and_no_others(fused, layers):
    torch.manual_seed(0)
    net = DiffusionTransformer(TINY.transformer)
    kept = {name for name, module in net.named_modules() if isinstance(module, nn.Linear)
            and not name.startswith('blocks')}
    if fused:
        net.fuse()
    assert to_float8(net, emulated=True) == layers * TINY.transformer.num_layers
    left = {name for name, module in net.named_modules() if isinstance(module, nn.Linear)}
    # The caption's keys and values are computed once a run.
    assert left == kept | {f'blocks.{i}.cross_attn.{part}' for i in range(TINY.transformer.num_layers) for part in 'kv'}


def test_a_device_without_float8_is_refused():
    reason = unsupported(torch.device('cpu'))
    assert reason.startswith('float8 needs a GPU')
    with pytest.raises(ConfigurationError, match="choose speed 'fast'"):
        to_float8(DiffusionTransformer(TINY.transformer))


@pytest.mark.skipif(bool(unsupported(DEVICE)), reason='needs a GPU with float8')
def test_the_devices_product_equals_the_emulated_one():
    linear = layer(256, 512).to(DEVICE, torch.bfloat16)
    x = torch.randn(48, 512, generator=torch.Generator().manual_seed(3)).to(DEVICE, torch.bfloat16)
    found, expected = (Float8Linear(linear, emulated)(x).float() for emulated in (False, True))
    torch.testing.assert_close(found, expected, rtol=0.02, atol=0.02)
