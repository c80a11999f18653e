# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The decoder's adversary: it looks into holes alone, the decoder learns texture, and latents stay as they are."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from test_training import LOSS, TINY, make_clip

from inspatio_ros.training.data import ClipFolder, save_clip, unit
from inspatio_ros.training.distributed import ScaledTrainer
from inspatio_ros.training.networks import Networks
from inspatio_ros.training.sharpen import Discriminator, SharpenStage
from inspatio_ros.training.trainer import TrainerConfig

SETTINGS = TrainerConfig(steps=60, batch_size=2, learning_rate=3e-3, warmup_steps=1, save_every=1000)
SHARPEN = replace(LOSS, rolled_out=3)


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


def networks():
    torch.manual_seed(0)
    return Networks(TINY)


def test_the_discriminator_sees_whole_windows_of_frames_and_where_they_have_holes():
    net = Discriminator().eval()
    clip, mask = torch.rand(2, 8, 3, 32, 32), torch.ones(2, 8, 1, 32, 32)
    scores = net(clip, mask)
    assert scores.shape == (4, 1, 4, 4)
    changed = clip.clone()
    changed[:, 6:] = 0
    assert torch.equal(net(changed, mask), scores), 'the two frames that fill no window are left out'
    changed[0, 4] = 0
    assert [torch.equal(*pair) for pair in zip(net(changed, mask), scores, strict=True)] == [True, False, True, True]
    assert not torch.equal(net(clip, 0 * mask), scores)


@torch.no_grad()
def test_what_is_known_is_not_judged(clips):
    stage = SharpenStage(networks(), clips, clips, SHARPEN)
    stage.discriminator.eval()
    truth, mask = torch.rand(1, 3, 3, 64, 64), torch.ones(1, 3, 1, 64, 64)
    image = truth.clone()
    image[..., :16] = 0
    mask[..., 48:] = 0
    # Far from the hole by more than the discriminator sees, a picture that is wrong changes nothing.
    torch.testing.assert_close(stage._judge(truth, image, mask), stage._judge(truth, truth, mask))
    image[..., 48:] = 0
    assert abs(float(stage._judge(truth, image, mask) - stage._judge(truth, truth, mask))) > 1e-4


@pytest.mark.parametrize('own_latents', [0., 1.])
def test_the_decoder_learns_texture_and_latents_stay(clips, tmp_path, own_latents):
    made = {}
    truth = unit(next(clips.batches(1)).truth)
    for sharpness in (0., 2.):
        nets = networks()
        before = nets.autoencoder.encode(truth)
        student = {name: value.clone() for name, value in nets.transformer.state_dict().items()}
        config = replace(SHARPEN, sharpness=sharpness, own_latents=own_latents)
        stage = SharpenStage(nets, clips, clips, config)
        trainer = ScaledTrainer(stage, SETTINGS, tmp_path / str(sharpness))
        figures = [trainer.take_step()[1] for _ in range(SETTINGS.steps)]
        made[sharpness] = stage.validate()
        torch.testing.assert_close(nets.autoencoder.encode(truth), before, rtol=0, atol=0)
        assert all(torch.equal(value, student[name]) for name, value in nets.transformer.state_dict().items())
        assert figures[0]['weight'] == 0 and (figures[-1]['weight'] > 0) == (sharpness > 0)
    assert made[2.]['sharp'] > 1.5 * made[0.]['sharp'], made


def test_a_run_that_was_cut_off_keeps_its_discriminator(clips, tmp_path):
    def trainer():
        return ScaledTrainer(SharpenStage(networks(), clips, clips, SHARPEN), SETTINGS, tmp_path)

    first = trainer()
    for _ in range(2):
        first.take_step()
    first.save()
    wanted = first.take_step()[1]
    again = trainer()
    again.resume()
    assert again.step == 2 and again.take_step()[1] == pytest.approx(wanted, rel=1e-4)
