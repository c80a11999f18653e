# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Known pixels of the render are mended before they are shown; holes and latents stay as they are."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from test_training import LOSS, TINY, make_clip

from inspatio_ros.config import AutoencoderConfig
from inspatio_ros.errors import ConfigurationError
from inspatio_ros.star.autoencoder import TinyAutoencoder
from inspatio_ros.star.mend import Mend
from inspatio_ros.training.data import ClipFolder, save_clip
from inspatio_ros.training.decoding import FinishStage
from inspatio_ros.training.distributed import ScaledTrainer
from inspatio_ros.training.mend import MendStage, relative_known_error
from inspatio_ros.training.networks import Networks
from inspatio_ros.training.trainer import TrainerConfig

MENDED = replace(TINY, autoencoder=replace(TINY.autoencoder, mend_width=8))
SETTINGS = TrainerConfig(steps=150, batch_size=4, learning_rate=1e-2, warmup_steps=1, save_every=1000)


@pytest.fixture(scope='module')
def clips(tmp_path_factory):
    """Clips whose render is jagged: every other column is darker than the truth."""
    folder = tmp_path_factory.mktemp('clips')
    for seed in range(4):
        clip = make_clip(seed)
        filled = clip.filled.clone()
        filled[..., ::2] = (filled[..., ::2].int() * 3 // 4).to(torch.uint8)
        save_clip(folder / f'clip_{seed:07d}.safetensors', replace(clip, filled=filled), {})
    return ClipFolder(folder)


def lively(mend):
    torch.manual_seed(1)
    for parameter in mend.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return mend


@torch.no_grad()
def test_untrained_it_changes_nothing_and_holes_never():
    torch.manual_seed(0)
    render, mask = torch.rand(2, 3, 16, 24), (torch.rand(2, 1, 16, 24) > 0.5).float()
    mend = Mend(3, 8)
    mend.start_as_nothing()
    assert torch.equal(mend(render, mask), render)
    change = lively(mend)(render, mask) - render
    assert bool((change * (1 - mask) == 0).all()) and float((change * mask).abs().max()) > 1e-3


def test_the_decoder_shows_the_mended_render_where_it_is_known():
    torch.manual_seed(0)
    plain, mended = TinyAutoencoder(TINY.autoencoder), TinyAutoencoder(MENDED.autoencoder)
    mended.load_state_dict(plain.state_dict(), strict=False)
    latent, render = torch.randn(1, 3, 16, 4, 6), torch.rand(1, 9, 3, 32, 48)
    guide = render, torch.ones_like(render[:, :, :1])
    assert torch.equal(mended.decode(latent, guide), plain.decode(latent, guide))
    lively(mended.mend)
    wanted = mended.mend(render[0], guide[1][0])[None]
    # The untrained gate is the mask itself: known pixels are the mended render's, and the latent's nowhere.
    torch.testing.assert_close(mended.decode(latent, guide, clamp=False), wanted)


def test_it_learns_what_resampling_has_spoilt_and_nothing_else_moves(clips, tmp_path):
    torch.manual_seed(0)
    networks = Networks(MENDED)
    before = {name: value.clone() for name, value in networks.autoencoder.state_dict().items()}
    stage = MendStage(networks, clips, clips, LOSS)
    assert stage.validate()['gain'] == pytest.approx(0)
    trainer = ScaledTrainer(stage, SETTINGS, tmp_path)
    for _ in range(SETTINGS.steps):
        trainer.take_step()
    assert stage.validate()['gain'] > 3, 'the error of the dark columns is more than halved'
    moved = [name for name, value in networks.autoencoder.state_dict().items() if not torch.equal(value, before[name])]
    assert moved and all(name.startswith('mend.') for name in moved)


def test_other_stages_leave_it_as_it_is(clips, tmp_path):
    stage = FinishStage(Networks(MENDED), clips, clips, LOSS)
    trained = ScaledTrainer(stage, SETTINGS, tmp_path).parameters
    assert trained and not [name for name in trained if name.startswith('autoencoder.mend.')]


def test_errors_count_relative_to_the_renders_own_where_it_is_known():
    truth = torch.zeros(1, 3, 2, 2)
    mask = torch.tensor([1., 0.]).expand(1, 1, 2, 2)
    render = torch.full_like(truth, 0.2)
    image = torch.full_like(truth, 0.1)
    image[..., 1] = 9
    assert float(relative_known_error(image, truth, render, mask)) == pytest.approx(0.01 / 0.0401)
    assert float(relative_known_error(image, truth, render, 0 * mask)) == 0


def test_single_frames_are_drawn_alike_in_truth_render_and_mask(clips):
    truth, filled, mask = clips.draw_frames(6, torch.Generator().manual_seed(0))
    assert truth.shape == filled.shape == (6, 3, 32, 48) and mask.shape == (6, 1, 32, 48)
    # Of known pixels every other column is the truth's, and the darkened ones are not: even or, mirrored, odd ones.
    error = (truth - filled).abs() * mask
    worst = torch.stack([error[..., parity::2].amax(dim=(1, 2, 3)) for parity in (0, 1)])
    assert bool((worst.amin(dim=0) == 0).all()) and bool((worst.amax(dim=0) > 0.05).all())
    assert bool((mask.amin(dim=(1, 2, 3)) == 0).all()) and bool((mask.amax(dim=(1, 2, 3)) == 1).all())


def test_a_decoder_that_sees_no_render_has_nothing_to_mend():
    with pytest.raises(ConfigurationError, match='set guided = true'):
        TinyAutoencoder(AutoencoderConfig(mend_width=8))


def test_a_stage_without_anything_to_train_is_refused(clips):
    with pytest.raises(ConfigurationError, match='mend_width is 0'):
        MendStage(Networks(TINY), clips, clips, LOSS)
