# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The convolutional in-painter: it starts as the smooth fill, learns, and is opened again as it was."""

from __future__ import annotations

import pytest
import torch
from small_clips import views_like

from inspatio_ros.errors import WeightsError
from inspatio_ros.evaluation.inpainter import Inpainter, InpainterConfig, open_inpainter
from inspatio_ros.spatial.fill import fill
from inspatio_ros.spatial.render import Condition
from inspatio_ros.star.checkpoint import save_tensors
from inspatio_ros.training.data import ClipFolder, Clips, save_clip
from inspatio_ros.training.inpainter import InpainterStage, main, train
from inspatio_ros.training.trainer import TrainerConfig

TINY = InpainterConfig(widths=(8, 12, 16), patch=2)


def some_condition(height: int = 32, width: int = 48, frames: int = 10) -> Condition:
    generator = torch.Generator().manual_seed(height)
    image = torch.rand(frames, 3, height, width, generator=generator) * 2 - 1
    mask = torch.ones(frames, 1, height, width)
    mask[..., 6:20, 9:30] = 0
    return Condition(torch.where(mask > 0, image, -1.), mask, torch.where(mask[:, 0] > 0, 1., torch.nan))


def lively(config: InpainterConfig = TINY) -> Inpainter:
    torch.manual_seed(0)
    net = Inpainter(config)
    torch.nn.init.normal_(net.out.weight, std=0.1)
    return net.eval()


def make_clip(seed: int, stills: bool) -> Clips:
    """Make a clip whose hole is what the smooth fill cannot know but a network can learn: always white."""
    generator = torch.Generator().manual_seed(seed)
    truth = torch.randint(20, 120, (1, 21, 3, 1, 1), generator=generator, dtype=torch.uint8).expand(1, 21, 3, 32, 48)
    truth, mask = truth.clone(), torch.ones(1, 21, 1, 32, 48, dtype=torch.uint8)
    filled = truth.clone()
    truth[..., 8:24, 10:30] = 255
    mask[..., 8:24, 10:30] = 0
    reference = truth[:, :6] if stills else truth
    return Clips(truth, filled, mask, reference.clone(), stills, views_like(21, reference.shape[1]))


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp('data')
    for name, seeds in (('train', range(3)), ('held_out', range(5, 7))):
        for seed in seeds:
            save_clip(folder / name / f'clip_{seed:06d}.safetensors', make_clip(seed, seed % 2 == 1), {})
    return folder


def test_untrained_it_is_the_smooth_fill():
    condition = some_condition()
    torch.testing.assert_close(Inpainter(TINY).complete(condition), fill(condition, 'smooth'), rtol=0., atol=1e-6)


@pytest.mark.parametrize('size', [(32, 48), (30, 44), (17, 23)])
def test_any_size_goes_and_pixels_stay_in_range(size):
    made = lively().complete(some_condition(*size))
    assert made.shape == (10, 3, *size)
    assert -1. <= float(made.min()) and float(made.max()) <= 1.


def test_every_frame_is_completed_by_itself():
    condition = some_condition()
    whole = lively().complete(condition)
    alone = lively().complete(Condition(condition.image[7:8], condition.mask[7:8], condition.z_depth[7:8]))
    # Convolutions of one frame and of many add in another order.
    torch.testing.assert_close(alone[0], whole[7], rtol=0, atol=1e-4)


def test_the_default_is_of_nano_s_size():
    count = sum(parameter.numel() for parameter in Inpainter().parameters())
    assert count == pytest.approx(7.4e6, rel=0.02)


def test_it_learns_and_is_opened_as_it_was_saved(data, tmp_path):
    """From always the same hole it learns what is in it; what is opened again makes the same pictures."""
    before = InpainterStage(Inpainter(TINY), ClipFolder(data / 'train'), ClipFolder(data / 'held_out'), (32, 32))
    start = before.validate()['psnr']
    net = Inpainter(TINY)
    config = TrainerConfig(steps=24, batch_size=1, learning_rate=5e-3, warmup_steps=5, ema=0.8, precision='float32')
    path = train(data, tmp_path, config, net, window=(32, 48))
    opened = open_inpainter(path)
    after = InpainterStage(opened, before.clips, before.held_out).validate()['psnr']
    assert after > start + 2.
    assert opened.config == TINY and not opened.training


def test_a_step_sees_windows_of_single_frames_of_any_clips(data):
    clips, net = ClipFolder(data / 'train'), Inpainter(TINY)
    for number, clip in enumerate(clips._clips.values()):
        # The share that is known tells clip and frame.
        clip.mask.zero_()
        for frame in range(21):
            clip.mask[:, frame].view(-1)[:21 * number + frame + 1] = 1
    shapes, shares = [], set()

    def note(_, given):
        shapes.append(tuple(given[0].shape))
        shares.update(given[1].sum(dim=(1, 2, 3)).tolist())
    net.register_forward_pre_hook(note)
    stage = InpainterStage(net, clips, clips, (32, 48))
    for step in range(4):
        stage.loss(6, torch.Generator().manual_seed(step))
    assert shapes == [(6, 3, 32, 48)] * 4
    assert len(shares) > 12 and {(share - 1) // 21 for share in shares} == {0, 1, 2}


def test_a_file_that_is_no_inpainter_is_refused(tmp_path):
    save_tensors(tmp_path / 'other.safetensors', {'x': torch.zeros(2)})
    with pytest.raises(WeightsError, match='holds no in-painter'):
        open_inpainter(tmp_path / 'other.safetensors')
    with pytest.raises(WeightsError, match='not a file'):
        open_inpainter(tmp_path / 'none.safetensors')


def test_training_without_clips_says_so(tmp_path, capsys):
    assert main(['--data', str(tmp_path), '--output', str(tmp_path / 'run')]) == 1
    assert 'no usable clip' in capsys.readouterr().err
