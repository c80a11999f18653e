# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The decoder's adversary: it learns to tell, the decoder learns texture from it, and latents stay what they are."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from test_training import LOSS, TINY, make_clip

from inspatio_ros.training.data import ClipFolder, save_clip, unit
from inspatio_ros.training.distributed import ScaledTrainer
from inspatio_ros.training.networks import Networks
from inspatio_ros.training.sharpen import Discriminator, SharpenStage, gradient_energy
from inspatio_ros.training.trainer import TrainerConfig

SETTINGS = TrainerConfig(steps=80, batch_size=4, learning_rate=3e-3, warmup_steps=1, save_every=1000)


@pytest.fixture(scope='module')
def clips(tmp_path_factory):
    """Clips with a grain that no latent can hold."""
    folder = tmp_path_factory.mktemp('clips')
    for seed in range(4):
        clip = make_clip(seed)
        grain = torch.randint(-40, 40, clip.truth.shape, generator=torch.Generator().manual_seed(seed))
        truth = (clip.truth.int() + grain).clamp(0, 255).to(torch.uint8)
        save_clip(folder / f'clip_{seed:07d}.safetensors', replace(clip, truth=truth), {})
    return ClipFolder(folder)


def test_gradient_energy_is_the_sum_of_squared_differences():
    image = torch.tensor([[0., 1., 3.], [2., 1., 0.]])
    assert gradient_energy(image) == (1 + 4 + 1 + 1) + (4 + 0 + 9)


def test_the_discriminator_sees_whole_windows_of_frames():
    net = Discriminator().eval()
    clip = torch.rand(2, 8, 3, 32, 32)
    scores = net(clip)
    assert scores.shape == (4, 1, 4, 4)
    changed = clip.clone()
    changed[:, 6:] = 0
    assert torch.equal(net(changed), scores), 'the two frames that fill no window are left out'
    changed[0, 4] = 0
    assert [torch.equal(*pair) for pair in zip(net(changed), scores, strict=True)] == [True, False, True, True]


def test_the_decoder_learns_texture_and_the_encoder_stays(clips, tmp_path):
    torch.manual_seed(0)
    networks = Networks(TINY)
    made = {}
    truth = unit(next(clips.batches(1)).truth)
    before = networks.autoencoder.encode(truth)
    for sharpness in (0., 2.):
        torch.manual_seed(0)
        networks = Networks(TINY)
        stage = SharpenStage(networks, clips, clips, replace(LOSS, sharpness=sharpness))
        trainer = ScaledTrainer(stage, SETTINGS, tmp_path / str(sharpness))
        figures = [trainer.take_step()[1] for _ in range(SETTINGS.steps)]
        made[sharpness] = stage.validate()
        torch.testing.assert_close(networks.autoencoder.encode(truth), before, rtol=0, atol=0)
    assert made[2.]['sharp'] > 2 * made[0.]['sharp'], made
    assert figures[0]['weight'] == 0 and figures[-1]['weight'] > 0


def test_a_run_that_was_cut_off_keeps_its_discriminator(clips, tmp_path):
    def trainer():
        torch.manual_seed(0)
        return ScaledTrainer(SharpenStage(Networks(TINY), clips, clips, LOSS), SETTINGS, tmp_path)

    first = trainer()
    for _ in range(2):
        first.take_step()
    first.save()
    wanted = first.take_step()[1]
    again = trainer()
    again.resume()
    assert again.step == 2 and again.take_step()[1] == pytest.approx(wanted, rel=1e-4)
