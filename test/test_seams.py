# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Seams between tokens are evened out where the picture is made up, and nowhere else."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from test_training import TINY as TRAINED

from inspatio_ros.errors import ConfigurationError
from inspatio_ros.star.pipeline import StarPipeline
from inspatio_ros.star.presets import TINY_GUIDED
from inspatio_ros.star.seams import smooth_seams
from inspatio_ros.training.networks import Networks
from inspatio_ros.training.self_forcing import Conditions

HOLE, KNOWN = -torch.ones(1, 1, 4, 4, 6), torch.ones(1, 1, 4, 4, 6)
SMALL = replace(TINY_GUIDED, width=96, height=64)


def test_a_step_between_tokens_is_made_a_ramp_and_nothing_else_moves():
    columns = torch.tensor([0., 1., 5., 4., 4., 4.])
    latent = columns.expand(1, 1, 2, 4, 6)
    smooth = smooth_seams(latent, HOLE, (2, 2), 0.25)
    # A step of 4 between the cells of columns 1 and 2, none between 3 and 4; within a token nothing is a seam.
    torch.testing.assert_close(smooth, torch.tensor([0., 2., 4., 4., 4., 4.]).expand_as(latent))
    torch.testing.assert_close(smooth_seams(latent.mT, HOLE.mT, (2, 2), 0.25), smooth.mT)
    torch.testing.assert_close(smooth_seams(latent, HOLE, (2, 2), 0.5)[..., 1:3], torch.full((1, 1, 2, 4, 2), 3.))


def test_the_mean_is_kept_and_known_cells_stay():
    torch.manual_seed(0)
    latent = torch.randn(2, 3, 16, 4, 6)
    mask = HOLE.repeat(2, 3, 1, 1, 1)
    torch.testing.assert_close(smooth_seams(latent, mask, (2, 2), 0.3).mean(dim=(-1, -2)), latent.mean(dim=(-1, -2)))
    mask[..., :3] = 1
    # In between a cell moves as far as it is made up.
    mask[:, :, :2, :, 4] = 1
    part, whole = (smooth_seams(latent, kind, (2, 2), 0.3) - latent for kind in (mask, HOLE.repeat(2, 3, 1, 1, 1)))
    assert not part[..., :3].any()
    torch.testing.assert_close(part[..., 4], whole[..., 4] / 2)
    torch.testing.assert_close(part[..., 3], whole[..., 3])
    assert smooth_seams(latent, mask, (2, 2), 0.) is latent


def test_a_block_comes_out_smoothed_and_is_remembered_so():
    smooth, plain = (StarPipeline.random(replace(SMALL, smooth_seams=share)).blocks for share in (0.25, 0.))
    torch.manual_seed(1)
    latents, mask = torch.randn(2, 1, *smooth.latent_shape), torch.full((1, 3, 4, *smooth.latent_shape[2:]), -1.)
    mask[..., :3] = 1
    made = []
    for blocks in (smooth, plain):
        state = blocks.init(1, torch.Generator().manual_seed(0))
        made.append((blocks.step(state, latents[0], latents[1], mask), state.previous))
    (found, remembered), (raw, _) = made
    torch.testing.assert_close(found, smooth_seams(raw, mask, (2, 2), 0.25))
    assert not torch.equal(found, raw) and torch.equal(remembered, found)


def test_a_share_that_would_swap_cells_is_refused():
    with pytest.raises(ConfigurationError, match='smooth_seams is 0.6'):
        replace(TINY_GUIDED, smooth_seams=0.6)


@torch.no_grad()
def test_training_rolls_out_what_the_simulator_shows():
    networks = Networks(replace(TRAINED, smooth_seams=0.25))
    generator, blocks = torch.Generator().manual_seed(2), 2
    shape = (1, blocks * networks.frames, 16, networks.config.latent_height, networks.config.latent_width)
    reference, render = (torch.randn(shape, generator=generator) for _ in range(2))
    mask = torch.randn(shape, generator=generator)[:, :, :4].sign()
    conditions, noise = Conditions(reference, render, mask), networks.draw_noise(1, generator)
    last = noise.shape[1] - 1
    rolled_out = networks.roll_out(conditions, noise, last)
    state, made = networks.blocks.init(1, generator), []
    for index in range(blocks):
        part = conditions.block(index, networks.frames)
        made.append(networks.blocks.step(state, part.reference, part.render, part.mask, noise[index]))
    torch.testing.assert_close(rolled_out, torch.cat(made, dim=1), rtol=1e-4, atol=1e-5)
    # Passes before the last one are of the sampler alone.
    networks.config = networks.blocks.config = replace(TRAINED, smooth_seams=0.)
    assert torch.equal(networks.roll_out(conditions, noise, 0), _with_seams(conditions, noise))
    assert not torch.equal(networks.roll_out(conditions, noise, last), rolled_out)


def _with_seams(conditions, noise):
    networks = Networks(replace(TRAINED, smooth_seams=0.25))
    return networks.roll_out(conditions, noise, 0)
