# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The transformer equals the released one, is differentiable, and its cache does what the method says."""

from __future__ import annotations

import pytest
import torch

from inspatio_ros.config import TransformerConfig
from inspatio_ros.star.cache import Cache, StaticCache
from inspatio_ros.star.transformer import DiffusionTransformer, axis_dims, rotary_angles
from inspatio_ros.verify import verify_file

CONFIG = TransformerConfig(text_len=5, in_dim=36, dim=24, ffn_dim=16, freq_dim=8, text_dim=6, num_heads=2, num_layers=2)
HEIGHT, WIDTH, FRAMES = 4, 6, 2
BLOCK_TOKENS = FRAMES * HEIGHT * WIDTH // 4


def make_net(dtype=torch.float32, seed=0):
    torch.manual_seed(seed)
    net = DiffusionTransformer(CONFIG).to(dtype)
    # The head starts at zero, which would hide everything behind it.
    torch.nn.init.normal_(net.head.head.weight, std=0.2)
    return net


def run(net, cache, context, x, text):
    """Run a context pass and a denoising pass; gives the flow."""
    text = net.text_constants(text)
    timestep = torch.zeros(1)
    if context is not None:
        net.context_pass(context, text, net.modulation(timestep), net.rotary(context.shape[1], HEIGHT, WIDTH, 0), cache)
    return net(x, text, net.modulation(timestep + 625.), net.rotary(FRAMES, HEIGHT, WIDTH, 2 * FRAMES), cache)


def inputs(batch=1, dtype=torch.float32, context_frames=2 * FRAMES, seed=1):
    generator = torch.Generator().manual_seed(seed)
    def draw(*shape):
        return torch.randn(shape, generator=generator).to(dtype)
    return (draw(batch, context_frames, 36, HEIGHT, WIDTH), draw(batch, FRAMES, 36, HEIGHT, WIDTH),
            draw(batch, 3, CONFIG.text_dim))


def test_equals_the_released_transformer(shared):
    result = verify_file(shared / 'golden' / 'dit_tiny.safetensors')
    assert [item for item in result.items if not item.passed] == []
    names = {item.name for item in result.items}
    assert {'a.flow', 'b.flow', 'c_ctx.flow', 'c.flow', 'd.flow', 'c_ctx.kv_after.1.v', 'rope_freqs.imag',
            'sinusoidal_embedding'} <= names
    for tag in ('a', 'b', 'c_ctx', 'c', 'd'):
        for part in ('time_embedding', 'time_projection', 'text_embedding', 'patch_embedding', 'head', 'block0',
                     'block1', 'block0.self_attn', 'block0.cross_attn', 'block0.ffn'):
            assert f'{tag}.act.{part}' in names


def test_loses_no_more_in_bfloat16_than_the_released_transformer(shared):
    result = verify_file(shared / 'golden' / 'dit_tiny.safetensors', dtype='bfloat16')
    assert [item for item in result.items if not item.passed] == []
    assert len(result.items) == 10


def test_the_released_size_has_the_released_names_and_shapes(shared):
    result = verify_file(shared / 'golden' / 'state_dict_1_3b.json')
    assert result.passed, result.worst


@pytest.mark.parametrize('context_frames', [FRAMES, 2 * FRAMES])
def test_static_cache_equals_growing_cache(context_frames):
    net = make_net()
    context, x, text = inputs(context_frames=context_frames)
    with torch.inference_mode():
        grown = run(net, Cache(2), context, x, text)
        static = run(net, StaticCache(CONFIG, 1, BLOCK_TOKENS), context, x, text)
    torch.testing.assert_close(static, grown, rtol=0, atol=1e-6)


def test_denoising_leaves_the_cache_as_it_is():
    net = make_net()
    context, x, text = inputs(context_frames=FRAMES)
    cache = StaticCache(CONFIG, 1, BLOCK_TOKENS)
    with torch.inference_mode():
        first = run(net, cache, context, x, text)
        before = [part.clone() for layer in range(2) for part in cache.remembered(layer)]
        again = run(net, cache, None, x, text)
    assert torch.equal(first, again)
    after = [part for layer in range(2) for part in cache.remembered(layer)]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_context_pass_overwrites_everything_remembered():
    net = make_net()
    cache = StaticCache(CONFIG, 1, BLOCK_TOKENS)
    context, x, text = inputs()
    short, _, _ = inputs(context_frames=FRAMES, seed=7)
    with torch.inference_mode():
        run(net, cache, context, x, text)
        used = run(net, cache, short, x, text)
        fresh = run(net, StaticCache(CONFIG, 1, BLOCK_TOKENS), short, x, text)
    assert cache.length == BLOCK_TOKENS
    assert torch.equal(used, fresh)


def test_reset_forgets():
    net = make_net()
    context, x, text = inputs()
    with torch.inference_mode():
        alone = run(net, None, None, x, text)
        for cache in (Cache(2), StaticCache(CONFIG, 1, BLOCK_TOKENS)):
            assert not torch.allclose(run(net, cache, context, x, text), alone, atol=1e-3)
            cache.reset()
            assert torch.allclose(run(net, cache, None, x, text), alone, atol=1e-6)
            cache.reset()
            with pytest.raises(IndexError, match='remembers nothing'):
                cache.remembered(0)


def test_samples_of_a_batch_do_not_see_each_other():
    net = make_net()
    context, x, text = inputs(batch=3)
    with torch.inference_mode():
        together = run(net, Cache(2), context, x, text)
        for i in range(3):
            alone = run(net, Cache(2), context[i:i + 1], x[i:i + 1], text[i:i + 1])
            torch.testing.assert_close(together[i:i + 1], alone, rtol=0, atol=1e-5)


def test_fused_projections_give_the_same():
    context, x, text = inputs()
    with torch.inference_mode():
        apart = run(make_net(), Cache(2), context, x, text)
        net = make_net().fuse().fuse()
        together = run(net, Cache(2), context, x, text)
    assert not any('self_attn.q.' in name for name in net.state_dict())
    torch.testing.assert_close(together, apart, rtol=0, atol=1e-5)


def test_missing_text_rows_are_zero_rows():
    net = make_net()
    context, x, text = inputs()
    padded = torch.cat([text, torch.zeros(1, 2, CONFIG.text_dim)], dim=1)
    with torch.inference_mode():
        assert torch.equal(run(net, Cache(2), context, x, text), run(net, Cache(2), context, x, padded))
    with pytest.raises(ValueError, match=r'\[B, <= 5, 6\], got \(1, 9, 6\)'):
        net.text_constants(torch.zeros(1, 9, 6))


@pytest.mark.parametrize('head_dim, split', [(128, (44, 42, 42)), (32, (12, 10, 10)), (64, (24, 20, 20))])
def test_rotary_axes_share_the_head(head_dim, split):
    assert axis_dims(head_dim) == split


def test_rotary_shifts_do_not_change_what_is_attended_to():
    """Only distances count: queries and keys shifted together give the same products."""
    generator = torch.Generator().manual_seed(0)
    q, k = torch.randn(2, 12, generator=generator, dtype=torch.float64)
    def product(i, j):
        turned = []
        for vector, position in ((q, i), (k, j)):
            angle = rotary_angles(torch.tensor([position]), 12, 10000.)[0]
            turned.append(torch.view_as_complex(vector.view(-1, 2)) * torch.polar(torch.ones_like(angle), angle))
        return (turned[0] * turned[1].conj()).real.sum()
    torch.testing.assert_close(product(2, 5), product(10, 13))
    assert abs(product(2, 5) - product(2, 6)) > 1e-3


def test_tokens_placed_on_the_grid_have_the_tables_of_the_grid():
    net = make_net()
    rows, cols = 4, 6
    grid = torch.stack(torch.meshgrid(torch.arange(rows), torch.arange(cols), indexing='ij'), dim=-1)
    placed = net.rotary_at(grid.expand(2, 3, rows, cols, 2).float(), 5)
    _, ph, pw = net.config.patch_size
    for found, wanted in zip(placed, net.rotary(3, rows * ph, cols * pw, 5), strict=True):
        torch.testing.assert_close(found, wanted.expand_as(found))


def test_gradients_are_those_of_finite_differences():
    """Through everything: weights, the caption, the block, and the context that only the cache carries over."""
    net = make_net(torch.float64)
    leaves = [*inputs(dtype=torch.float64), *net.parameters()]
    for leaf in leaves:
        leaf.requires_grad_(True)
    generator = torch.Generator().manual_seed(2)
    weight = torch.randn(1, FRAMES, 16, HEIGHT, WIDTH, generator=generator, dtype=torch.float64)

    def loss():
        return (run(net, Cache(2), *leaves[:3]) * weight).sum()

    gradients = torch.autograd.grad(loss(), leaves, allow_unused=True)
    step = 1e-6
    for index, (leaf, gradient) in enumerate(zip(leaves, gradients, strict=True)):
        assert gradient is not None, index
        direction = torch.randn(leaf.shape, generator=generator, dtype=torch.float64)
        with torch.no_grad():
            leaf.add_(direction, alpha=step)
            above = loss()
            leaf.sub_(direction, alpha=2 * step)
            below = loss()
            leaf.add_(direction, alpha=step)
        expected = (above - below) / (2 * step)
        torch.testing.assert_close((gradient * direction).sum(), expected, rtol=1e-5, atol=1e-6)


def test_new_weights_predict_zero():
    torch.manual_seed(0)
    net = DiffusionTransformer(CONFIG)
    context, x, text = inputs()
    with torch.inference_mode():
        assert not run(net, Cache(2), context, x, text).any()
