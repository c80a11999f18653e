# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Evaluation: every figure is shown a generator whose figure is known, and a whole run goes through the command."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
import torch

from inspatio_ros.cli import main
from inspatio_ros.evaluation import candidates as candidates_module
from inspatio_ros.evaluation import scores
from inspatio_ros.evaluation.candidates import FILLS, Observed, observe
from inspatio_ros.evaluation.latents import clip_features
from inspatio_ros.evaluation.plots import frames_of_all
from inspatio_ros.evaluation.protocol import (
    Film,
    Setting,
    drift,
    evaluate,
    judge,
    make_film,
    seen_by_stills,
    shown_in_block_before,
)
from inspatio_ros.evaluation.report import cells, notes, page, table, write_report
from inspatio_ros.evaluation.scores import Judged, Pixels, Score
from inspatio_ros.evaluation.suites import ANOTHER_FRAME, BLOCK_BEFORE, Clip, Loop, Suite, open_suite
from inspatio_ros.evaluation.targets import Target, targets
from inspatio_ros.evaluation.worlds import Truth
from inspatio_ros.generators import RenderGenerator
from inspatio_ros.geometry import PinholeCamera, make_pose
from inspatio_ros.reference.base import Reference, ReferenceFrame
from inspatio_ros.star.autoencoder import TinyAutoencoder
from inspatio_ros.star.pipeline import StarPipeline
from inspatio_ros.star.presets import TINY_GUIDED
from inspatio_ros.training.export import export
from inspatio_ros.training.networks import Networks

WIDTH, HEIGHT = 96, 64
CAMERA = PinholeCamera(80., 80., 47.5, 31.5, WIDTH, HEIGHT)
WALL_Z = 2.


def wall_image(x0: float, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """Look at a wall 2 m away from x0: smooth stripes of a pattern that is different everywhere."""
    columns, rows = np.meshgrid(np.arange(width), np.arange(height))
    x = (columns - CAMERA.cx) / CAMERA.fx * WALL_Z + x0
    y = (rows - CAMERA.cy) / CAMERA.fy * WALL_Z
    red, green, blue = np.sin(5. * x + y), np.cos(3. * x - 4. * y), np.sin(7. * x * (1 + .1 * x))
    return (127 + 100 * np.stack([red, green, blue], axis=-1)).round().astype(np.uint8)


class Wall(Reference):
    """A recording of the wall from a camera that stands at each x of `places`."""

    def __init__(self, places: np.ndarray, is_static: bool = True) -> None:
        self.name, self.is_static, self.camera = 'wall', is_static, CAMERA
        self.times = np.arange(len(places)) / 12.
        self.T_world_camera = np.stack([make_pose(translation=np.array([x, 0., 0.])) for x in places])
        self.up = np.array([0., -1., 0.])

    def frame(self, index: int) -> ReferenceFrame:
        T = self.T_world_camera[index]
        return ReferenceFrame(index, self.times[index], wall_image(T[0, 3]),
                              np.full((HEIGHT, WIDTH), WALL_Z, np.float32), T)


def wall_clip(recorded: np.ndarray, wanted: np.ndarray, is_static: bool = True, **more: object) -> Clip:
    poses = np.stack([make_pose(translation=np.array([x, 0., 0.])) for x in wanted])

    def look(camera: PinholeCamera, index: int) -> Truth:
        return Truth(wall_image(wanted[index]), np.full((HEIGHT, WIDTH), WALL_Z, np.float32),
                     np.zeros((HEIGHT, WIDTH), bool))

    return Clip('wall', Wall(recorded, is_static), poses, np.arange(len(wanted)) / 12., look,
                tuple(range(len(wanted))), **more)


def render(fill: str = 'smooth') -> Observed:
    return Observed(RenderGenerator(CAMERA, WIDTH, HEIGHT, fill))


class Fading(RenderGenerator):
    """Gets darker with every block."""

    def reset(self, seed: int) -> None:
        self._left = 1.

    def step(self, condition, reference_images=None, reference_keys=None):
        self._left *= 0.9
        images, timings = super().step(condition)
        return (images + 1) * self._left - 1, timings


class Knowing(RenderGenerator):
    """Paints the truth of the wall, shifted, and one level off in its first and last columns: the best there can be."""

    def __init__(self, wanted: np.ndarray, shift: int = 0, offset: int = 0) -> None:
        super().__init__(CAMERA, WIDTH, HEIGHT)
        self._images = np.stack([np.roll(wall_image(x), shift, axis=1) for x in wanted])
        self._images[:, :, [0, -1]] += np.uint8(offset)
        self._done = 0

    def reset(self, seed: int) -> None:
        self._done = 0

    def step(self, condition, reference_images=None, reference_keys=None):
        # The last block holds the last pose as often as it takes.
        index = np.minimum(self._done + np.arange(len(condition.mask)), len(self._images) - 1)
        images = self._images[index]
        self._done += len(images)
        return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1, {}


SIDEWAYS = np.linspace(0.1, 0.9, 21)


def one_clip_suite(clip: Clip, **more: object) -> Suite:
    return Suite('scenes', 'a wall', 1, lambda index, width, height: clip, **more)


def quiet(**more: object) -> Setting:
    return Setting(tell=lambda line: None, **more)


@pytest.fixture(scope='module')
def scenes():
    """Measure the render on one real clip of the suite, small."""
    autoencoder = StarPipeline.random(replace(TINY_GUIDED, width=WIDTH, height=HEIGHT)).autoencoder
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scores, 'LEAST_FEATURES', 200)
        return evaluate(open_suite('scenes', 1), {'render': render()}, quiet(autoencoder=autoencoder))


def test_the_render_is_its_own_smooth_baseline(scenes):
    """The generator `render` and the baseline smooth go two ways to the same pictures, so to the same figures."""
    candidates = scenes.figures['candidates']
    assert candidates['render'] == candidates['smooth']
    assert set(candidates) == {'render', *FILLS, 'truth'}
    assert candidates['black']['psnr']['known'] == candidates['nearest']['psnr']['known']


def test_the_truth_is_the_best_that_any_figure_can_be(scenes):
    truth, others = scenes.figures['candidates']['truth'], [scenes.figures['candidates'][name] for name in FILLS]
    assert truth['psnr'] == {'all': None, 'known': None, 'holes': None}
    assert truth['ssim']['all'] == 1. and truth['gradient_energy_in_holes'] == 1.
    assert truth['frechet_distance'] == pytest.approx(0., abs=1e-6)
    assert truth['camera']['rotation_degrees'] < 0.05 and truth['camera']['failures'] == 0
    assert scenes.figures['candidates']['smooth']['gradient_energy_in_holes'] < 0.5
    for other in others:
        assert other['ssim']['all'] < 1. and other['frechet_distance'] > 1e-4
        assert other['gradient_energy_in_holes'] != 1.
        assert other['warp_error']['all'] > truth['warp_error']['all']


def test_a_run_repeats_itself(scenes):
    again = evaluate(open_suite('scenes', 1), {'render': render()}, quiet())
    for name in ('psnr', 'ssim', 'camera', 'warp_error'):
        assert again.figures['candidates']['smooth'][name] == scenes.figures['candidates']['smooth'][name]
    assert again.figures['fingerprint'] == scenes.figures['fingerprint']


def test_psnr_is_the_mean_of_clips_and_pooled_by_region():
    truth = np.full((2, 8, 8, 3), 100, np.uint8)
    known = np.zeros((2, 8, 8), bool)
    known[:, :4] = True
    pixels = Pixels()
    for step in (1, 10):
        image = truth.copy()
        image[:, :4] += np.uint8(step)
        pixels.add(image, truth, known)
    figures = pixels.figures()
    one = [10 * math.log10(255**2 / (step**2 / 2)) for step in (1, 10)]
    assert figures['all'] == pytest.approx(np.mean(one))
    assert figures['known'] == pytest.approx(10 * math.log10(255**2 / ((1 + 100) / 2)))
    assert figures['holes'] == math.inf


def judged_wall(wanted: np.ndarray, known: np.ndarray | None = None, **more: object) -> Judged:
    clip = wall_clip(np.zeros(2), wanted)
    truth = [clip.look(CAMERA, i) for i in range(len(wanted))]
    known = np.ones((len(wanted), HEIGHT, WIDTH), bool) if known is None else known
    return Judged('wall', truth, known, CAMERA, clip.T_world_camera, clip.judged, **more)


def test_a_steady_picture_beats_a_trembling_one_in_consistency():
    wanted = np.linspace(0., 0.3, 5)
    judged = judged_wall(wanted)
    steady, trembling, still = Score(False), Score(False), Score(False)
    for score, shifts in ((steady, np.zeros(5)), (trembling, [0, 2, 0, 2, 0]), (still, [0, 0, 0, 0, 0])):
        images = np.stack([np.roll(wall_image(x), int(s), axis=1) for x, s in zip(wanted, shifts, strict=True)])
        score.add(judged, images if score is not still else images[:1].repeat(5, axis=0), judged.neighbours())
    errors = [score.figures(steady)['warp_error']['all'] for score in (steady, trembling, still)]
    assert errors[0] < 3. and errors[1] > 3 * errors[0] and errors[2] > 3 * errors[0]


def test_a_gain_is_forgiven_where_the_suite_says_so():
    judged = judged_wall(np.zeros(1), gain_fit=True)
    score = Score(False)
    score.add(judged, (judged.images * 0.8).round().astype(np.uint8), [])
    figures = score.figures(score)
    assert figures['psnr']['all'] < 25. < 45. < figures['psnr_after_gain_fit']['all']


def test_gradient_energy_is_told_apart_from_blur():
    import cv2
    known = np.ones((1, HEIGHT, WIDTH), bool)
    known[:, :, WIDTH // 2:] = False
    judged = judged_wall(np.zeros(1), known)
    truth, blurred = Score(False), Score(False)
    truth.add(judged, judged.images, [])
    blurred.add(judged, np.stack([cv2.GaussianBlur(image, (0, 0), 8.) for image in judged.images]), [])
    assert truth.figures(truth)['gradient_energy_in_holes'] == 1.
    assert blurred.figures(truth)['gradient_energy_in_holes'] < 0.5


def test_equal_visits_are_said_to_be_equal_and_others_are_compared():
    score, image = Score(False), wall_image(0.)
    score.add(judged_wall(np.zeros(1)), image[None], [])
    score.add_revisit(image, image, np.ones((HEIGHT, WIDTH), bool))
    assert score.figures(score)['revisit']['holes'] == {'psnr': None, 'identical': True}
    score.add_revisit(image, 255 - image, np.ones((HEIGHT, WIDTH), bool))
    assert score.figures(score)['revisit']['all']['psnr'] < 15.


def test_what_another_still_saw_is_found():
    """One view is rendered; the pixels that only the other stills show are the answers."""
    clip = wall_clip(np.array([0., 0.6, 1.2]), np.full(9, 0.1), max_views=1, answer=ANOTHER_FRAME)
    film = make_film(clip, render(), quiet(), with_baselines=False)
    judged = judge(clip, film)
    assert not judged.answer[judged.known].any()
    # The first still begins 0.1 m to the left, so 4 columns on the right are new, and the second still shows them.
    assert judged.answer[:, 8:-8, -3:].all() and not judged.answer[:, :, :-6].any()
    assert judged.answer_in == ANOTHER_FRAME
    assert seen_by_stills(clip, judged, film.blocks).mean() > 0.95


def test_what_the_block_before_showed_is_found_over_several_blocks():
    """A still camera: what only the first block knew is an answer in the second and, through it, in the third."""
    known = np.ones((33, HEIGHT, WIDTH), bool)
    known[9:, :, 48:] = False
    known[:, :10] = False
    answer = shown_in_block_before(judged_wall(np.zeros(33), known), [slice(0, 9), slice(9, 21), slice(21, 33)])
    assert not answer[:9].any()
    assert answer[9:, 10:, 48:].all()
    assert not answer[:, :10].any() and not answer[known].any()


def test_a_moving_recording_that_leaves_makes_answers_of_the_block_before():
    recorded = np.concatenate([np.zeros(9), np.full(12, 0.8)])
    clip = wall_clip(recorded, np.zeros(21), is_static=False, answer=BLOCK_BEFORE)
    judged = judge(clip, make_film(clip, render(), quiet(), with_baselines=False))
    assert judged.known[:9].all() and 0.2 < 1 - judged.known[9:].mean() < 0.5
    np.testing.assert_array_equal(judged.answer[9:], ~judged.known[9:])


def test_a_perfect_generator_gets_perfect_figures_and_a_shifted_one_does_not():
    clip = wall_clip(np.array([0., 0.1]), SIDEWAYS)
    perfect = evaluate(one_clip_suite(clip), {'ours': Observed(Knowing(SIDEWAYS))}, quiet()).figures['candidates']
    assert perfect['ours']['psnr'] == perfect['truth']['psnr']
    assert perfect['ours']['warp_error'] == perfect['truth']['warp_error']
    assert perfect['smooth']['psnr']['holes'] < 40.
    # Smooth stripes have no corners to go by: that is a failure, counted, and no pose.
    assert perfect['ours']['camera']['failures'] == perfect['ours']['camera']['measured'] > 0
    assert perfect['ours']['camera']['rotation_degrees'] is None


def test_a_generator_whose_pictures_show_no_camera_misses_even_if_one_of_them_is_right():
    def figures(failures: int) -> dict:
        generator = Observed(Knowing(SIDEWAYS))
        generator.name = 'nano'
        suite = one_clip_suite(wall_clip(np.array([0., 0.1]), SIDEWAYS))
        result = evaluate(suite, {'nano': generator}, quiet()).figures
        for name, failed in (('nano', failures), ('truth', 3)):
            result['candidates'][name]['camera'] = {
                'rotation_degrees': 0.1, 'translation_cm': 1., 'translation_percent_of_depth': 0.2, 'measured': 48,
                'failures': failed}
        return {target.what: target.holds for target in targets(result) if 'camera' in target.what}

    assert all(figures(3).values()) and len(figures(3)) == 3
    assert list(figures(47).values()) == [False, True, True]


def test_a_shifted_generator_is_far_from_the_truth():
    clip = wall_clip(np.array([0., 0.1]), SIDEWAYS)
    off = evaluate(one_clip_suite(clip), {'ours': Observed(Knowing(SIDEWAYS, shift=4))}, quiet())
    assert off.figures['candidates']['ours']['psnr']['all'] < 25.


def test_drift_is_none_for_the_render_and_found_in_a_generator_that_fades():
    clip = wall_clip(np.array([0., 0.1, 0.2]), 0.15 + 0.1 * np.sin(2 * np.pi * np.arange(24) / 24))
    loop = Loop(clip, 3)
    steady, row = drift(loop, render(), quiet())
    assert steady['frames'] == 72 and steady['compared'] == 24
    assert abs(steady['render']['change']) < 0.3
    assert len(steady['fingerprint']) == 12
    assert len(steady['render']['psnr_by_frame']) == 72 and len(steady['render']['laps']) == 3
    assert list(row[1]) == ['lap 1', 'lap 2', 'lap 3', 'truth']
    fading, _ = drift(loop, Observed(Fading(CAMERA, WIDTH, HEIGHT)), quiet())
    assert fading['render']['change'] < -3.
    assert fading['smooth'] == steady['smooth']


def test_the_last_block_is_cut_and_judged_by_its_own_frames():
    clip = wall_clip(np.array([0., 0.1]), SIDEWAYS[:14])
    film = make_film(clip, Observed(Knowing(SIDEWAYS)), quiet(), with_baselines=True)
    assert isinstance(film, Film) and len(film.images) == len(film.known) == len(film.baselines['smooth']) == 14
    assert film.blocks == [slice(0, 9), slice(9, 14)]
    np.testing.assert_array_equal(film.images[13], wall_image(SIDEWAYS[13]))


@pytest.fixture(scope='module')
def memory():
    """Run a tiny STAR of random weights through a clip of each kind of the memory suite."""
    star = StarPipeline.random(replace(TINY_GUIDED, name='nano', width=48, height=32))
    suite = open_suite('memory', 3)
    return evaluate(suite, observe(star, suite.ablations), quiet())


def test_memory_measures_what_each_part_of_the_cache_brings(memory):
    figures = memory.figures
    names = ['nano', 'nano no_reference', 'nano no_history']
    assert list(figures['candidates'])[:3] == names
    answers = [figures['candidates'][name]['psnr_of_answers'] for name in names]
    assert all(set(answer) == {ANOTHER_FRAME, BLOCK_BEFORE} for answer in answers)
    assert answers[0][ANOTHER_FRAME] != answers[1][ANOTHER_FRAME]
    assert answers[0][BLOCK_BEFORE] != answers[2][BLOCK_BEFORE]
    found = targets(figures)
    assert len(found) == 3 and all(target.value is not None for target in found)
    assert found[0].value == pytest.approx(answers[0][ANOTHER_FRAME] - answers[1][ANOTHER_FRAME], abs=0.002)
    visits = [figures['candidates'][name]['revisit']['holes']['psnr'] for name in names]
    assert found[2].value == pytest.approx(visits[0] - visits[2], abs=0.002)


def test_targets_are_held_against_the_figures():
    assert Target('a', 1., 0.5).holds and not Target('a', 0.4, 0.5).holds
    assert Target('a', None, 0.5).holds is None
    assert Target('a', 1., 0.7, 1.3).bounds == '>= 0.7 and <= 1.3'
    assert Target('a', 1.4, 0.7, 1.3).as_json() == {'what': 'a', 'value': 1.4, 'least': 0.7, 'most': 1.3,
                                                    'holds': False}


def test_a_generator_that_paints_the_truth_meets_the_targets_of_scenes_and_the_smooth_fill_does_not():
    clip = wall_clip(np.array([0., 0.1]), SIDEWAYS)

    def run(generator: Observed) -> dict[str, bool | None]:
        generator.name = 'nano'
        figures = evaluate(one_clip_suite(clip), {'nano': generator}, quiet()).figures
        return {target.what: target.holds for target in targets(figures)}

    good, bad = run(Observed(Knowing(SIDEWAYS, offset=1))), run(render())
    assert all(good[what] for what in good if what.startswith(('whole', 'holes', 'known', 'gradient')))
    assert not any(bad[what] for what in bad if 'over smooth' in what or 'over nearest' in what)
    assert bad['known pixels, dB over the render'] is True


def test_scenes_are_measured_with_texture_beside_what_is_shown_without():
    config = replace(TINY_GUIDED, name='nano', width=48, height=32, positions='reprojected',
                     autoencoder=replace(TINY_GUIDED.autoencoder, texture_width=6))
    suite = open_suite('scenes', 2)
    assert suite.texture
    star = StarPipeline.random(config)
    figures = evaluate(suite, observe(star, suite.ablations, suite.texture), quiet()).figures
    plain, textured = (figures['candidates'][name] for name in ('nano', 'nano texture'))
    assert any('meant for 24 clips of 192x128' in note for note in notes(figures))
    assert plain['psnr']['known'] == textured['psnr']['known'] and plain['psnr']['holes'] != textured['psnr']['holes']
    found = {target.what: target for target in targets(figures)}
    sharp = found["gradient energy in holes, share of the truth's, with texture"]
    assert sharp.value == textured['gradient_energy_in_holes'] != plain['gradient_energy_in_holes']
    assert found['holes, with texture, dB over those without'].value == pytest.approx(
        textured['psnr']['holes'] - plain['psnr']['holes'], abs=0.002)
    without = StarPipeline.random(replace(config, autoencoder=TINY_GUIDED.autoencoder))
    assert list(observe(without, (), True)) == ['nano'], 'weights that have no texture are measured without'


def test_texture_that_the_weights_do_not_have_is_refused(tmp_path, capsys):
    export(Networks(replace(TINY_GUIDED, name='nano')), tmp_path / 'weights', {})
    assert main(['evaluate', '--suite', 'scenes', '--clips', '1', '--texture', '--weights', str(tmp_path / 'weights'),
                 '--output', str(tmp_path / 'out')]) == 1
    assert 'hold nothing that gives texture; leave --texture out' in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()


def test_frames_are_plotted_as_far_as_all_clips_go():
    values = {str(frame): float(frame) for frame in range(5)}
    figures = {'clips': [{'frames': 5}, {'frames': 3}], 'candidates': {'ours': {'psnr_by_frame': values}}}
    assert frames_of_all(figures, 'ours') == {0: 0., 1: 1., 2: 2.}


def test_frechet_features_follow_the_pictures():
    autoencoder = TinyAutoencoder(TINY_GUIDED.autoencoder)
    images = np.stack([wall_image(x) for x in SIDEWAYS[:9]])
    features = clip_features(autoencoder, images)
    assert features.shape == (3 * (HEIGHT // 16) * (WIDTH // 16), 4 * TINY_GUIDED.autoencoder.latent_channels)
    assert not np.allclose(features, clip_features(autoencoder, images[::-1]))


class _Page(HTMLParser):
    """Collects what a page loads, and checks that what is opened is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loaded, self.open, self.text = [], [], ''
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.loaded += [value for name, value in attributes if name in ('src', 'href')]
        if tag not in ('meta', 'img'):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_the_page_holds_everything_itself(memory, tmp_path):
    found = write_report(memory, tmp_path)
    parsed = _Page((tmp_path / 'report.html').read_text())
    assert not parsed.open
    assert len(parsed.loaded) >= 4 and all(source.startswith('data:image/png;base64,') for source in parsed.loaded)
    for words in ('nano no_reference', 'other frame', 'What it must show', found[0].what):
        assert words in parsed.text
    stored = json.loads((tmp_path / 'metrics.json').read_text())
    assert [target['holds'] for target in stored['targets']] == [target.holds for target in found]
    assert sorted(path.name for path in tmp_path.iterdir()) == ['metrics.json', 'report.html']


def test_names_from_outside_are_escaped(memory):
    memory_like = replace(memory, figures={**memory.figures, 'about': '<script>alert(1)</script>'})
    assert '<script>' not in page(memory_like, [])


def test_the_table_leaves_out_what_nobody_has_and_says_what_was_not_measured(scenes, memory):
    headings, rows = cells(scenes.figures)
    assert 'PSNR other frame' not in headings and 'PSNR gain fit' not in headings and 'Frechet' in headings
    assert all(len(row) == len(headings) for row in rows)
    assert not notes(scenes.figures)
    text = table(memory.figures, targets(memory.figures))
    assert 'Frechet distance was not measured' in text and 'no_history' in text
    lines = text.splitlines()
    assert lines[2].split()[:3] == ['PSNR', 'all', f'{memory.figures["candidates"]["nano"]["psnr"]["all"]:.2f}']
    assert len({len(line) for line in lines[1:1 + len(cells(memory.figures)[0])]}) == 1


def test_the_command_measures_and_writes(tmp_path, capsys):
    out = tmp_path / 'result'
    assert main(['evaluate', '--suite', 'scenes', '--generator', 'render', '--clips', '1', '--size', '48x32',
                 '--output', str(out)]) == 0
    assert sorted(path.name for path in out.iterdir()) == ['metrics.json', 'report.html']
    figures = json.loads((out / 'metrics.json').read_text())
    assert figures['width'] == 48 and figures['candidates']['render']['psnr']['all'] > 15.
    printed = capsys.readouterr().out
    assert f'{figures["candidates"]["render"]["psnr"]["all"]:.2f}' in printed and str(out) in printed


@pytest.mark.parametrize(('arguments', 'words'), [
    (['--suite', 'magic'], 'scenes, memory, roam, office'), (['--suite', 'office'], '--reference'),
    (['--suite', 'scenes', '--generator', 'magic'], 'render, nano, 1.3b'),
    (['--suite', 'scenes', '--generator', 'render', '--ablate', 'no_history'], 'for nano and 1.3b'),
    (['--suite', 'scenes', '--generator', 'render', '--inpainter', 'none.safetensors'], 'not a file'),
    (['--suite', 'scenes', '--generator', 'render', '--features', 'nowhere'], 'config.json')])
def test_bad_options_end_in_one_line_and_leave_nothing(arguments, words, tmp_path, capsys):
    out = tmp_path / 'result'
    assert main(['evaluate', *arguments, '--output', str(out)]) == 1
    said = capsys.readouterr().err
    assert words in said and len(said.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_the_default_size_of_the_render_is_the_suites(monkeypatch):
    opened = candidates_module.open_candidates('render')['render']
    assert (opened.width, opened.height) == (192, 128)
