# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`inspatio bench`: that its figures mean what they say, not how large they are."""

from __future__ import annotations

import itertools
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_recording import HEIGHT, WIDTH, write_wall

from inspatio_ros import cli
from inspatio_ros.demo.paths import PERIOD, scripted_twist
from inspatio_ros.errors import ConfigurationError
from inspatio_ros.evaluation import benchmark
from inspatio_ros.evaluation.pictures import write_bytes
from inspatio_ros.geometry import invert, is_rigid
from inspatio_ros.reference import open_reference
from inspatio_ros.simulator import WorldSimulator
from inspatio_ros.star.pipeline import StarPipeline
from inspatio_ros.star.presets import TINY_GUIDED


@pytest.fixture(scope='module')
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a small recording."""
    return write_wall(tmp_path_factory.mktemp('wall'))


def bench(recording: Path, *more: str) -> int:
    """Run a small benchmark."""
    return cli.main(['bench', '--reference', str(recording), '--generator', 'render', '--size', f'{WIDTH}x{HEIGHT}',
                     '--device', 'cpu', *more])


def test_the_figures_count_every_stage_and_every_frame(recording: Path, tmp_path: Path, capsys) -> None:
    assert bench(recording, '--frames', '10', '--json', str(tmp_path / 'bench.json')) == 0
    assert 'frames per second' in capsys.readouterr().out
    result = json.loads((tmp_path / 'bench.json').read_text())
    machine, (figures,) = result['machine'], result['generators']
    assert machine['cpu'] and machine['cores'] >= 1 and machine['torch_threads'] >= 1 and machine['torch']
    assert (figures['generator'], figures['device'], figures['width'], figures['height']) == (
        'render', 'cpu', WIDTH, HEIGHT)
    assert figures['frames'] == 12 and figures['blocks'] == 3
    stages = figures['stages_ms_per_frame']
    assert {'render', 'fill', 'to_host', 'all'} <= set(stages)
    parts = sum(value['median'] for name, value in stages.items() if name != 'all')
    assert 0 < parts < 1.5 * stages['all']['p95']
    # What a frame takes inside is no more than the wall clock says it took.
    assert stages['all']['median'] * 4 <= figures['block_ms']['p95'] * 1.001
    # Its blocks are one part each.
    assert 0.9 * figures['block_ms']['median'] < figures['first_frame_ms']['median'] <= figures['block_ms']['median']
    slowest = 1e3 / (figures['block_ms']['p95'] / 4)
    assert figures['frames_per_second'] >= 0.9 * slowest
    assert figures['real_time_factor'] == pytest.approx(
        figures['frames_per_second'] / figures['frame_rate'], rel=0.01, abs=1e-3)
    assert figures['memory_mib']['peak'] > 50


def test_the_first_frame_is_timed_when_it_is_handed_over(recording: Path) -> None:
    pipeline = StarPipeline.random(replace(TINY_GUIDED, width=WIDTH, height=HEIGHT))
    pipeline.autoencoder.guide.stem.register_forward_hook(lambda *_: time.sleep(0.1))
    reference = open_reference(recording)
    simulator = WorldSimulator(reference, pipeline, device='cpu')
    figures = benchmark.measure(simulator, benchmark.drive(reference, 12., lambda time: (0.1, 0., 0.)), 24)
    first, block = figures['first_frame_ms']['median'], figures['block_ms']['median']
    assert 100 < first and first + 100 < block, 'the other latents are decoded after the first'
    assert figures['stages_ms_per_frame']['decode']['median'] * 12 > 200


def test_looking_ahead_is_measured_in_turn(recording: Path, tmp_path: Path, capsys) -> None:
    assert bench(recording, '--frames', '24', '--look-ahead', '--json', str(tmp_path / 'ahead.json')) == 0
    assert 'B one block ahead' in capsys.readouterr().out
    (figures,) = json.loads((tmp_path / 'ahead.json').read_text())['look_ahead']
    assert figures['alone']['frames'] == figures['ahead']['frames'] == 24
    assert figures['ahead']['psnr_db'] is None, 'the frames are the same'


def test_a_soak_compares_early_with_late(recording: Path, tmp_path: Path) -> None:
    start = time.monotonic()
    assert bench(recording, '--soak', '2', '--json', str(tmp_path / 'soak.json')) == 0
    seconds = time.monotonic() - start
    (figures,) = json.loads((tmp_path / 'soak.json').read_text())['soak']
    assert seconds >= 2 and 0 < figures['early_s'] <= figures['late_s'] <= seconds
    assert figures['early_mib'] > 50 and abs(figures['growth_percent']) < 20
    # At the frame rate, not as fast as can be.
    assert 4 <= figures['frames'] <= 24 * seconds + 4


def test_growth_is_that_between_a_third_of_the_time_and_the_end() -> None:
    samples = [(1., 50.), (119., 100.), (125., 90.), (358., 102.)]
    figures = benchmark.growth(samples, 360.)
    assert (figures['early_mib'], figures['late_mib'], figures['growth_percent']) == (100., 102., 2.)


def test_two_results_are_compared_figure_by_figure(tmp_path: Path, capsys) -> None:
    def result(fps: float) -> dict:
        return {'machine': {'cores': 2}, 'generators': [
            {'generator': 'render', 'width': 64, 'height': 48, 'frames_per_second': fps}]}
    for name, fps in (('a', 20.), ('b', 30.)):
        (tmp_path / name).write_text(json.dumps(result(fps)))
    assert cli.main(['bench', '--compare', str(tmp_path / 'a'), str(tmp_path / 'b')]) == 0
    line = capsys.readouterr().out.splitlines()[1]
    assert line.split() == ['generators.render@64x48.frames_per_second', '20.000', '30.000', '1.500']


@pytest.mark.parametrize(('arguments', 'message'), [
    (['--compare', 'exact', 'exact'], 'with itself shows nothing'),
    (['--compare', 'plain', 'fast', '--generator', 'render'], 'has one speed'),
])
def test_speeds_that_show_nothing_are_refused_before_anything_is_measured(capsys, arguments, message) -> None:
    assert cli.main(['bench', *arguments]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize('content', ['{"machine"', '{}', '[1]'])
def test_what_is_no_result_cannot_be_compared(tmp_path: Path, capsys, content: str) -> None:
    (tmp_path / 'a').write_text(content)
    assert cli.main(['bench', '--compare', str(tmp_path / 'a'), str(tmp_path / 'a')]) == 1
    assert f'{tmp_path / "a"} is no result of inspatio bench' in capsys.readouterr().err


def test_the_path_starts_with_the_recording_and_moves_smoothly(recording: Path) -> None:
    reference = open_reference(recording)
    path = benchmark.drive(reference, 24., lambda time: scripted_twist(time, PERIOD))
    poses = np.stack(list(itertools.islice(path, 24 * 15)))
    assert np.allclose(poses[0], reference.T_world_camera[0])
    assert all(is_rigid(pose) for pose in poses)
    steps = np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=1)
    assert steps.max() < 0.5 / 24 and steps.sum() > 2.


def test_a_long_drive_comes_back_on_the_way_it_went(recording: Path) -> None:
    reference = open_reference(recording)
    path = benchmark.drive(reference, 24., lambda time: scripted_twist(time, 10 * PERIOD))
    poses = np.stack(list(itertools.islice(path, int(24 * 4 * PERIOD) + 2)))
    away = np.linalg.norm((invert(poses[0]) @ poses)[:, :3, 3], axis=1)
    assert away.max() > 0.5
    for lap in (1, 2):
        assert away[int(24 * 2 * PERIOD) * lap + 1] < 0.05 * lap, 'it is not back where it started'


def test_a_result_that_cannot_be_written_is_one_line(recording: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / 'file').write_text('')
    assert bench(recording, '--frames', '1', '--json', str(tmp_path / 'file' / 'result.json')) == 1
    out, err = capsys.readouterr()
    assert not out, 'it is said before anything is measured'
    assert err == f'inspatio: error: cannot write {tmp_path}/file/result.json: there is no folder {tmp_path}/file\n'


def test_a_picture_where_no_file_can_be_is_one_line(tmp_path: Path) -> None:
    (tmp_path / 'file').write_text('')
    with pytest.raises(ConfigurationError, match='cannot write .*result.png: Not a directory'):
        write_bytes(tmp_path / 'file' / 'result.png', b'')


def test_an_unknown_generator_is_named_before_the_others_are_measured(recording: Path, capsys) -> None:
    assert bench(recording, '--generator', 'render', 'dream') == 1
    out, err = capsys.readouterr()
    assert not out
    assert err == "inspatio: error: generator 'dream' is unknown; choose one of render, nano, 1.3b\n"
