# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Fused layers equal their plain twins; those in int8 are as near as 8 bits allow, up to the very border."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional

from inspatio_ros.config import AutoencoderConfig
from inspatio_ros.star import fused_layers, int8
from inspatio_ros.star.autoencoder import MemoryBlock, TinyAutoencoder
from inspatio_ros.star.fused_layers import DoublingConvolution, FusedGelu, FusedMemoryBlock, rotate_complex
from inspatio_ros.star.pipeline import StarPipeline
from inspatio_ros.star.presets import TINY, TINY_GUIDED
from inspatio_ros.star.speed import describe
from inspatio_ros.star.transformer import Rotary, rotate

needs_int8 = pytest.mark.skipif(not int8.supported(), reason='needs a CPU with AVX-512 VNNI')

#: Wide enough for every kind of layer to be worth int8.
WIDE = replace(TINY_GUIDED.autoencoder, encoder_widths=(32, 32, 32, 32), decoder_widths=(48, 32, 32, 32),
               guide_width=32, linear=True, mend_width=32)


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def autoencoder(config: AutoencoderConfig) -> TinyAutoencoder:
    """Make one whose every layer counts."""
    torch.manual_seed(0)
    made = TinyAutoencoder(config)
    for module in made.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, std=module.weight[0].numel()**-0.5)
    return made.eval().requires_grad_(False)


def run(model: TinyAutoencoder, batch: int) -> list[torch.Tensor]:
    """Encode and decode a clip in pieces of several lengths."""
    factor = model.config.temporal_factor
    state, back = model.encoder_state(), model.decoder_state()
    results, first = [], True
    for index, latents in enumerate((3, 1, 2)):
        frames = latents * factor - (factor - 1 if first else 0)
        clip = draw(batch, frames, 3, 32, 48, seed=index).sigmoid()
        guide = (clip.flip(1), (clip[:, :, :1] > 0.4).float()) if model.config.guided else None
        latent = model.encode_step(state, clip)
        results += [latent, model.decode_step(back, latent, guide)]
        first = False
    return results


@torch.inference_mode()
@pytest.mark.parametrize('config', [TINY.autoencoder, TINY_GUIDED.autoencoder, WIDE], ids=['plain', 'guided', 'wide'])
@pytest.mark.parametrize('batch', [1, 2])
def test_a_fused_autoencoder_gives_the_numbers_of_the_plain_one(config, batch):
    plain = autoencoder(config)
    fused = copy.deepcopy(plain).fuse()
    assert any(isinstance(layer, FusedMemoryBlock) for layer in fused.decoder)
    assert any(isinstance(layer, DoublingConvolution) for layer in fused.decoder)
    for expected, found in zip(run(plain, batch), run(fused, batch), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize('size', [(4, 6), (1, 1), (3, 2)])
def test_a_convolution_of_a_doubled_image_is_one_of_the_image(size):
    conv = nn.Conv2d(5, 7, 3, padding=1, bias=False).requires_grad_(False)
    x = draw(2, 5, *size)
    expected = conv(functional.interpolate(x, scale_factor=2))
    torch.testing.assert_close(DoublingConvolution(conv)(x), expected, rtol=0, atol=1e-5)


def test_rotation_and_activation_equal_their_twins():
    x, angle = draw(2, 10, 3, 16), draw(1, 10, 1, 8, seed=1)
    rotary = Rotary(angle.cos(), angle.sin())
    torch.testing.assert_close(rotate_complex(x, rotary), rotate(x, rotary), rtol=0, atol=1e-6)
    wide = torch.linspace(-30, 30, 10_001)
    torch.testing.assert_close(FusedGelu()(wide), functional.gelu(wide, approximate='tanh'), rtol=1e-5, atol=2e-6)


def test_pixels_are_folded_in_the_order_of_the_weights():
    image = draw(2, 3, 8, 6)
    assert torch.equal(fused_layers.unshuffle(image, 2), functional.pixel_unshuffle(image, 2))
    assert torch.equal(fused_layers.unshuffle(image, 1), image)


# --- int8 ------------------------------------------------------------------------------------------------------------


def assert_near(found: torch.Tensor, expected: torch.Tensor, error: float) -> None:
    """Compare everywhere and at the border alone, where padding must stand for zeros."""
    def relative(a, b):
        return float((a - b).norm() / b.norm())
    assert relative(found, expected) < error
    if found.ndim == 4:
        assert relative(found[..., 0, :], expected[..., 0, :]) < error
        assert relative(found[..., -1], expected[..., -1]) < error


@needs_int8
@torch.inference_mode()
@pytest.mark.parametrize('stride, padding, kernel', [(1, 1, 3), (2, 1, 3), (1, 1, 2)])
@pytest.mark.parametrize('positive', [True, False])
def test_a_convolution_in_int8_is_near_to_the_edge(stride, padding, kernel, positive):
    conv = nn.Conv2d(32, 48, kernel, stride, padding)
    x = (draw(2, 32, 12, 10) + 1.5).to(memory_format=torch.channels_last)
    x = x.relu() if positive else x
    rounded = int8.Int8Convolution(conv.weight, conv.bias, stride, padding, positive, relu=False)
    assert_near(rounded(x), conv(x), 0.02)
    assert_near(rounded(x[:, :20], x[:, 20:]), conv(x), 0.02)
    # The scale is that of each input.
    assert_near(rounded(100 * x), conv(100 * x), 0.02)
    with_relu = int8.Int8Convolution(conv.weight, conv.bias, stride, padding, positive, relu=True)
    torch.testing.assert_close(with_relu(x), rounded(x).relu())


@needs_int8
@torch.inference_mode()
@pytest.mark.parametrize('memory', [None, 3.], ids=['none', 'given'])
def test_a_memory_block_in_int8_sees_the_frame_before(memory):
    torch.manual_seed(0)
    block = MemoryBlock(32)
    x = draw(6, 32, 8, 10).relu().to(memory_format=torch.channels_last)
    before = None if memory is None else memory * draw(2, 32, 8, 10, seed=1).relu()
    expected, kept = block(x, 2, before)
    found, remembered = int8.Int8MemoryBlock(block, positive=True)(x, 2, before)
    assert_near(found, expected, 0.02)
    assert torch.equal(remembered, kept)


@needs_int8
@torch.inference_mode()
def test_a_matrix_in_int8_is_near_and_zeros_stay_finite():
    linear, x = nn.Linear(64, 96), draw(2, 30, 64)
    assert_near(int8.Int8Linear(linear)(x), linear(x), 0.02)
    assert_near(int8.Int8Linear(linear, gelu=True)(x), functional.gelu(linear(x), approximate='tanh'), 0.03)
    assert torch.equal(int8.Int8Linear(linear).rows(x, 32), int8.Int8Linear(linear)(x)[..., 32:])
    torch.testing.assert_close(int8.Int8Linear(linear)(x * 0), linear(x * 0))


@needs_int8
def test_fast_images_are_near_those_of_plain():
    """At a width where int8 is used, and over blocks that follow from each other."""
    from test_speed import blocks_of
    config = replace(TINY_GUIDED, width=48, height=32, autoencoder=WIDE)
    plain, fast = (StarPipeline.random(config, speed=name) for name in ('plain', 'fast'))
    if plain.transformer.dtype != fast.transformer.dtype or 'int8_layers' not in fast.speed_report:
        pytest.skip('this CPU has something faster than int8')
    assert fast.speed_report['int8_layers'] > 20 and 'layers in int8' in describe(fast.speed_report)
    for expected, found in zip(blocks_of(plain, 4), blocks_of(fast, 4), strict=True):
        error = float((found - expected).square().mean().sqrt())
        assert 1e-4 < error < 0.1, 'in [-1, 1], of weights that are drawn at random and amplify every error'
