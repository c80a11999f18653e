# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Training at a tiny size: it learns, goes on where it stopped, stops at NaN, and what it ships loads again."""

from __future__ import annotations

import contextlib
import json
import re
import resource
import signal
from dataclasses import fields, replace
from pathlib import Path
from typing import ClassVar

import pytest
import torch
import yaml
from small_clips import views_like
from torch import nn

from inspatio_ros.config import AutoencoderConfig, GeneratorConfig, TransformerConfig, as_trained, to_dict
from inspatio_ros.errors import ConfigurationError, InspatioError, RecordingError, WeightsError
from inspatio_ros.spatial.fill import METHODS, fill
from inspatio_ros.spatial.render import HOLE, Condition
from inspatio_ros.star.checkpoint import packaged_folder
from inspatio_ros.star.pipeline import StarPipeline
from inspatio_ros.training.checkpoint import CheckpointError, CheckpointFolder, load_tensors, save_tensors
from inspatio_ros.training.data import STILLS, ClipFolder, Clips, augment, save_clip, unit
from inspatio_ros.training.distributed import ScaledTrainer
from inspatio_ros.training.encoded import EncodedClips, EncodingConfig
from inspatio_ros.training.export import LARGEST_BYTES, export, load_networks
from inspatio_ros.training.measure import Figures
from inspatio_ros.training.mend import MendStage
from inspatio_ros.training.networks import Networks
from inspatio_ros.training.optimizers import OPTIMIZERS
from inspatio_ros.training.pca import start_from_components
from inspatio_ros.training.stages import JointStage, LossConfig
from inspatio_ros.training.teachers import _mean
from inspatio_ros.training.train import ENCODED_STAGES, STAGES, Plan, main, read_plan, train
from inspatio_ros.training.trainer import Trainer, TrainerConfig, TrainingError

PROJECT = Path(__file__).parents[1]

TINY = GeneratorConfig(
    name='tiny', width=48, height=32, frame_rate=12., prediction='residual', condition_fill='smooth',
    transformer=TransformerConfig(text_len=2, text_dim=8, dim=48, ffn_dim=48, freq_dim=16, num_heads=2, num_layers=2),
    autoencoder=AutoencoderConfig(patch_size=2, encoder_widths=(8, 8, 8, 8), decoder_widths=(8, 8, 8, 8),
                                  blocks_per_stage=1, space=(True, True, False), time=(False, True, True),
                                  guided=True, guide_width=8, linear=True))
LOSS = LossConfig(crop=(32, 32))
FRAMES = 21


def make_clip(seed, stills=False):
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 4, 6, generator=generator)
    image = nn.functional.interpolate(coarse, (32, 48), mode='bilinear').mul(255).to(torch.uint8)
    truth = image[:, None].expand(1, FRAMES, 3, 32, 48).clone()
    mask = torch.ones(1, FRAMES, 1, 32, 48, dtype=torch.uint8)
    mask[..., 8:24, 4:20] = 0
    filled = torch.where(mask > 0, truth, torch.tensor(127, dtype=torch.uint8))
    reference = truth[:, :2 * STILLS] if stills else truth
    return Clips(truth, filled, mask, reference.clone(), stills, views_like(FRAMES, reference.shape[1]))


def write_data(folder, train, held_out):
    """Write so many clips to train on, and so many that are held out; every other one has stills."""
    for name, seeds in (('train', range(train)), ('held_out', range(10, 10 + held_out))):
        for seed in seeds:
            save_clip(folder / name / f'clip_{seed:06d}.safetensors', make_clip(seed, stills=seed % 2 == 1), {})
    return folder


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp('data'), 4, 2)


@pytest.fixture
def clips(data):
    return ClipFolder(data / 'train')


def joint_trainer(clips, output, **settings):
    stage = JointStage(Networks(TINY), clips, clips, LOSS)
    return Trainer(stage, TrainerConfig(**{'steps': 4, 'batch_size': 2, 'precision': 'float32', **settings}), output)


@pytest.mark.parametrize('optimizer', OPTIMIZERS)
def test_training_that_was_cut_off_goes_on_with_the_very_same_steps(clips, tmp_path, optimizer):
    whole = joint_trainer(clips, tmp_path / 'whole', optimizer=optimizer)
    losses = [whole.take_step()[0] for _ in range(4)]
    first = joint_trainer(clips, tmp_path / 'parts', optimizer=optimizer)
    assert [first.take_step()[0] for _ in range(2)] == losses[:2]
    first.save()
    second = joint_trainer(clips, tmp_path / 'parts', optimizer=optimizer)
    second.resume()
    assert second.step == 2
    assert [second.take_step()[0] for _ in range(2)] == losses[2:]
    for name, value in whole.parameters.items():
        assert torch.equal(value, second.parameters[name]), name
        assert torch.equal(whole.ema[name], second.ema[name]), name


def test_nan_stops_at_its_step_and_keeps_the_last_good_checkpoint(clips, tmp_path):
    trainer = joint_trainer(clips, tmp_path)
    trainer.take_step()
    kept = trainer.save()
    before = {name: value.detach().clone() for name, value in trainer.parameters.items()}
    honest = trainer.stage.loss
    trainer.stage.loss = lambda *a: (honest(*a)[0] * float('nan'), {})
    with pytest.raises(TrainingError, match=rf'loss of stage joint is nan at step 1; .*{kept.name}'):
        trainer.take_step()
    assert all(torch.equal(value, before[name]) for name, value in trainer.parameters.items())
    assert load_tensors(kept)[1]['step'] == 1


def test_damaged_checkpoint_gives_way_to_the_one_before(tmp_path, capsys):
    folder = CheckpointFolder(tmp_path)
    for step in (1, 2):
        folder.save(step, {'x': torch.full((100,), float(step))}, {})
    newest = folder.paths()[-1]
    newest.write_bytes(newest.read_bytes()[:200])
    path, tensors, metadata = folder.newest()
    assert metadata['step'] == 1 and tensors['x'][0] == 1
    said = capsys.readouterr().out
    assert newest.name in said and said.endswith(f'going on from {path.name}\n')

    # A disk that is away damages all of them at once: nothing is renamed, and nothing begins anew unasked.
    path.write_bytes(b'')
    with pytest.raises(CheckpointError, match=rf'no checkpoint that can be read: .*{path.name}'):
        folder.newest()
    assert sorted(file.name for file in tmp_path.iterdir()) == ['step_00000001.safetensors', 'step_00000002.damaged']


def test_only_the_last_checkpoints_stay(tmp_path):
    folder = CheckpointFolder(tmp_path)
    for step in range(5):
        folder.save(step, {'x': torch.zeros(1)}, {})
    assert [path.name for path in folder.paths()] == ['step_00000003.safetensors', 'step_00000004.safetensors']


def test_failed_save_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    folder = CheckpointFolder(tmp_path)
    folder.save(1, {'x': torch.ones(1)}, {})

    def full_disk(tensors, path, metadata=None):
        path.write_bytes(b'half')
        raise OSError('No space left on device')

    monkeypatch.setattr('inspatio_ros.star.checkpoint.save_file', full_disk)
    with pytest.raises(CheckpointError, match='No space left'):
        folder.save(1, {'x': torch.zeros(1)}, {})
    assert folder.newest()[1]['x'] == 1
    assert [path.name for path in tmp_path.iterdir()] == ['step_00000001.safetensors']


@contextlib.contextmanager
def no_file_larger_than(size):
    """Let this process write no larger files for a while, as if the disk were full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.filterwarnings('ignore::pytest.PytestUnhandledThreadExceptionWarning')
@pytest.mark.parametrize('size, what', [(10, 'curves'), (5000, 'could not be written')])
def test_disk_that_fills_while_training_is_one_error_that_says_what_is_kept(clips, tmp_path, size, what):
    joint_trainer(clips, tmp_path, steps=1).run()
    kept = CheckpointFolder(tmp_path / 'checkpoints')
    with no_file_larger_than(size), pytest.raises(InspatioError, match=what):
        joint_trainer(clips, tmp_path, steps=2, log_every=1).run()
    assert [path.name for path in kept.paths()] == ['step_00000001.safetensors']
    joint_trainer(clips, tmp_path, steps=2).run()
    assert kept.newest()[2]['step'] == 2


def test_checkpoint_of_another_configuration_names_the_first_difference(clips, tmp_path):
    joint_trainer(clips, tmp_path).save()
    with pytest.raises(CheckpointError, match=r'trainer\.clip: wanted 3\.0, found 1\.0'):
        joint_trainer(clips, tmp_path, clip=3.).resume()


def test_every_stage_trains_and_the_weights_load_again(data, tmp_path):
    settings = TrainerConfig(steps=2, batch_size=2, save_every=2, log_every=1)
    config = replace(TINY, positions='reprojected',
                     autoencoder=replace(TINY.autoencoder, mend_width=8, texture_width=6))
    plan = Plan(config, replace(LOSS, rolled_out=2), {name: settings for name in STAGES}, 0)
    networks = train(plan, 'all', data, tmp_path)
    loaded = load_networks(tmp_path / 'weights')
    clip = next(ClipFolder(data / 'held_out').batches(1))
    images = [nets.generate(clip, torch.Generator().manual_seed(1), texture=True) for nets in (networks, loaded)]
    torch.testing.assert_close(*images, rtol=0, atol=1e-4)
    assert images[0].shape == clip.truth.shape
    _, about = load_tensors(tmp_path / 'weights' / 'transformer.safetensors')
    assert about['licence'] == 'Apache-2.0' and about['config']['transformer']['dim'] == 48
    assert about['training']['stages']['joint']['steps'] == 2 and about['training']['loss']['crop'] == [32, 32]
    assert {path.name for path in (tmp_path / 'weights').iterdir()} == {
        'config.json', 'transformer.safetensors', 'autoencoder.safetensors', 'text.safetensors'}
    assert list((tmp_path / 'joint').glob('events.*'))


def test_weights_without_texture_are_given_it(data, tmp_path):
    once = TrainerConfig(steps=1, batch_size=2)
    plain = replace(TINY, positions='reprojected')
    textured = replace(plain, autoencoder=replace(plain.autoencoder, texture_width=6))
    loss = replace(LOSS, rolled_out=2)
    train(Plan(plain, loss, {'autoencoder': once, 'initialisation': once}, 0), 'all', data, tmp_path / 'run')
    train(Plan(textured, loss, {'autoencoder': once, 'initialisation': once, 'texture': once}, 0), 'texture', data,
          tmp_path / 'on', weights=tmp_path / 'run' / 'weights')
    with pytest.raises(ConfigurationError, match='nothing that gives texture'):
        StarPipeline.load('tiny', tmp_path / 'run' / 'weights', texture=True)
    assert StarPipeline.load('tiny', tmp_path / 'on' / 'weights', texture=True).texture
    for name in ('transformer', 'autoencoder'):
        before, after = (load_tensors(tmp_path / run / 'weights' / f'{name}.safetensors')[0] for run in ('run', 'on'))
        assert all(torch.equal(value, after[key]) for key, value in before.items())
        assert all(key.startswith('texture.') for key in after.keys() - before.keys())
    assert {f'texture.{key}' for key in load_networks(tmp_path / 'on' / 'weights').autoencoder.texture.state_dict()
            } == after.keys() - before.keys()


def test_weights_are_trained_on_where_they_ended(data, tmp_path, capsys):
    once = TrainerConfig(steps=1, batch_size=2, learning_rate=1e-9)
    plan = Plan(TINY, replace(LOSS, local_start=True), {'autoencoder': once, 'initialisation': once}, 0)
    train(plan, 'all', data, tmp_path / 'run')
    config = tmp_path / 'plan.json'
    config.write_text(yaml.safe_dump({'generator': to_dict(TINY), 'loss': to_dict(plan.loss), 'stages': {
        'autoencoder': {'steps': 5}, 'initialisation': {'steps': 5, 'batch_size': 2}}}))
    command = ['--config', str(config), '--data', str(data), '--output', str(tmp_path / 'on'), '--steps', '1',
               '--weights', str(tmp_path / 'run' / 'weights'), '--learning-rate', '1e-9', '--stage']
    assert main([*command, 'initialisation']) == 0
    assert [path.name for path in (tmp_path / 'on' / 'initialisation' / 'checkpoints').iterdir()] == [
        'step_00000001.safetensors']
    before, after = (load_networks(tmp_path / run / 'weights').modules() for run in ('run', 'on'))
    for name, module in before.items():
        for key, value in module.state_dict().items():
            torch.testing.assert_close(after[name].state_dict()[key], value, rtol=0, atol=1e-6, msg=f'{name}.{key}')
    about = load_tensors(tmp_path / 'on' / 'weights' / 'transformer.safetensors')[1]['started_from']
    assert about['folder'] == 'weights' and about['licence'] == 'Apache-2.0' and about['steps'] == {
        'autoencoder': 1, 'initialisation': 1}
    # The same command goes on; with other weights it would only claim to have started from them.
    assert main([*command, 'initialisation']) == 0
    train(replace(plan, seed=1), 'all', data, tmp_path / 'other')
    capsys.readouterr()
    assert main([*command[:9], str(tmp_path / 'other' / 'weights'), *command[10:], 'initialisation']) == 1
    assert 'started_from: wanted' in capsys.readouterr().err


def test_ctrl_c_ends_in_one_line_and_the_last_checkpoint_stays(data, tmp_path, monkeypatch, capsys):
    config, step = tmp_path / 'plan.yaml', ScaledTrainer.take_step

    def interrupted(trainer):
        if trainer.step == 3:
            signal.raise_signal(signal.SIGINT)
        return step(trainer)

    # A test run in the background of a shell ignores Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    monkeypatch.setattr(ScaledTrainer, 'take_step', interrupted)
    config.write_text(yaml.safe_dump({'generator': to_dict(TINY), 'loss': to_dict(LOSS), 'stages': {
        'autoencoder': {'steps': 9, 'batch_size': 2, 'save_every': 2}}}))
    try:
        assert main(['--config', str(config), '--data', str(data), '--output', str(tmp_path / 'run')]) == 130
    finally:
        signal.signal(signal.SIGINT, before)
    assert capsys.readouterr().err.splitlines()[-1] == 'stopped; the same command goes on from the last checkpoint'
    assert [path.name for path in (tmp_path / 'run' / 'autoencoder' / 'checkpoints').iterdir()] == [
        'step_00000002.safetensors']


def test_stage_before_the_wanted_one_must_have_a_whole_checkpoint(data, tmp_path):
    once = TrainerConfig(steps=1, batch_size=2)
    plan = Plan(TINY, LOSS, {'autoencoder': once, 'initialisation': once}, 0)
    with pytest.raises(ConfigurationError, match=r'mistyped/autoencoder/checkpoints holds no whole checkpoint of stage '
                                                 r'autoencoder, from which initialisation goes on'):
        train(plan, 'initialisation', data, tmp_path / 'mistyped')
    checkpoints = tmp_path / 'autoencoder' / 'checkpoints'
    train(plan, 'autoencoder', data, tmp_path)
    good = checkpoints / 'step_00000001.safetensors'
    whole = good.read_bytes()
    good.write_bytes(whole[:100])
    for weights in (None, tmp_path / 'weights'):
        with pytest.raises(CheckpointError, match='no checkpoint that can be read: .*remove the folder to begin'):
            train(plan, 'initialisation', data, tmp_path, weights=weights)
    good.unlink()
    # What torchrun has written, one process cannot read; beside its own checkpoints it may lie.
    (checkpoints / 'step_00000002').mkdir()
    for stage in ('autoencoder', 'initialisation'):
        with pytest.raises(CheckpointError, match='sharded checkpoints of torchrun, which one process cannot read'):
            train(plan, stage, data, tmp_path)
    good.write_bytes(whole)
    train(plan, 'initialisation', data, tmp_path)


def test_changed_losses_do_not_go_on_unless_the_checkpoint_says_nothing_of_them(data, tmp_path):
    once = TrainerConfig(steps=1, batch_size=2)
    plan = Plan(TINY, LOSS, {'autoencoder': once, 'initialisation': once}, 0)
    train(plan, 'all', data, tmp_path)
    # Of no stage that was trained.
    train(replace(plan, loss=replace(LOSS, pooled=1.)), 'all', data, tmp_path)
    other = replace(plan, loss=replace(LOSS, own_history=1.))
    with pytest.raises(CheckpointError, match=r'loss\.own_history: wanted 1\.0, found 0\.5'):
        train(other, 'initialisation', data, tmp_path)
    encoded = replace(plan, encoding=EncodingConfig(variants=1))
    with pytest.raises(CheckpointError, match=r'encoding\.variants: wanted 1, found 0'):
        train(encoded, 'initialisation', data, tmp_path)
    path = tmp_path / 'initialisation' / 'checkpoints' / 'step_00000001.safetensors'
    tensors, about = load_tensors(path)
    assert about['description'].pop('loss') and about['description'].pop('encoding')
    save_tensors(path, tensors, about)
    train(replace(other, encoding=encoded.encoding), 'initialisation', data, tmp_path)


class WatchedLoss(LossConfig):
    """Settings of losses that keep in mind which were asked for."""

    asked: ClassVar[set[str]] = set()

    def __getattribute__(self, name):
        WatchedLoss.asked.add(name)
        return super().__getattribute__(name)


def test_checkpoints_name_every_setting_that_their_stage_goes_by(clips):
    names = {item.name for item in fields(LossConfig)}
    assert set().union(*(stage.goes_by for stage in STAGES.values())) == names
    config = replace(TINY, positions='reprojected',
                     autoencoder=replace(TINY.autoencoder, mend_width=8, texture_width=6))
    for name, stage in STAGES.items():
        networks = Networks(config)
        source = EncodedClips(networks, clips, EncodingConfig()) if name in ENCODED_STAGES else clips
        given = WatchedLoss(crop=(32, 32), rolled_out=1, own_history=0.25, own_samples=0.25)
        made = stage(networks, source, clips, given)
        WatchedLoss.asked.clear()
        generator = torch.Generator().manual_seed(0)
        if hasattr(made, 'backward'):
            made.backward(2, generator, generator, 0)
        else:
            made.loss(2, generator)
        # But for what the stage settles itself.
        others = (WatchedLoss.asked & names) - set(stage.goes_by)
        assert all(getattr(made.config, other) != getattr(given, other) for other in others), (name, others)


def test_clips_of_another_size_than_the_configurations_are_refused(data, tmp_path):
    plan = Plan(replace(TINY, width=96), LOSS, {'autoencoder': TrainerConfig(steps=1)}, 0)
    with pytest.raises(ConfigurationError, match=r'clip_000000\.safetensors is 48x32, but the images of the '
                                                 r'configuration are 96x32; make clips of that size'):
        train(plan, 'all', data, tmp_path)


@pytest.mark.parametrize('method', METHODS)
def test_holes_are_filled_as_the_generator_will_fill_them(clips, method):
    networks = Networks(replace(TINY, condition_fill=method,
                                autoencoder=replace(TINY.autoencoder, mend_width=8)))
    clip = clips.draw(2, torch.Generator().manual_seed(0))
    filled, mask = networks.guide(clip)
    for one, render, known in zip(filled, unit(clip.filled), mask, strict=True):
        black = torch.where(known > 0, render * 2 - 1, HOLE)
        # Clips keep a smooth fill, which is taken as it lies there.
        wanted = render if method == 'smooth' else (fill(Condition(black, known, black[:, 0]), method) + 1) / 2
        torch.testing.assert_close(one, wanted, rtol=0, atol=1e-6)
    known = (mask > 0).expand_as(filled)
    assert torch.equal(filled[known], unit(clip.filled)[known])
    assert torch.equal(filled, unit(clip.filled)) == (method == 'smooth')
    assert bool((filled[~known] == 0).all()) == (method == 'black')
    # A window that lies in a hole is filled by what is about it.
    rows, columns = slice(8, 24), slice(4, 20)
    for part, whole in zip(networks.guide(clip, rows, columns), (filled, mask), strict=True):
        assert torch.equal(part, whole[..., rows, columns])
    torch.testing.assert_close(networks.conditions(clip).render, networks.autoencoder.encode(filled))
    seen = []
    stage = MendStage(networks, clips, clips, LOSS)
    stage.mend.register_forward_hook(lambda _, given, made: seen.append(given))
    stage.loss(2, torch.Generator().manual_seed(0))
    render, known = seen[0]
    assert bool((render * (1 - known) == 0).all()) == (method == 'black')
    hidden = Networks(networks.config, ablation='no_render').guide(clip)
    assert torch.equal(hidden[0], torch.full_like(filled, 0. if method == 'black' else 0.5)) and not hidden[1].any()


def test_steps_belong_to_one_stage(data, tmp_path, capsys):
    config = tmp_path / 'plan.json'
    config.write_text(yaml.safe_dump({'generator': to_dict(TINY), 'stages': {'initialisation': {'steps': 5}}}))
    assert main(['--config', str(config), '--data', str(data), '--output', str(tmp_path), '--steps', '1']) == 1
    assert 'belong to one stage; name it by --stage, one of initialisation' in capsys.readouterr().err


def test_who_goes_on_without_the_weights_it_began_with_is_not_given_random_ones(data, tmp_path, capsys):
    export(Networks(TINY), tmp_path / 'weights', {})
    config = tmp_path / 'plan.json'
    settings = {'batch_size': 1, 'precision': 'float32'}

    def go(steps, *more):
        config.write_text(yaml.safe_dump({'generator': to_dict(TINY),
                                          'stages': {'initialisation': {'steps': steps, **settings}}}))
        return main(['--config', str(config), '--data', str(data), '--output', str(tmp_path / 'run'), *more])

    assert go(1, '--weights', str(tmp_path / 'weights')) == 0
    assert go(2) == 1
    assert "wanted 'nothing, as --weights was left out'" in capsys.readouterr().err
    assert go(2, '--weights', str(tmp_path / 'weights')) == 0


def test_joint_stage_learns_to_fill_holes(clips, tmp_path):
    trainer = joint_trainer(clips, tmp_path, steps=60, batch_size=4, learning_rate=3e-3, warmup_steps=5)
    losses = [trainer.take_step()[0] for _ in range(60)]
    assert sum(losses[-10:]) / 10 < 0.7 * sum(losses[:10]) / 10


@pytest.mark.parametrize('positions', ['grid', 'reprojected'])
def test_roll_out_is_what_the_block_generator_makes(clips, positions):
    networks = Networks(replace(TINY, positions=positions))
    for parameter in networks.transformer.parameters():
        nn.init.normal_(parameter, std=0.05)
    conditions = networks.conditions(clips.draw(2, torch.Generator().manual_seed(0)))
    noise = networks.draw_noise(2, torch.Generator().manual_seed(1))
    with torch.no_grad():
        rolled = networks.roll_out(conditions, noise, noise.shape[1] - 1)
    state = networks.blocks.init(2, torch.Generator())
    parts = [conditions.block(index, networks.frames) for index in range(2)]
    blocks = [networks.blocks.step(state, part.reference, part.render, part.mask, noise[index], *part.positions)
              for index, part in enumerate(parts)]
    torch.testing.assert_close(torch.cat(blocks, 1), rolled, atol=1e-4, rtol=1e-4)


def test_gradient_flows_through_the_exit_pass_of_every_block_alone(clips):
    networks = Networks(TINY)
    nn.init.normal_(networks.transformer.head.head.weight, std=0.1)
    conditions = networks.conditions(clips.draw(1, torch.Generator().manual_seed(0)))
    noise = networks.draw_noise(1, torch.Generator().manual_seed(1)).requires_grad_()
    latent = networks.roll_out(conditions, noise, 2)
    latent.square().sum().backward()
    reached = noise.grad.abs().sum(dim=(2, 3, 4, 5, 6)) > 0
    assert reached.tolist() == [[False, False, True, False]] * 2


def test_augmented_clip_stays_consistent():
    clip = make_clip(3)
    for seed in range(5):
        changed = augment(clip, torch.Generator().manual_seed(seed))
        known = changed.mask.expand_as(changed.truth) > 0
        assert torch.equal(changed.truth[known], changed.filled[known])
        assert torch.equal(changed.reference, changed.truth)


def test_figures_agree_with_their_definition():
    truth = torch.zeros(2, 3, 3, 8, 8)
    mask = torch.ones(2, 3, 1, 8, 8)
    mask[..., :4] = 0
    image = torch.where(mask > 0, 0.1, 0.2).expand_as(truth).clone()
    image[1] *= 2
    figures = Figures()
    figures.add(image, truth, mask)
    found = figures.psnr()
    byte = {value: round(value * 255) / 255 for value in (0.1, 0.2, 0.4)}
    each = [(byte[0.1]**2 + byte[0.2]**2) / 2, (byte[0.2]**2 + byte[0.4]**2) / 2]
    db = -10 * torch.log10(torch.tensor([*each, (byte[0.1]**2 + byte[0.2]**2) / 2, (byte[0.2]**2 + byte[0.4]**2) / 2]))
    assert found['all'] == pytest.approx(float(db[:2].mean()), abs=1e-3)
    assert found['known'] == pytest.approx(float(db[2]), abs=1e-3)
    assert found['holes'] == pytest.approx(float(db[3]), abs=1e-3)


def test_weights_too_large_or_missing_are_refused(tmp_path, monkeypatch):
    with pytest.raises(WeightsError, match='config.json'):
        load_networks(tmp_path)
    monkeypatch.setattr('inspatio_ros.training.export.LARGEST_BYTES', 1000)
    with pytest.raises(WeightsError, match='larger than 1000 bytes'):
        export(Networks(TINY), tmp_path, {})


def test_folder_without_clips_says_how_to_make_some(tmp_path):
    (tmp_path / 'clip_000000.safetensors').write_bytes(b'nothing')
    with pytest.raises(RecordingError, match='inspatio_ros.training.clips'):
        ClipFolder(tmp_path)


def test_configuration_errors_name_what_is_wrong(tmp_path, capsys):
    bad = tmp_path / 'bad.yaml'
    bad.write_text(json.dumps({'generator': {'name': 'x'}, 'stages': {'teach': {'steps': 1}}}))
    with pytest.raises(ConfigurationError, match="stage 'teach' is unknown"):
        read_plan(bad)
    bad.write_text(json.dumps({'generator': {'nme': 'x'}, 'stages': {}}))
    with pytest.raises(ConfigurationError, match="no field 'nme'"):
        read_plan(bad)
    for plain, what in (({'stages': {}}, 'has no generator'),
                        ({'stages': {'mend': {}}}, 'stage mend has no steps'),
                        ({'stages': {'mend': {'steps': 0}}}, 'stage mend: steps 0 is not'),
                        ({'stages': {'mend': {'steps': 9, 'learning_rate': '2e-5'}}}, 'write 2.0e-5'),
                        ({'stages': {'mend': {'steps': 9, 'precision': 'bf16'}}}, 'choose one of auto, bfloat16'),
                        ({'stages': {'mend': {'steps': 9, 'betas': 0.9}}}, r'betas 0\.9 is not a list'),
                        ({'jdmd': {'fake_rate': '5e-1'}}, r"fake_rate '5e-1' is not a number; write 2\.0e-5, not 2e-5"),
                        ({'scale': {'accumulate': '2'}}, "accumulate '2' is not a whole number"),
                        ({'scale': {'checkpoint_activations': 1}}, 'checkpoint_activations 1 is not true or false'),
                        ({'scale': {'compile': True}}, 'compile True is not a word'),
                        ({'seed': 'abc'}, "seed 'abc' is not a whole number"),
                        ({'loss': 3}, 'loss is 3, and should be a group of settings'),
                        ({'generator': {'name': 'x', 'width': 64, 'height': 32}, 'stages': {'mend': {'steps': 9}}},
                         'loss.crop is 96x96, rows by columns, and pictures have 32x64; stage mend needs smaller')):
        generator = {} if 'has no generator' in what else {'generator': {'name': 'x'}}
        bad.write_text(json.dumps({**generator, **plain}))
        with pytest.raises(ConfigurationError, match=what):
            read_plan(bad)
    bad.write_text('generator: {name: x}\nloss:\nscale:\nstages:\n')
    assert not read_plan(bad).stages
    bad.write_text(json.dumps({'generator': {'nme': 'x'}, 'stages': {}}))
    assert main(['--config', str(bad), '--data', str(tmp_path), '--output', str(tmp_path / 'run')]) == 1
    assert 'nme' in capsys.readouterr().err
    assert not (tmp_path / 'run').exists()


def test_configuration_says_only_where_it_differs_from_its_base(tmp_path):
    shipped, small = (read_plan(PROJECT / 'config' / 'training' / f'{name}.yaml')
                      for name in ('nano', 'nano_two_cores'))
    assert as_trained(small.generator) == as_trained(shipped.generator)
    assert small.generator.autoencoder.texture_scale < shipped.generator.autoencoder.texture_scale == 1
    assert small.loss == shipped.loss
    assert list(small.stages) == list(shipped.stages)
    assert small.stages['texture'] == shipped.stages['texture']
    differing = small.stages['spread'], shipped.stages['spread']
    assert differing[0].batch_size < differing[1].batch_size
    assert differing[0].learning_rate == differing[1].learning_rate


def test_base_of_a_configuration_that_cannot_be_read_is_named(tmp_path):
    above, below = tmp_path / 'above.yaml', tmp_path / 'below.yaml'
    above.write_text('base: below.yaml\nseed: 3\n')
    with pytest.raises(ConfigurationError, match=r'below\.yaml cannot be read'):
        read_plan(above)
    below.write_text('base: above.yaml\n')
    with pytest.raises(ConfigurationError, match='has a base itself'):
        read_plan(above)
    below.write_text('just words\n')
    with pytest.raises(ConfigurationError, match=r'below\.yaml holds no settings'):
        read_plan(above)
    below.write_text(json.dumps({'generator': {'name': 'x', 'width': 64, 'height': 32}, 'seed': 1}))
    plan = read_plan(above)
    assert plan.generator.name == 'x'
    assert plan.seed == 3
    above.write_text('base: below.yaml\nseed: 3\ngenerator:\n  # name: y\n')
    assert read_plan(above) == plan



def test_principal_components_start_the_autoencoder(clips):
    networks = Networks(TINY)
    before = networks.autoencoder
    start_from_components(before, clips)
    clip = next(clips.batches(2))
    truth = unit(clip.truth)
    latent = before.encode(truth)
    nothing = torch.zeros_like(truth), torch.zeros_like(clip.mask, dtype=torch.float32)
    again = before.decode(latent, nothing)
    # Sixteen smooth components hold nearly all of these smooth clips, at unit scale.
    assert (again - truth).square().mean() < 0.2 * truth.var()
    assert 0.3 < latent.std() < 3


def test_metadata_of_weights_names_what_the_clips_were_made_from(tmp_path, clips):
    clip = clips.draw(1, torch.Generator().manual_seed(0))
    for name, about in (('1', {'seed': 7}), ('2', {'seed': 8}), ('3', {'seed': 11}),
                        ('real_1', {'recording': 'office'})):
        save_clip(tmp_path / f'clip_{name}.safetensors', clip, about)
    assert ClipFolder(tmp_path).description() == (
        '3 clips of procedural scenes, seeds 7-8, 11; 1 clips of the recording office')


def test_shipped_weights_are_small_and_say_where_they_come_from():
    folder = packaged_folder('nano')
    files = sorted(folder.glob('*.safetensors'))
    assert [file.name for file in files] == ['autoencoder.safetensors', 'text.safetensors', 'transformer.safetensors']
    for file in files:
        about = load_tensors(file)[1]
        assert file.stat().st_size <= LARGEST_BYTES, file
        assert about['licence'] == 'Apache-2.0' and about['commit'] and about['steps'] and about['held_out_psnr']
        assert 'seeds' in about['data'] and about['config'] == json.loads((folder / 'config.json').read_text())
        assert not re.search(r'"/|\.\./|~/', json.dumps(about)), 'no folder of the machine that trained them'


def test_a_teacher_s_held_out_error_is_a_mean_over_clips_and_not_over_batches():
    assert _mean([(4, {'error': 1.}), (1, {'error': 6.})]) == {'error': 2.}
