# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Training on a GPU: every stage runs there, goes on from its checkpoint, and sees what it sees on a CPU."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from test_real_data import write_images
from test_training import LOSS, TINY, write_data

from inspatio_ros.training.data import ClipFolder
from inspatio_ros.training.encoded import EncodedClips, EncodingConfig
from inspatio_ros.training.export import load_networks
from inspatio_ros.training.further import FURTHER_STAGES
from inspatio_ros.training.jdmd import JdmdConfig
from inspatio_ros.training.networks import Networks
from inspatio_ros.training.noise import normal
from inspatio_ros.training.teachers import TeacherConfig
from inspatio_ros.training.train import ORDER, Plan, train
from inspatio_ros.training.trainer import TrainerConfig

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
GPU = 'cuda'


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    folder = write_data(tmp_path_factory.mktemp('data'), 5, 2)
    write_images(folder / 'video', 30)
    return folder


def plan(steps, optimizer='muon'):
    settings = TrainerConfig(steps=steps, batch_size=3, save_every=2, log_every=1, optimizer=optimizer)
    config = replace(TINY, positions='reprojected',
                     autoencoder=replace(TINY.autoencoder, mend_width=8, texture_width=6))
    return Plan(config, replace(LOSS, rolled_out=2, weigh_channels=True, likeness=1., texture_likeness=1.),
                {name: settings for name in ORDER}, 0,
                TeacherConfig(prediction='residual', from_student=True, weigh_channels=True),
                JdmdConfig(student_every=2, vis_conditions='all'), encoding=EncodingConfig(variants=1, punched=0.5))


def test_every_stage_trains_there_and_goes_on(data, tmp_path):
    for steps in (2, 3):
        train(plan(steps), 'all', data, tmp_path, GPU, real=[data / 'video'])
    for stage in ORDER:
        names = [path.name for path in (tmp_path / stage / 'checkpoints').iterdir()]
        assert 'step_00000003.safetensors' in names, stage
    loaded = load_networks(tmp_path / 'weights')
    assert loaded.generate(next(ClipFolder(data / 'held_out').batches(1)), torch.Generator()).isfinite().all()


def test_weights_start_a_distillation_there(data, tmp_path):
    train(plan(1, 'adamw'), 'all', data, tmp_path / 'run', GPU, real=[data / 'video'])
    for stage in FURTHER_STAGES:
        train(plan(2), stage, data, tmp_path / 'on', GPU, real=[data / 'video'], weights=tmp_path / 'run' / 'weights')
    assert (tmp_path / 'on' / 'weights' / 'transformer.safetensors').is_file()


def test_clips_are_encoded_as_on_a_cpu(data):
    config = replace(TINY, positions='reprojected')
    kept = []
    for device in ('cpu', GPU):
        encoded = EncodedClips(Networks(config, device), ClipFolder(data / 'train'), EncodingConfig(1, 0.5))
        kept.append(encoded.draw(8, torch.Generator().manual_seed(1)))
    for one, other in zip(*((truth, conditions.render, conditions.reference, conditions.mask,
                             conditions.positions[1].previous) for truth, conditions in kept), strict=True):
        assert other.device.type == GPU
        # TF32 and half precision; a punched hole may differ by a step of 255.
        torch.testing.assert_close(other.cpu(), one, atol=2e-2, rtol=2e-2)


def test_noise_is_settled_by_the_generator():
    draws = [normal((1000, 50), torch.Generator().manual_seed(seed), torch.device(GPU)) for seed in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])
    assert abs(float(draws[0].mean())) < 0.02 and float(draws[0].std()) == pytest.approx(1., abs=0.02)
