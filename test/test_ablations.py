# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Training without a part, and the table of what each part is worth."""

from __future__ import annotations

import json
from dataclasses import replace

import cv2
import pytest
import torch
from safetensors.torch import load_file
from test_real_data import write_images
from test_training import LOSS, TINY, make_clip

from inspatio_ros.errors import ConfigurationError
from inspatio_ros.evaluation.ablation import ABLATIONS
from inspatio_ros.training.ablations import ROWS, Budget, ablate, table, train_row
from inspatio_ros.training.checkpoint import CheckpointFolder
from inspatio_ros.training.data import ClipFolder, save_clip
from inspatio_ros.training.encoded import EncodingConfig
from inspatio_ros.training.jdmd import JdmdConfig
from inspatio_ros.training.networks import Networks
from inspatio_ros.training.train import Plan, train
from inspatio_ros.training.trainer import TrainerConfig

SHORT = TrainerConfig(steps=2, batch_size=1, precision='float32', warmup_steps=1)
PLAN = Plan(TINY, LOSS, {'autoencoder': SHORT, 'initialisation': SHORT, 'joint': SHORT}, 0)


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp('data')
    for name, seeds in (('train', range(2)), ('held_out', range(10, 11))):
        for seed in seeds:
            save_clip(folder / name / f'clip_{seed:06d}.safetensors', make_clip(seed), {'seed': seed})
    return folder


@pytest.fixture(scope='module')
def run(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp('run')
    train(PLAN, 'all', data, folder)
    return folder


@pytest.mark.parametrize('ablation', ABLATIONS)
def test_networks_never_see_what_they_are_trained_without(data, ablation):
    clips = ClipFolder(data / 'train').draw(1, torch.Generator().manual_seed(0))
    networks = Networks(TINY, ablation=ablation)
    for parameter in networks.transformer.parameters():
        torch.nn.init.normal_(parameter, std=0.1)

    def made(changed):
        return networks.generate(changed, torch.Generator().manual_seed(1))

    other = ClipFolder(data / 'held_out').draw(1, torch.Generator().manual_seed(0))
    reference = replace(clips, reference=other.reference)
    render = replace(clips, filled=other.filled)
    assert torch.equal(made(reference), made(clips)) == (ablation in ('no_reference', 'no_cache'))
    assert torch.equal(made(render), made(clips)) == (ablation == 'no_render')


def test_rows_are_trained_from_the_whole_run_measured_once_and_laid_side_by_side(data, run, tmp_path, capsys):
    names = ['initialisation', 'no_history']
    text = ablate(PLAN, names, data, run, tmp_path, ('scenes',), 1)
    assert [line.split('|')[1].strip() for line in text.splitlines()[2:]] == [
        'render, holes filled by the nearest colour', 'render, holes filled smoothly', *[ROWS[n].about for n in names]]
    assert (tmp_path / 'ablations.md').read_text() == text + '\n'
    assert cv2.imread(str(tmp_path / 'ablations.png')).shape[0] > 3 * 32
    assert not (tmp_path / 'initialisation' / 'weights').exists(), 'the whole is not trained again'
    before = (tmp_path / 'no_history' / 'weights' / 'transformer.safetensors').stat().st_mtime_ns
    assert ablate(PLAN, names, data, run, tmp_path, ('scenes',), 1) == text
    assert (tmp_path / 'no_history' / 'weights' / 'transformer.safetensors').stat().st_mtime_ns == before
    done = tmp_path / 'no_history' / 'figures.json'
    figures = json.loads(done.read_text())
    assert figures['about']['suites'] == ['scenes'] and figures['about']['clips'] == 1
    # Measured otherwise, or before files said how: measured again.
    ablate(PLAN, ['no_history'], data, run, tmp_path, (), 1)
    again = json.loads(done.read_text())
    assert again['about'] == {**figures['about'], 'suites': []} and again['figures'] == {} and again['commit']
    done.write_text(json.dumps(figures['figures']))
    ablate(PLAN, ['no_history'], data, run, tmp_path, (), 2)
    assert json.loads(done.read_text())['about']['clips'] == 2
    with pytest.raises(ConfigurationError, match=r'was trained otherwise \(steps: wanted 1, found None\)'):
        ablate(PLAN, ['no_history'], data, run, tmp_path, ('scenes',), 1, budget=Budget(1))


def test_shared_stages_are_trained_to_their_end_beforehand(data, run, tmp_path):
    plan = replace(PLAN, stages={**PLAN.stages, 'autoencoder': replace(SHORT, steps=3)})
    with pytest.raises(ConfigurationError, match='autoencoder has been trained for 2 of 3 steps'):
        ablate(plan, ['no_history'], data, run, tmp_path, ())
    assert not (tmp_path / 'no_history' / 'autoencoder').exists()


def test_with_a_budget_of_its_own_every_row_is_trained_from_the_autoencoder_alone(data, run, tmp_path):
    names = ['initialisation', 'no_render']
    ablate(PLAN, names, data, run, tmp_path, (), budget=Budget(1))
    for name in names:
        assert [path.name for path in sorted((tmp_path / name / 'initialisation' / 'checkpoints').iterdir())] == [
            'step_00000001.safetensors']
        assert (tmp_path / name / 'autoencoder').is_symlink() and not (tmp_path / name / 'initialisation').is_symlink()


def test_rows_go_on_from_given_weights_and_share_a_finished_decoder(data, tmp_path):
    plan = replace(PLAN, stages={'autoencoder': SHORT, 'initialisation': SHORT, 'finish': SHORT},
                   loss=replace(LOSS, local_start=True, rolled_out=1), encoding=EncodingConfig(variants=1))
    run = tmp_path / 'run'
    train(plan, 'all', data, run)
    ablate(plan, ['no_history'], data, run, tmp_path, (), budget=Budget(1, run / 'weights', 1e-9))
    row = tmp_path / 'no_history'
    assert (row / 'finish').is_symlink() and (row / 'latents').is_symlink()
    for name in ('transformer', 'autoencoder'):
        start, made = (load_file(folder / 'weights' / f'{name}.safetensors') for folder in (run, row))
        assert all(torch.allclose(value, made[key], rtol=0, atol=1e-6) for key, value in start.items()), name


def test_a_distilled_row_shares_what_its_task_does_not_change(data, tmp_path):
    write_images(tmp_path / 'video', 30)
    names = ('autoencoder', 'initialisation', 'motion_teacher', 'real_teacher', 'jdmd', 'finish')
    plan = replace(PLAN, stages={name: SHORT for name in names}, loss=replace(LOSS, rolled_out=1),
                   jdmd=JdmdConfig(student_every=1))
    run, row = tmp_path / 'run', tmp_path / 'ctrl'
    train(plan, 'all', data, run, real=[tmp_path / 'video'])
    train_row(plan, ROWS['ctrl'], data, run, row)
    assert {path.name for path in row.iterdir() if path.is_symlink()} == {
        'autoencoder', 'initialisation', 'motion_teacher', 'finish'}
    for name, same in (('autoencoder', True), ('transformer', False)):
        whole, made = (load_file(folder / 'weights' / f'{name}.safetensors') for folder in (run, row))
        assert all(torch.equal(value, made[key]) for key, value in whole.items()) == same, name
    # The row without distillation is the student before it, not what RUN exported.
    train_row(plan, ROWS['initialisation'], data, run, tmp_path / 'before')
    student = load_file(run / 'initialisation' / 'checkpoints' / 'step_00000002.safetensors')
    made = load_file(tmp_path / 'before' / 'weights' / 'transformer.safetensors')
    assert all(torch.equal(value, student[f'ema.transformer.{key}']) for key, value in made.items())
    assert any(not torch.equal(value, whole[key]) for key, value in made.items())


def test_a_start_without_a_number_of_steps_is_refused(data, run, tmp_path):
    with pytest.raises(ConfigurationError, match='give --steps too'):
        ablate(PLAN, ['initialisation'], data, run, tmp_path, (), budget=Budget(start=run / 'weights'))


def test_distillation_without_teachers_is_refused_by_name(data, run, tmp_path):
    with pytest.raises(ConfigurationError, match='train stage real_teacher first'):
        train_row(PLAN, ROWS['jdmd'], data, run, tmp_path / 'jdmd')


def test_what_was_not_measured_is_a_dash():
    row = table({'ctrl': {'scenes': {'psnr': {'all': 20.126}}}}).splitlines()[-1]
    assert row == '| L_ctrl only | 20.13 ' + '| – ' * 10 + '|'


def test_every_row_takes_as_many_steps_of_the_student_from_one_start(data, tmp_path):
    write_images(tmp_path / 'video', 30)
    names = ('autoencoder', 'initialisation', 'spread', 'motion_teacher', 'real_teacher', 'jdmd', 'finish')
    plan = replace(PLAN, stages={name: SHORT for name in names}, loss=replace(LOSS, rolled_out=1),
                   jdmd=JdmdConfig(student_every=2))
    run = tmp_path / 'run'
    train(plan, 'all', data, run, real=[tmp_path / 'video'])
    kept = Budget(3, run / 'weights', batch_size=2).applied(plan).stages
    assert 'initialisation' not in kept and (kept['spread'].steps, kept['spread'].batch_size) == (3, 4), 'clips twice'
    assert (kept['jdmd'].steps, kept['jdmd'].batch_size) == (6, 2)
    assert Budget(3, batch_size=2).applied(plan).stages['jdmd'].batch_size == 2
    rows = tmp_path / 'rows'
    ablate(plan, ['initialisation', 'no_history', 'vis'], data, run, rows, (),
           budget=Budget(1, run / 'weights', batch_size=2))
    for row, stage, step in (('initialisation', 'spread', 1), ('no_history', 'spread', 1), ('vis', 'jdmd', 2)):
        trained = {path.name for path in (rows / row).iterdir() if path.is_dir() and not path.is_symlink()}
        assert trained == {stage, 'weights'}, row
        assert CheckpointFolder(rows / row / stage / 'checkpoints').newest_step() == step
        start, made = (load_file(folder / 'weights' / 'transformer.safetensors') for folder in (run, rows / row))
        assert any(not torch.equal(value, made[key]) for key, value in start.items()), row


def test_the_office_needs_its_recording(data, run, tmp_path):
    with pytest.raises(ConfigurationError, match='give --reference'):
        ablate(PLAN, ['initialisation'], data, run, tmp_path, ('office',))
