# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Teachers and distillation: samples go where the teacher wants them, and who learns when."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
import yaml
from small_clips import views_like
from test_real_data import write_video
from test_training import FRAMES, TINY, make_clip, write_data
from torch import nn

from inspatio_ros.config import SchedulerConfig, to_dict
from inspatio_ros.errors import ConfigurationError
from inspatio_ros.spatial.positions import BlockViews, block_positions, latent_views
from inspatio_ros.star.checkpoint import TensorFile
from inspatio_ros.star.scheduler import FlowScheduler, mix
from inspatio_ros.training import teacher_samples
from inspatio_ros.training.checkpoint import CheckpointError, CheckpointFolder, load_tensors, tensors_under
from inspatio_ros.training.data import TOKEN, ClipFolder
from inspatio_ros.training.distributed import ScaledTrainer
from inspatio_ros.training.encoded import EncodedClips, EncodingConfig
from inspatio_ros.training.export import export
from inspatio_ros.training.further import FurtherStages
from inspatio_ros.training.jdmd import JdmdConfig, JdmdStage, Scores, dmd_direction
from inspatio_ros.training.networks import Networks
from inspatio_ros.training.self_forcing import Conditions
from inspatio_ros.training.teachers import (
    RESIDUAL_VARIANCE,
    Denoiser,
    NoiseLevels,
    TeacherConfig,
    carried,
    preconditioning,
    sample,
)
from inspatio_ros.training.train import main
from inspatio_ros.training.trainer import TrainerConfig

FIX = TrainerConfig(steps=20, batch_size=2, precision='float32', learning_rate=1e-3, warmup_steps=0)


def random_weights(net, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.1, generator=generator)
    return net


# Distribution matching


class GaussianDenoiser:
    """The best denoiser there is for values drawn from N(mean, std)."""

    config = type('Config', (), {'scheduler': SchedulerConfig()})

    def __init__(self, mean, std):
        self.mean, self.std = mean, std

    def clean(self, x_t, timestep, conditions, text, guidance=1.):
        sigma = (timestep / 1000).view(-1, 1, 1, 1, 1)
        gain = self.std**2 * (1 - sigma) / ((1 - sigma)**2 * self.std**2 + sigma**2)
        return self.mean + gain * (x_t - (1 - sigma) * self.mean)


@pytest.mark.parametrize('passes', [1, 256])
def test_samples_of_a_denoiser_have_its_mean_and_after_many_passes_its_spread(passes):
    noise = torch.randn(64, 1, 16, 4, 6, generator=torch.Generator().manual_seed(2))
    found = sample(GaussianDenoiser(0.7, 0.3), noise, None, torch.zeros(1, 2, 8), passes)
    assert float(found.mean()) == pytest.approx(0.7, abs=0.01)
    assert float(found.std()) == pytest.approx(0.3 if passes > 1 else 0., abs=0.02)


def match(student, teacher, follow=True, steps=400):
    """Train a student (mean, std) by distribution matching; its fake score follows it or stays where it was."""
    generator = torch.Generator().manual_seed(0)
    parameters = torch.tensor(student, requires_grad=True)
    start = GaussianDenoiser(*student)
    for _ in range(steps):
        x = parameters[0] + parameters[1] * torch.randn(64, 2, 4, 2, 2, generator=generator)
        fake = GaussianDenoiser(float(x.detach().mean()), float(x.detach().std())) if follow else start
        timestep = NoiseLevels().draw(64, FlowScheduler(), generator)
        noise = torch.randn(x.shape, generator=generator)
        x.backward(Scores(GaussianDenoiser(*teacher), fake).gradient(x.detach(), timestep, noise, None, None))
        with torch.no_grad():
            parameters -= 0.05 * parameters.grad
        parameters.grad = None
    return parameters.tolist()


@pytest.mark.parametrize(('student', 'teacher'), [((-1., 0.3), (2., 1.)), ((1., 1.5), (0., 0.5))])
def test_samples_become_the_teachers_distribution_in_mean_and_spread(student, teacher):
    mean, std = match(student, teacher)
    assert mean == pytest.approx(teacher[0], abs=0.08)
    assert std == pytest.approx(teacher[1], abs=0.08)


def test_fake_score_that_does_not_follow_leads_past_the_teacher():
    mean, _ = match((-1., 0.3), (2., 1.), follow=False)
    assert mean > 2.5


def test_direction_is_normalised_by_sample_and_points_from_fake_to_real():
    x, real, fake = torch.zeros(2, 3), torch.tensor([[2., 2., 2.], [20., 20., 20.]]), torch.zeros(2, 3)
    assert torch.equal(dmd_direction(x, real, fake), -torch.ones(2, 3))
    assert torch.isfinite(dmd_direction(x, x, fake)).all()


def test_noise_levels_are_shifted_towards_noise_and_clamped():
    drawn = NoiseLevels().draw(4000, FlowScheduler(), torch.Generator().manual_seed(0))
    assert drawn.min() >= 20 and drawn.max() <= 980
    # The median of uniform steps, warped by 5: 5 * 0.5 / (1 + 4 * 0.5).
    assert float(drawn.median()) == pytest.approx(1000 * 2.5 / 3, abs=15)


# Denoisers


def conditions_like(x, reference=True):
    generator = torch.Generator().manual_seed(5)
    mask = torch.randn(*x.shape[:2], 4, *x.shape[3:], generator=generator).sign()
    draw = [torch.randn(x.shape, generator=generator) for _ in range(2)]
    return Conditions(draw[0] if reference else None, draw[1], mask)


@pytest.fixture
def noisy():
    return torch.randn(2, 6, 16, 4, 6, generator=torch.Generator().manual_seed(1)), torch.tensor([300., 700.])


@pytest.mark.parametrize('prediction', ['flow', 'residual'])
@pytest.mark.parametrize('given', [True, False])
def test_both_kinds_of_prediction_mean_the_same_clean_latents(noisy, prediction, given, monkeypatch):
    x0, timestep = noisy
    noise = torch.randn(x0.shape)
    conditions = conditions_like(x0) if given else None
    x_t = mix(x0, noise, timestep / 1000)
    start, scale = preconditioning(x_t, timestep / 1000, conditions)
    wanted = noise - x0 if prediction == 'flow' else (x0 - start) / scale
    denoiser = Denoiser(TINY, prediction)
    monkeypatch.setattr(denoiser, 'forward', lambda *a: wanted)
    text = torch.zeros(1, 2, 8)
    torch.testing.assert_close(denoiser.clean(x_t, timestep, conditions, text), x0, rtol=1e-4, atol=1e-4)
    assert float(denoiser.loss(x0, timestep, noise, conditions, text).max()) < 1e-10
    assert float(denoiser.loss(x0 + 1, timestep, noise, conditions, text).min()) > 0.1


def test_weights_say_how_much_a_channel_counts(noisy):
    x0, timestep = noisy
    denoiser, weights = random_weights(Denoiser(TINY, 'residual')), torch.zeros(16)
    given = x0, timestep, torch.ones_like(x0), conditions_like(x0), torch.zeros(1, 2, 8)
    with torch.no_grad():
        by_channel = [denoiser.loss(*given, torch.eye(16)[channel]) for channel in range(16)]
        torch.testing.assert_close(sum(by_channel), denoiser.loss(*given))
        torch.testing.assert_close(denoiser.loss(*given, weights), torch.zeros(2))


def test_preconditioning_goes_from_the_render_to_the_noisy_latents(noisy):
    x_t, _ = noisy
    given = conditions_like(x_t)
    start, scale = preconditioning(x_t, torch.ones(2), given)
    torch.testing.assert_close(start, given.render)
    torch.testing.assert_close(scale, torch.ones_like(scale))
    start, scale = preconditioning(x_t, torch.tensor([1e-4, 1e-4]), None)
    torch.testing.assert_close(start, x_t, atol=1e-3, rtol=1e-3)
    assert float(scale.max()) < 1e-3
    start, _ = preconditioning(x_t, torch.ones(2), None)
    assert not start.any()


@pytest.mark.parametrize('known', [False, True])
@pytest.mark.parametrize('sigma', [0.1, 0.5, 0.9])
def test_preconditioning_leaves_a_residual_of_one_size_at_all_noise_levels(known, sigma):
    """Were latents as RESIDUAL_VARIANCE says, the network would have to give what has that very variance."""
    generator = torch.Generator().manual_seed(0)
    render, off, noise = (torch.randn(1, 6, 16, 32, 48, generator=generator) for _ in range(3))
    variance = RESIDUAL_VARIANCE[known]
    x0 = render + variance ** 0.5 * off
    mask = torch.full((1, 6, 4, 32, 48), 1. if known else -1.)
    sigmas = torch.tensor([sigma])
    start, scale = preconditioning(mix(x0, noise, sigmas), sigmas, Conditions(None, render, mask))
    assert float(((x0 - start) / scale).square().mean()) == pytest.approx(variance, rel=0.02)
    # And nothing is left in it that the noisy latents say about it.
    assert abs(float(((x0 - start) * (mix(x0, noise, sigmas) - (1 - sigma) * render)).mean())) < 0.01


def test_places_are_carried_as_the_tokens_of_the_first_camera_move():
    views = views_like(21, 6, step=0.1)
    first, last = (latent_views(BlockViews(views.K, views.block[part], views.reference[3:]), 3, 4, part.start == 0)
                   for part in (slice(0, 9), slice(9, 21)))
    seen = block_positions(last, first.block, TOKEN).previous[:, 1]
    own = block_positions(first, None, TOKEN)
    # A wall: all of it moves alike, so that places which are carried are those that are computed.
    torch.testing.assert_close(carried(own.reference, seen),
                               block_positions(last, None, TOKEN).reference, atol=1e-4, rtol=0)
    grid = own.block[:, 1]
    torch.testing.assert_close(carried(grid[:, None], seen)[:, 0], seen)


def test_teacher_looks_where_geometry_places_what_is_given(noisy):
    x_t, timestep = (part[:1] for part in noisy)
    networks, clip = Networks(dataclasses.replace(TINY, positions='reprojected')), make_clip(0, stills=True)
    denoiser, text = random_weights(Denoiser(networks.config, 'residual')), torch.randn(1, 2, 8)
    near, far = (networks.place(dataclasses.replace(clip, views=views_like(FRAMES, 6, step=step)))
                 for step in (0.05, 0.2))
    with torch.no_grad():
        made = [denoiser(x_t, timestep, dataclasses.replace(conditions_like(x_t), positions=positions), text)
                for positions in ((), near, far)]
    assert not torch.allclose(made[0], made[1]) and not torch.allclose(made[1], made[2])


def test_task_without_conditions_is_the_same_network_with_zero_geometry(noisy):
    x_t, timestep = noisy
    denoiser, text = random_weights(Denoiser(TINY)), torch.randn(1, 2, 8)
    zero = conditions_like(x_t).without_geometry(keep_reference=False)
    with torch.no_grad():
        alone = denoiser(x_t, timestep, None, text)
        torch.testing.assert_close(denoiser(x_t, timestep, zero, text), alone)
        for conditions in (conditions_like(x_t), conditions_like(x_t, reference=False)):
            found = denoiser(x_t, timestep, conditions, text)
            assert found.shape == x_t.shape and not torch.allclose(found, alone)
        later = x_t.clone()
        later[:, -1] += 1
        # Bidirectional: the first frame sees the last.
        assert not torch.allclose(denoiser(later, timestep, None, text)[:, 0], alone[:, 0])


def test_guidance_moves_on_from_the_estimate_without_a_caption(noisy):
    x_t, timestep = noisy
    denoiser, text = random_weights(Denoiser(TINY)), torch.randn(1, 2, 8)
    with torch.no_grad():
        with_text, without = (denoiser.clean(x_t, timestep, None, t) for t in (text, torch.zeros_like(text)))
        found = denoiser.clean(x_t, timestep, None, text, guidance=3.)
    torch.testing.assert_close(found, without + 3 * (with_text - without))
    assert not torch.allclose(with_text, without)


def test_unknown_settings_are_named():
    with pytest.raises(ConfigurationError, match="'velocity' is unknown"):
        Denoiser(TINY, 'velocity')
    with pytest.raises(ConfigurationError, match="'some' is unknown"):
        JdmdConfig(vis_conditions='some')
    with pytest.raises(ConfigurationError, match='must be among vis, ctrl'):
        JdmdConfig(tasks=('visual',))


# The stage


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp('data'), 3, 1)


def make_stage(data, **settings):
    networks = Networks(TINY)
    clips = EncodedClips(networks, ClipFolder(data / 'train'), EncodingConfig())
    random_weights(networks.transformer)
    teachers = {task: random_weights(Denoiser(TINY), seed) for seed, task in enumerate(('vis', 'ctrl'), start=1)}
    return JdmdStage(networks, clips, clips.clips, JdmdConfig(**settings), teachers)


def state(stage):
    nets = {**stage.modules, **{f'teacher_{task}': scores.teacher for task, scores in stage.scores.items()}}
    return {name: torch.cat([value.detach().flatten().clone() for value in net.parameters()])
            for name, net in nets.items()}


def test_fakes_learn_every_step_of_their_task_and_the_student_the_last_of_a_round(data, tmp_path):
    stage = make_stage(data, student_every=2)
    trainer = ScaledTrainer(stage, FIX, tmp_path)
    moved = []
    for _ in range(4):
        before = state(stage)
        trainer.take_step()
        after = state(stage)
        moved.append({name for name in after if not torch.equal(before[name], after[name])})
    assert moved == [{'fake_vis'}, {'fake_vis', 'transformer'}, {'fake_ctrl'}, {'fake_ctrl', 'transformer'}]


@pytest.mark.parametrize('precision', ['float32', 'bfloat16'])
def test_gradient_reaches_every_part_of_the_student_and_lambda_scales_it(data, tmp_path, precision):
    found = {}
    for weight in (1., 4.):
        stage = make_stage(data, tasks=('ctrl',), student_every=1, lambda_ctrl=weight)
        trainer = ScaledTrainer(stage, dataclasses.replace(FIX, precision=precision), tmp_path / str(weight))
        # A fake score starts as its teacher, and then there is nothing to follow yet.
        random_weights(stage.scores['ctrl'].fake, 9)
        trainer._accumulate(torch.Generator().manual_seed(0))
        found[weight] = {name: value.grad for name, value in stage.networks.transformer.named_parameters()}
    for name, value in found[1.].items():
        assert value is not None and value.abs().max() > 0, name
    assert sum(float(v.norm())**2 for v in found[4.].values())**0.5 == pytest.approx(
        4 * sum(float(v.norm())**2 for v in found[1.].values())**0.5, rel=0.02)


def test_task_without_geometry_hides_render_and_mask_from_the_student(data):
    stage = make_stage(data)
    _, whole = stage.encoded.draw(1, torch.Generator().manual_seed(0))
    for setting, reference, geometry in (('none', False, False), ('reference', True, False), ('all', True, True)):
        stage.config = JdmdConfig(vis_conditions=setting)
        given = stage._given('vis', whole)
        assert (given.reference is not None) == reference
        assert bool(given.render.any() or given.mask.any()) == geometry
        assert stage._given('ctrl', whole) is whole


def test_averages_follow_only_what_has_moved(data, tmp_path):
    stage = make_stage(data, student_every=2)
    trainer = ScaledTrainer(stage, FIX, tmp_path)
    before = {name: value.clone() for name, value in trainer.ema.items()}
    trainer.parameters['transformer.head.head.bias'].data += 1
    trainer.take_step()
    assert torch.equal(trainer.ema['transformer.head.head.bias'], before['transformer.head.head.bias'])
    name = 'fake_vis.transformer.head.head.bias'
    assert not torch.equal(trainer.ema[name], before[name])


def test_weights_stand_in_for_the_real_teacher_alone(data, tmp_path, capsys):
    networks, clips = Networks(TINY), ClipFolder(data / 'train')
    export(networks, tmp_path, {})
    encoded = EncodedClips(networks, clips, EncodingConfig())
    for weights, missing in ((tmp_path, None), (None, 'real_teacher')):
        further = FurtherStages(networks, encoded, clips, TeacherConfig(), JdmdConfig(), weights=weights)
        for name in ('motion_teacher', 'real_teacher'):
            further.make(name, will_train=False)
            further.done(name, 0)
        with pytest.raises(ConfigurationError, match='jdmd needs the teacher of stage'):
            further.make('jdmd', will_train=True)
        further.done('motion_teacher', 1)
        if missing:
            with pytest.raises(ConfigurationError, match=f'stage {missing}, .* or start from --weights'):
                further.make('jdmd', will_train=True)
        else:
            further.jdmd = JdmdConfig(guidance=3.)
            stage = further.make('jdmd', will_train=True)
            assert stage.scores.keys() == {'vis', 'ctrl'}
            # What stands in was never trained without a caption, so there is nothing to guide it away from.
            assert stage._guidance == {'vis': 1., 'ctrl': 3.}
            assert 'real_teacher are not guided' in capsys.readouterr().err


# From the command line


def test_stages_run_one_after_the_other_and_go_on_where_they_stopped(data, tmp_path, capsys):
    video = write_video(tmp_path / 'video.mp4', 60)
    few = {'steps': 2, 'batch_size': 1, 'save_every': 2, 'log_every': 1, 'precision': 'float32'}
    plan = {'generator': to_dict(TINY), 'loss': {'crop': [32, 32], 'rolled_out': 1},
            'stages': {name: few for name in ('initialisation', 'spread', 'motion_teacher', 'real_teacher', 'jdmd',
                                              'finish')},
            'teacher': {'prediction': 'residual', 'weigh_channels': True},
            'jdmd': {'student_every': 1, 'noise': {'low': 30.}}}
    config = tmp_path / 'plan.yaml'

    def train(stage, *more):
        config.write_text(yaml.safe_dump(plan))
        return main(['--config', str(config), '--data', str(data), '--output', str(tmp_path / 'run'), '--device', 'cpu',
                     '--stage', stage, *more])

    # Said before hours are spent.
    assert train('all') == 1
    assert 'name RGB-D folders, videos or folders of images with --real' in capsys.readouterr().err
    assert not (tmp_path / 'run').exists()
    assert train('causal_init') == 0
    assert train('spread') == 0
    assert train('jdmd') == 1
    assert 'jdmd needs the teacher of stage real_teacher' in capsys.readouterr().err
    looked_at = ['--config', str(config), '--clips', str(data / 'held_out'), '--run', str(tmp_path / 'run'),
                 '--passes', '1', '2', '--count', '2']
    assert teacher_samples.main(looked_at) == 1
    assert 'train it with --stage motion_teacher' in capsys.readouterr().err
    assert train('motion_teacher') == 0
    assert teacher_samples.main(looked_at) == 0
    rows = capsys.readouterr().out.splitlines()[-5:]
    assert [row.split(' | ')[0] for row in rows] == ['| smooth fill', '| latents of the truth', '| student',
                                                     '| teacher, passes: 1', '| teacher, passes: 2']
    assert train('real_teacher') == 1
    assert 'name RGB-D folders, videos or folders of images with --real' in capsys.readouterr().err
    assert train('real_teacher', '--real', str(video)) == 0
    assert train('jdmd') == 0
    weights = tmp_path / 'run' / 'weights'
    about = TensorFile(weights / 'transformer.safetensors').metadata
    steps = json.loads(about['steps'])
    assert steps == {'initialisation': 2, 'spread': 2, 'motion_teacher': 2, 'real_teacher': 2, 'jdmd': 2}
    assert about['real_data'] == '["video.mp4"]', 'the name alone: no folder of this machine'

    # The decoder learns from the distilled student, whose teachers are not needed any more.
    student = tensors_under(CheckpointFolder(tmp_path / 'run' / 'jdmd' / 'checkpoints').newest()[1], 'ema.transformer.')
    (tmp_path / 'run' / 'real_teacher' / 'checkpoints').rename(tmp_path / 'teacher')
    assert train('finish') == 0
    (tmp_path / 'teacher').rename(tmp_path / 'run' / 'real_teacher' / 'checkpoints')
    shipped, about = load_tensors(weights / 'transformer.safetensors')
    assert all(torch.equal(shipped[name], value) for name, value in student.items())
    assert about['steps'] == {'initialisation': 2, 'spread': 2, 'jdmd': 2, 'finish': 2}
    assert about['real_data'] == ['video.mp4']
    further = FurtherStages(Networks(dataclasses.replace(TINY, noise_scale=0.5)), None, None, TeacherConfig(), None)
    with pytest.raises(CheckpointError, match='noise_scale: wanted 0.5, found 1.0'):
        further.take_student(tmp_path / 'run')

    few['steps'] = 3
    assert train('jdmd') == 0
    saved = CheckpointFolder(tmp_path / 'run' / 'jdmd' / 'checkpoints').paths()
    assert [path.name for path in saved] == ['step_00000002.safetensors', 'step_00000003.safetensors']
    assert list(Path(tmp_path / 'run' / 'jdmd').glob('events.*'))
    plan['jdmd']['lambda_ctrl'] = 2.
    assert train('jdmd') == 1
    assert 'jdmd.lambda_ctrl: wanted 2.0, found 1.0' in capsys.readouterr().err
