# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The block loop equals the released one and remembers exactly what the method says, however long it runs."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from test_training import TINY as TRAINED
from torch._dynamo.testing import CompileCounter
from torch.utils.flop_counter import FlopCounterMode

from inspatio_ros.errors import ConfigurationError
from inspatio_ros.spatial.positions import BlockPositions
from inspatio_ros.star.cache import Cache
from inspatio_ros.star.generator import BlockGenerator
from inspatio_ros.star.presets import RELEASED, TINY
from inspatio_ros.star.scheduler import FlowScheduler
from inspatio_ros.star.transformer import DiffusionTransformer
from inspatio_ros.training.networks import Networks
from inspatio_ros.verify import verify_file

CONFIG = replace(TINY, width=48, height=32)


def make_generator(config=CONFIG, zero_head=False):
    torch.manual_seed(0)
    net = DiffusionTransformer(config.transformer)
    if not zero_head:
        torch.nn.init.normal_(net.head.head.weight, std=0.1)
    text = torch.randn(1, 3, config.transformer.text_dim)
    return BlockGenerator(config, net.eval().requires_grad_(False), FlowScheduler(config.scheduler), text)


def latents(seed, batch=1):
    """Give a block's reference, render and mask latents."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(batch, 3, channels, 4, 6, generator=generator) for channels in (16, 16, 4)]


def noise(seed, batch=1):
    return torch.randn(4, batch, 3, 16, 4, 6, generator=torch.Generator().manual_seed(seed))


def start(generator, seed=0, batch=1):
    return generator.init(batch, torch.Generator().manual_seed(seed))


def test_equals_the_released_block_loop(shared):
    result = verify_file(shared / 'golden' / 'block_loop_tiny.safetensors')
    assert [item for item in result.items if not item.passed] == []
    names = {item.name for item in result.items}
    assert {'final_latent', 'final_kv.0.k', 'final_kv.1.v', 'block0.step0.flow', 'block2.step3.input'} <= names
    assert len(result.items) == 33


def test_loses_no_more_in_bfloat16_than_the_released_block_loop(shared):
    result = verify_file(shared / 'golden' / 'block_loop_tiny.safetensors', dtype='bfloat16')
    assert [item for item in result.items if not item.passed] == []


def test_nothing_older_than_one_block_survives():
    generator = make_generator()
    long, short = start(generator), start(generator)
    for block in range(3):
        last = generator.step(long, *latents(block), noise=noise(block))
    short.previous = last
    expected = generator.step(long, *latents(9), noise=noise(9))
    assert torch.equal(generator.step(short, *latents(9), noise=noise(9)), expected)


def test_the_previous_block_is_remembered():
    generator = make_generator()
    state = start(generator)
    generator.step(state, *latents(0), noise=noise(0))
    changed = start(generator)
    changed.previous = state.previous + 1.
    following = [generator.step(s, *latents(1), noise=noise(1)) for s in (state, changed)]
    assert (following[0] - following[1]).abs().max() > 1e-3


def test_old_geometry_does_not_leak():
    """What was rendered for the block before counts only through the latents that came of it."""
    generator = make_generator()
    one, other = start(generator), start(generator)
    reference, render, mask = latents(0)
    first = generator.step(one, reference, render, mask, noise=noise(0))
    second = generator.step(other, reference, -render, -mask, noise=noise(0))
    assert (first - second).abs().max() > 1e-3
    other.previous = first.clone()
    following = [generator.step(state, *latents(1), noise=noise(1)) for state in (one, other)]
    assert torch.equal(*following)


@pytest.mark.parametrize('index', [0, 1, 2], ids=['reference', 'render', 'mask'])
def test_every_condition_counts(index):
    generator = make_generator()
    given, changed = latents(0), latents(0)
    changed[index] = changed[index] + 1.
    one, other = (generator.step(start(generator), *part, noise=noise(0)) for part in (given, changed))
    assert (one - other).abs().max() > 1e-3


def test_a_seed_gives_the_same_blocks():
    generator = make_generator()
    def run(seed):
        state = start(generator, seed)
        return torch.cat([generator.step(state, *latents(block)) for block in range(2)])
    assert torch.equal(run(3), run(3))
    assert not torch.allclose(run(3), run(4), atol=1e-2)


def test_noise_is_scaled_where_it_is_drawn_and_left_alone_where_it_is_given():
    whole, half = make_generator(), make_generator(replace(CONFIG, noise_scale=0.5))
    drawn = [generator.draw_noise(start(generator)) for generator in (whole, half)]
    torch.testing.assert_close(drawn[1], 0.5 * drawn[0])
    assert float(drawn[0].std()) == pytest.approx(1., abs=0.05)
    given = [generator.step(start(generator), *latents(0), noise=noise(0)) for generator in (whole, half)]
    assert torch.equal(*given)
    networks = [Networks(replace(TRAINED, noise_scale=scale)) for scale in (1., 0.5)]
    rolled = [nets.draw_noise(2, torch.Generator().manual_seed(0)) for nets in networks]
    torch.testing.assert_close(rolled[1], 0.5 * rolled[0])
    with pytest.raises(ConfigurationError, match='noise_scale is 1.5; it is a standard deviation from 0 to 1'):
        replace(CONFIG, noise_scale=1.5)


def test_samples_of_a_batch_do_not_see_each_other():
    generator = make_generator()
    together, alone = start(generator, batch=2), [start(generator), start(generator)]
    for block in range(2):
        parts, drawn = latents(block, batch=2), noise(block, batch=2)
        out = generator.step(together, *parts, noise=drawn)
        for i, state in enumerate(alone):
            single = generator.step(state, *(part[i:i + 1] for part in parts), noise=drawn[:, i:i + 1])
            torch.testing.assert_close(out[i:i + 1], single, rtol=0, atol=1e-5)


def test_what_the_caller_does_to_a_block_is_not_remembered():
    generator = make_generator()
    kept, touched = start(generator), start(generator)
    generator.step(kept, *latents(0), noise=noise(0))
    with torch.inference_mode():
        generator.step(touched, *latents(0), noise=noise(0)).zero_()
    assert torch.equal(*(generator.step(state, *latents(1), noise=noise(1)) for state in (kept, touched)))


def test_residual_prediction_starts_at_the_render():
    generator = make_generator(replace(CONFIG, prediction='residual'), zero_head=True)
    reference, render, mask = latents(0)
    assert torch.equal(generator.step(start(generator), reference, render, mask), render)


@pytest.mark.parametrize('prediction', ['flow', 'residual'])
def test_training_path_equals_inference_and_carries_gradients(prediction):
    """`remember` and `predict` with the growing cache: the same numbers, and gradients to context and weights."""
    generator = make_generator(replace(CONFIG, prediction=prediction))
    state = start(generator)
    for block in range(2):
        previous = state.previous
        expected = generator.step(state, *latents(block), noise=noise(block))
    reference, render, mask = latents(1)
    reference.requires_grad_(True)
    generator.transformer.requires_grad_(True)
    constants = generator.constants(generator.text_embedding)
    found = generator.generate(constants, Cache(2), reference, previous.clone(), render, mask, noise(1))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    found.square().mean().backward()
    assert reference.grad.abs().max() > 0
    assert all(p.grad is not None for p in generator.transformer.parameters())


def test_a_latent_of_another_shape_is_named():
    generator = make_generator()
    reference, render, mask = latents(0)
    with pytest.raises(ValueError, match=r'render_latent must be \(1, 3, 16, 4, 6\), got \(1, 2, 16, 4, 6\)'):
        generator.step(start(generator), reference, render[:, :2], mask)


def positions(seed, first):
    """Draw where tokens lie, near the grid."""
    generator = torch.Generator().manual_seed(seed)
    drawn = [3 * torch.rand(1, 3, 2, 3, 2, generator=generator) for _ in range(3)]
    return BlockPositions(drawn[0], None if first else drawn[1], drawn[2])


def test_where_the_remembered_lies_matters_and_shifting_everything_does_not():
    generator = make_generator()
    placed = positions(0, True)
    far = replace(placed, reference=placed.reference + 2.)
    shifted = BlockPositions(placed.reference + 1., None, placed.block + 1.)
    made = [generator.step(start(generator), *latents(0), noise(0), where) for where in (placed, far, shifted)]
    assert (made[1] - made[0]).abs().max() > 1e-3
    torch.testing.assert_close(made[2], made[0], rtol=0, atol=1e-4)


@pytest.mark.parametrize('placed', [False, True])
def test_the_passes_are_graphs_without_breaks_with_two_variants_each(placed):
    torch._dynamo.reset()
    plain, compiled = make_generator(), make_generator()
    counter = CompileCounter()
    compiled.compile(backend=counter)
    states = start(plain), start(compiled)
    for block in range(5):
        where = positions(block, block == 0) if placed else None
        expected, found = (g.step(s, *latents(block), noise=noise(block), positions=where)
                           for g, s in zip((plain, compiled), states, strict=True))
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    # fullgraph=True fails at a break; context and denoising pass are compiled for the first block and for later ones.
    assert counter.frame_count == 4
    torch._dynamo.reset()


def count_blocks(layers):
    """Count the TFLOP of the first and of a later block of the released size with fewer layers, on the meta device."""
    config = replace(RELEASED, transformer=replace(RELEASED.transformer, num_layers=layers))
    with torch.device('meta'):
        net = DiffusionTransformer(config.transformer)
        text = torch.zeros(1, config.transformer.text_len, config.transformer.text_dim)
    generator = BlockGenerator(config, net, FlowScheduler(), text)
    state = generator.init(1, torch.Generator())
    given = [torch.zeros(1, 3, channels, 60, 104, device='meta') for channels in (16, 16, 4)]
    for _ in range(2):
        with FlopCounterMode(display=False) as counter:
            generator.step(state, *given)
        yield counter.get_total_flops() / 1e12


def test_counts_of_the_released_size():
    """A block of the released size: 137 TFLOP as published, less what the shortened context pass saves."""
    # Layers are alike, so two counts give all thirty.
    layers = RELEASED.transformer.num_layers
    first, later = (two + (layers - 2) * (three - two)
                    for two, three in zip(count_blocks(2), count_blocks(3), strict=True))
    dim, ffn, tokens, text_len = 1536, 8960, 9360, 512
    # The last layer's queries, both attentions, their outputs and the feed-forward; the head.
    saved = 2 * tokens * (dim * (4 * dim + 2 * ffn) + 2 * dim * (tokens + text_len) + dim * 64) / 1e12
    assert later == pytest.approx(137 - saved, rel=0.02)
    assert first == pytest.approx(96.6, rel=0.01)
