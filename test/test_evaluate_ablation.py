# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Ablations: what is taken away has no effect any more, and nothing else changes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from inspatio_ros.errors import ConfigurationError
from inspatio_ros.evaluation.ablation import ABLATIONS, AblatedBlocks, ablate, taken_away
from inspatio_ros.evaluation.candidates import Observed, observe
from inspatio_ros.generators import RenderGenerator
from inspatio_ros.geometry import PinholeCamera
from inspatio_ros.spatial.render import Condition
from inspatio_ros.star.attention import attention
from inspatio_ros.star.generator import BlockGenerator
from inspatio_ros.star.pipeline import StarPipeline
from inspatio_ros.star.presets import TINY_GUIDED

WIDTH, HEIGHT = 48, 32
CONFIG = replace(TINY_GUIDED, width=WIDTH, height=HEIGHT)
BLOCKS = 3


@pytest.fixture(scope='module')
def pipeline() -> StarPipeline:
    return StarPipeline.random(CONFIG)


def latents(blocks: BlockGenerator, changed: str = '') -> list[torch.Tensor]:
    """Generate three blocks from random latents; `changed` names what is drawn anew ('reference' or 'render')."""
    state = blocks.init(1, torch.Generator().manual_seed(0))
    frames, channels, h, w = blocks.latent_shape
    made = []
    for block in range(BLOCKS):
        def draw(what: str, width: int, block: int = block) -> torch.Tensor:
            seed = 10 * block + {'reference': 1, 'render': 2, 'mask': 3}[what] + (1000 if what == changed else 0)
            return torch.randn(1, frames, width, h, w, generator=torch.Generator().manual_seed(seed))
        made.append(blocks.step(state, draw('reference', channels), draw('render', channels), draw('mask', 4)))
    return made


def given_history(blocks: BlockGenerator, history: torch.Tensor) -> torch.Tensor:
    """Generate a block after a given one."""
    state = blocks.init(1, torch.Generator().manual_seed(0))
    state.previous = history
    frames, channels, h, w = blocks.latent_shape
    fixed = torch.Generator().manual_seed(5)
    parts = [torch.randn(1, frames, width, h, w, generator=fixed) for width in (channels, channels, 4)]
    return blocks.step(state, *parts)


@pytest.mark.parametrize('ablation', ABLATIONS)
def test_the_reference_matters_unless_it_is_taken_away(pipeline, ablation):
    blocks = AblatedBlocks(pipeline.blocks, taken_away(ablation))
    changes = [float((a - b).abs().max()) for a, b in zip(latents(blocks), latents(blocks, 'reference'), strict=True)]
    if 'reference' in taken_away(ablation):
        assert changes == [0.] * BLOCKS
    else:
        assert min(changes) > 1e-3


@pytest.mark.parametrize('ablation', ABLATIONS)
def test_the_block_before_matters_unless_it_is_taken_away(pipeline, ablation):
    blocks = AblatedBlocks(pipeline.blocks, taken_away(ablation))
    shape = (1, *blocks.latent_shape)
    change = float((given_history(blocks, torch.zeros(shape)) - given_history(blocks, torch.ones(shape))).abs().max())
    assert change == 0. if 'history' in taken_away(ablation) else change > 1e-3


def test_with_nothing_taken_away_nothing_changes(pipeline):
    for whole, same in zip(latents(pipeline.blocks), latents(AblatedBlocks(pipeline.blocks, set())), strict=True):
        torch.testing.assert_close(same, whole, rtol=0., atol=0.)


def test_history_alone_keeps_its_place_in_time(pipeline):
    """Without the reference, the block before is remembered at the positions that follow it, not in its place."""
    net, config = pipeline.transformer, pipeline.config
    blocks = AblatedBlocks(pipeline.blocks, {'reference'})
    state = blocks.init(1, torch.Generator().manual_seed(0))
    history = torch.randn(1, *blocks.latent_shape)
    with torch.inference_mode():
        blocks.remember(state.constants, state.cache, torch.randn_like(history), history)
        keys = state.cache.remembered(0)[0].clone()
        wanted = net.rotary(config.latent_frames_per_block, config.latent_height, config.latent_width,
                            config.latent_frames_per_block)
        x = torch.nn.functional.pad(history, (0, 0, 0, 0, 0, config.transformer.condition_dim))
        net.context_pass(x, state.constants.text, state.constants.context_modulation, wanted, state.cache)
    assert keys.shape[1] == config.tokens_per_block
    torch.testing.assert_close(keys, state.cache.remembered(0)[0])


def test_an_ablated_pipeline_shares_the_networks_and_runs(pipeline):
    twin = ablate(pipeline, 'no_cache')
    assert twin.transformer is pipeline.transformer and twin.autoencoder is pipeline.autoencoder
    condition, stills = some_condition(9), torch.zeros(3, 3, HEIGHT, WIDTH)
    pipeline.reset(0)
    whole, ablated = (pipe.step(condition, stills, (0, 1, 2))[0] for pipe in (pipeline, twin))
    assert float((whole - ablated).abs().max()) > 1e-4


def test_an_ablated_pipeline_leaves_the_attention_kernel_that_was_chosen():
    pipeline, chosen = StarPipeline.random(CONFIG), attention('flash')
    pipeline.transformer.attend_by(chosen)
    ablate(pipeline, 'no_cache')
    assert all(block.self_attn.attend is chosen for block in pipeline.transformer.blocks)


def some_condition(frames: int) -> Condition:
    generator = torch.Generator().manual_seed(frames)
    mask = (torch.rand(frames, 1, HEIGHT, WIDTH, generator=generator) > 0.3).float()
    image = torch.where(mask > 0, torch.rand(frames, 3, HEIGHT, WIDTH, generator=generator) * 2 - 1, -1.)
    return Condition(image, mask, torch.where(mask[:, 0] > 0, 2., torch.nan))


def test_without_the_render_the_generator_sees_only_holes(pipeline):
    blind = observe(pipeline, ('no_render',))[f'{pipeline.name} no_render']
    stills, images = torch.zeros(3, 3, HEIGHT, WIDTH), []
    for seed in (9, 10):
        blind.reset(0)
        condition = some_condition(9) if seed == 9 else Condition(*(-part for part in vars(some_condition(9)).values()))
        images.append(blind.step(condition, stills, (0, 1, 2))[0])
        assert blind.condition is condition
    torch.testing.assert_close(images[0], images[1], rtol=0., atol=0.)


def test_observing_changes_nothing(pipeline):
    seen = Observed(pipeline)
    condition, stills = some_condition(9), torch.zeros(3, 3, HEIGHT, WIDTH)
    pipeline.reset(3)
    alone = pipeline.step(condition, stills, (0, 1, 2))[0]
    seen.reset(3)
    torch.testing.assert_close(seen.step(condition, stills, (0, 1, 2))[0], alone, rtol=0., atol=0.)
    assert seen.frames_in_next_block() == 12


def test_unknown_ablations_and_those_of_a_generator_without_a_cache_are_refused(pipeline):
    with pytest.raises(ConfigurationError, match='no_reference, no_history'):
        taken_away('magic')
    render = RenderGenerator(PinholeCamera(40., 40., 23.5, 15.5, WIDTH, HEIGHT))
    with pytest.raises(ConfigurationError, match='for nano and 1.3b'):
        observe(render, ('no_history',))
