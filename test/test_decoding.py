# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The decoder goes on learning from what the student makes: nothing else changes, and it gets nearer to the truth."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from test_training import LOSS, TINY, make_clip

from inspatio_ros.training.data import ClipFolder, crop, save_clip, unit
from inspatio_ros.training.decoding import FinishStage, gradient_energy
from inspatio_ros.training.networks import Networks
from inspatio_ros.training.trainer import Trainer, TrainerConfig

SETTINGS = TrainerConfig(steps=40, batch_size=2, learning_rate=2e-3, warmup_steps=1, save_every=1000)


@pytest.fixture
def clips(tmp_path):
    for seed in range(3):
        save_clip(tmp_path / 'clips' / f'clip_{seed:07d}.safetensors', make_clip(seed), {})
    return ClipFolder(tmp_path / 'clips')


def test_gradient_energy_is_the_sum_of_squared_differences_within_holes():
    image = torch.tensor([[0., 1., 3.], [2., 1., 0.]])
    assert gradient_energy(image, torch.zeros(2, 3)) == (1 + 4 + 1 + 1) + (4 + 0 + 9)
    known = torch.tensor([[0., 0., 1.], [0., 0., 0.]])
    assert gradient_energy(image, known) == (1 + 1 + 1) + (4 + 0)


def test_the_decoder_alone_learns_from_what_the_student_makes(clips, tmp_path):
    networks = Networks(replace(TINY, autoencoder=replace(TINY.autoencoder, mend_width=8)))
    # The truth is far from what an untrained student makes, and so is the decoder's picture of it.
    before = {part: {name: value.clone() for name, value in net.state_dict().items()}
              for part, net in networks.modules().items()}
    truth = unit(next(clips.batches(1)).truth)
    with torch.no_grad():
        latent = networks.autoencoder.encode(truth)
    stage = FinishStage(networks, clips, clips, replace(LOSS, rolled_out=3, own_latents=1.))
    trainer = Trainer(stage, SETTINGS, tmp_path / 'run')
    worse = stage.validate()
    losses = [trainer.take_step()[0] for _ in range(SETTINGS.steps)]
    better = stage.validate()
    assert better['holes'] > worse['holes'] + 1. and sum(losses[-5:]) < 0.8 * sum(losses[:5])
    moved = {name for name, value in networks.autoencoder.state_dict().items()
             if not torch.equal(value, before['autoencoder'][name])}
    assert moved and not any(name.startswith('mend') for name in moved), moved
    with torch.no_grad():
        assert torch.equal(networks.autoencoder.encode(truth), latent)
    assert all(torch.equal(value, before['transformer'][name])
               for name, value in networks.transformer.state_dict().items())


@pytest.mark.parametrize('method', ['black', 'nearest'])
def test_windows_are_guided_by_the_render_as_the_generator_fills_it(clips, method):
    networks = Networks(replace(TINY, condition_fill=method))
    stage = FinishStage(networks, clips, clips, replace(LOSS, rolled_out=1, own_latents=1.))
    stage.decoded(1, torch.Generator().manual_seed(0))
    drawn = stage._pool[0]
    whole, _ = networks.guide(drawn.clip)
    for seed in range(3):
        window = stage._window(drawn, torch.Generator().manual_seed(seed))
        _, rows, columns = crop(drawn.clip, *LOSS.crop, TINY.size_multiple, torch.Generator().manual_seed(seed))
        assert torch.equal(window['render'], whole[..., rows, columns])


def test_losses_count_by_what_the_filled_render_loses(clips, tmp_path):
    stage = FinishStage(Networks(TINY), clips, clips, replace(LOSS, rolled_out=1, own_latents=1.))
    windows = stage.decoded(2, torch.Generator().manual_seed(0))
    clip = stage._pool[0].clip
    filled = (clip.filled.float() - clip.truth.float()).div(255).square().mean()
    torch.testing.assert_close(windows.filled, filled.expand(2))
    loss, figures = stage.loss(2, torch.Generator().manual_seed(0))
    square = (windows.image.detach() - windows.truth).square().mean(dim=(1, 2, 3, 4))
    assert float(loss.detach()) == pytest.approx(float((square / (filled + 1e-4)).mean()), rel=1e-4)
    assert figures['psnr'] == pytest.approx(float(-10 * torch.log10(square.mean())), rel=1e-4)
