# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Samples that differ: the energy score is least where they do as the truth does, and a stage trains by it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from test_training import LOSS, TINY, make_clip

from inspatio_ros.training.data import ClipFolder, save_clip
from inspatio_ros.training.distributed import ScaledTrainer
from inspatio_ros.training.encoded import EncodedClips, EncodingConfig
from inspatio_ros.training.networks import Networks
from inspatio_ros.training.spread import energy_score
from inspatio_ros.training.stages import InitialisationStage, SpreadStage
from inspatio_ros.training.trainer import TrainerConfig

PATCH = (2, 2)
SETTINGS = TrainerConfig(steps=60, batch_size=4, learning_rate=3e-3, warmup_steps=5, save_every=1000,
                         precision='float32')


def score(samples, truth, mask=None, weights=None):
    mask = -torch.ones(len(truth), truth.shape[1], 4, *truth.shape[3:]) if mask is None else mask
    return energy_score(samples, truth, mask, torch.ones(truth.shape[2]) if weights is None else weights, PATCH)


def test_it_is_least_where_samples_are_distributed_as_the_truth_is():
    generator = torch.Generator().manual_seed(0)
    truth, *samples = (torch.randn(4000, 1, 1, 4, 4, generator=generator) for _ in range(3))
    found = {scale: float(score([scale * sample for sample in samples], truth)[0].mean())
             for scale in (0., 0.6, 1., 1.4)}
    assert min(found, key=found.get) == 1., found
    moved = float(score([sample + 0.5 for sample in samples], truth)[0].mean())
    assert moved > found[1.]


def test_it_counts_by_how_much_of_a_token_is_made_up_and_by_what_channels_weigh():
    generator = torch.Generator().manual_seed(0)
    truth, *samples = (torch.randn(1, 3, 2, 4, 6, generator=generator) for _ in range(3))
    mask = torch.ones(1, 3, 4, 4, 6)
    assert float(score(samples, truth, mask)[0]) == 0.
    mask[..., :2, :2] = -1
    alone = float(score(samples, truth, mask)[0])
    changed = [sample.clone() for sample in samples]
    changed[0][..., 2:] += 9.
    assert float(score(changed, truth, mask)[0]) == alone > 0
    first = [sample.clone() for sample in samples]
    first[0][:, :, 1] += 9.
    weights = torch.tensor([1., 0.])
    assert torch.equal(score(first, truth, mask, weights)[0], score(samples, truth, mask, weights)[0])


@pytest.mark.parametrize('same', [True, False])
def test_equal_samples_have_no_spread_and_a_gradient_that_is_finite(same):
    generator = torch.Generator().manual_seed(0)
    truth, first, second = (torch.randn(2, 3, 2, 4, 6, generator=generator) for _ in range(3))
    first.requires_grad_(True)
    value, spread = score([first, first.detach() if same else second], truth)
    value.sum().backward()
    assert first.grad.isfinite().all() and first.grad.any()
    assert float(spread) < 0.01 if same else 0.8 < float(spread) < 1.2


def train(stage, folder):
    """Train by a stage; gives how far samples of other noise lie apart, as a share of how far they are off."""
    trainer = ScaledTrainer(stage, SETTINGS, folder)
    for _ in range(SETTINGS.steps):
        trainer.take_step()
    networks, generator = stage.networks, torch.Generator().manual_seed(0)
    truth, conditions = networks.encode(stage.held_out.draw(1, generator))
    one, other = (networks.roll_out_whole(conditions, generator) for _ in range(2))
    return float((one - other).norm() / (one - truth).norm())


def test_samples_come_apart(tmp_path):
    for seed in range(4):
        save_clip(tmp_path / f'clip_{seed:07d}.safetensors', make_clip(seed), {})
    clips, found = ClipFolder(tmp_path), {}
    for kind in (InitialisationStage, SpreadStage):
        networks = Networks(TINY)
        encoded = EncodedClips(networks, clips, EncodingConfig(variants=2))
        stage = kind(networks, encoded, clips, replace(LOSS, spread=8.))
        found[kind.name] = train(stage, tmp_path / kind.name)
    assert found['spread'] > 2 * found['initialisation'], found


def test_a_clip_is_drawn_twice_and_its_samples_have_noise_of_their_own(tmp_path):
    save_clip(tmp_path / 'clip_0000000.safetensors', make_clip(0), {})
    clips, networks = ClipFolder(tmp_path), Networks(replace(TINY, positions='reprojected'))
    stage = SpreadStage(networks, EncodedClips(networks, clips, EncodingConfig()), clips, LOSS)
    truth, conditions = stage.draw(2, torch.Generator().manual_seed(0))
    for value in (truth, conditions.render, conditions.mask, conditions.reference, conditions.positions[1].previous):
        assert len(value) == 2 and torch.equal(value[0], value[1])
    torch.nn.init.normal_(networks.transformer.head.head.weight, std=0.3)
    loss, figures = stage.loss(2, torch.Generator().manual_seed(0))
    assert figures['spread'] > 0
    loss.backward()
    assert networks.transformer.head.head.weight.grad.any()
