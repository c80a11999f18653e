# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`inspatio render`: one frame for each pose, in order, and nothing written half."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from small_recording import DISTANCE, HEIGHT, WIDTH, sideways, write_wall

from inspatio_ros import cli
from inspatio_ros.commands.render import blocks, count_near, next_block, scene_times
from inspatio_ros.geometry import se3_exp
from inspatio_ros.reference import open_reference
from inspatio_ros.reference.rgbd import in_millimetres
from inspatio_ros.simulator import WorldSimulator
from inspatio_ros.spatial.trajectory import Trajectory, read_trajectory
from inspatio_ros.tum import write_tum


@pytest.fixture(scope='module')
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a small recording."""
    return write_wall(tmp_path_factory.mktemp('wall'))


@pytest.fixture
def trajectory(tmp_path: Path) -> Path:
    """Write a trajectory of seven poses, no whole number of blocks."""
    path = tmp_path / 'poses.txt'
    write_tum(path, np.arange(7) * 0.1, sideways([0., 0.05, 0.1, 0.15, 0.2, 0.1, 0.]))
    return path


def command(recording: Path, trajectory: Path, output: Path, *more: str) -> list[str]:
    """Give the arguments of a small render."""
    return ['render', '--reference', str(recording), '--trajectory', str(trajectory), '--generator', 'render',
            '--size', f'{WIDTH}x{HEIGHT}', '--device', 'cpu', '--output', str(output), *more]


def test_one_frame_for_each_pose_in_the_order_of_the_file(recording: Path, trajectory: Path, tmp_path: Path) -> None:
    import av
    output = tmp_path / 'out'
    assert cli.main(command(recording, trajectory, output)) == 0
    names = [f'{i:06d}.png' for i in range(7)]
    for kind in ('image', 'mask', 'depth'):
        assert sorted(path.name for path in (output / kind).iterdir()) == names
    simulator = WorldSimulator(open_reference(recording), 'render', WIDTH, HEIGHT, device='cpu')
    assert simulator.frames_in_next_block() == 4
    poses = read_trajectory(trajectory)
    blocks = [simulator.step(poses.T_world_camera[index]) for index in ([0, 1, 2, 3], [4, 5, 6, 6])]
    for i, name in enumerate(names):
        block, j = blocks[i // 4], i % 4
        image = cv2.imread(str(output / 'image' / name))[..., ::-1]
        assert np.array_equal(image, block.image[j]), f'frame {i} is not that of its pose'
        depth = cv2.imread(str(output / 'depth' / name), cv2.IMREAD_UNCHANGED)
        assert depth.dtype == np.uint16 and np.array_equal(depth, in_millimetres(block.z_depth[j]))
        assert np.abs(depth[depth > 0] - 1000 * DISTANCE).max() <= 1
        assert np.array_equal(cv2.imread(str(output / 'mask' / name), cv2.IMREAD_UNCHANGED), block.mask[j])
    written = read_trajectory(output / 'trajectory.txt')
    assert np.allclose(written.T_world_camera, poses.T_world_camera) and np.allclose(written.times, poses.times)
    with av.open(str(output / 'video.mp4')) as video:
        assert sum(1 for _ in video.decode(video=0)) == 7
    report = json.loads((output / 'report.json').read_text())
    assert (report['frames'], report['generator'], report['width'], report['height']) == (7, 'render', WIDTH, HEIGHT)
    assert 0.8 < report['seen'] <= 1. and report['frames_per_second'] > 0


@pytest.mark.parametrize(('arguments', 'message'), [
    (['--generator', 'dream'], "generator 'dream' is unknown; choose one of render, nano, 1.3b"),
    (['--size', '60x48'], 'width 60 is not a positive multiple of 16'),
    (['--reference', '/nowhere/at/all'], '/nowhere/at/all'),
    (['--trajectory', '/nowhere/poses.txt'], '/nowhere/poses.txt'),
    (['--generator', '1.3b', '--weights', '/nowhere/weights'], '/nowhere/weights'),
])
def test_bad_input_is_one_line_and_writes_nothing(recording: Path, trajectory: Path, tmp_path: Path, capsys,
                                                  arguments: list[str], message: str) -> None:
    output = tmp_path / 'new' / 'out'
    assert cli.main(command(recording, trajectory, output, *arguments)) == 1
    error = capsys.readouterr().err
    assert error.startswith('inspatio: error: ') and message in error and error.count('\n') == 1
    assert not output.parent.exists()


def test_a_bad_line_is_named(recording: Path, trajectory: Path, tmp_path: Path, capsys) -> None:
    lines = trajectory.read_text().splitlines()
    lines[4] = '0.3 0.1 nonsense 0 0 0 0 1'
    trajectory.write_text('\n'.join(lines))
    assert cli.main(command(recording, trajectory, tmp_path / 'out')) == 1
    assert f'{trajectory} line 5' in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()


def test_places_far_apart_are_rendered_each_from_its_own_views(recording: Path) -> None:
    simulator = WorldSimulator(open_reference(recording), 'render', WIDTH, HEIGHT, device='cpu')
    poses, times = sideways([0., 0.1, 2., 2.1, 2.2, 2.3]), np.arange(6) * 0.1
    alone = WorldSimulator(open_reference(recording), 'render', WIDTH, HEIGHT, device='cpu')
    counts, done = [], 0
    for block, count in blocks(simulator, poses, times):
        same, also = next_block(alone, poses[done:], times[done:])
        assert count == also and np.array_equal(block.image, same.image)
        assert np.array_equal(block.T_world_camera[:count], poses[done:done + count])
        # What fills the block up is of the same place.
        assert np.array_equal(block.T_world_camera[count - 1:], np.repeat(poses[[done + count - 1]], 5 - count, axis=0))
        counts.append(count)
        done += count
    assert counts == [2, 4]


@pytest.mark.parametrize(('offsets', 'near'), [([0.], 1), ([0., 0.4, 0.5], 3), ([0., 0.3, 0.6, 0.], 2), ([0., 9.], 1)])
def test_a_jump_is_a_way_or_a_turn(offsets: list[float], near: int) -> None:
    assert count_near(sideways(offsets)) == near
    # 29.9 degrees stand for a metre here.
    assert count_near(np.stack([se3_exp(np.array([0., 0., 0., 0., np.radians(29.9 * x), 0.]))
                                for x in offsets])) == near


def test_frames_held_out_are_rendered_true(tmp_path: Path, capsys) -> None:
    recording, output = write_wall(tmp_path, frames=8), tmp_path / 'new' / 'out'
    arguments = ['render', '--reference', str(recording), '--generator', 'render', '--device', 'cpu', '--size', '48x32',
                 '--hold-out', '2', '--output', str(output)]
    assert cli.main(arguments) == 0
    report = json.loads((output / 'report.json').read_text())
    assert [figure['frame'] for figure in report['held_out']] == [2, 6] and report['frames'] == 2
    # The neighbours show the wall that the frame held out shows; what is left is interpolation between their pixels.
    assert all(figure['known'] > 0.9 and figure['psnr_db'] > 25. for figure in report['held_out'])
    assert report['held_out_median_psnr_db'] == pytest.approx(
        np.mean([figure['psnr_db'] for figure in report['held_out']]), abs=0.01)
    # A gain is no error, a place is one: darker images compare as well, images of another place do not.
    for name in ('000002.png', '000006.png'):
        path = str(recording / 'rgb' / name)
        cv2.imwrite(path, cv2.imread(path) // 2)
    assert cli.main([*arguments, '--force']) == 0
    assert json.loads((output / 'report.json').read_text())['held_out_median_psnr_db'] > 24.
    write_tum(recording / 'trajectory.txt', np.arange(8) * 0.5, sideways([0., 0.1, 0.5, 0.3, 0.4, 0.5, 0.9, 0.7]))
    capsys.readouterr()
    assert cli.main([*arguments, '--force']) == 0
    median = json.loads((output / 'report.json').read_text())['held_out_median_psnr_db']
    assert median < 20. and f'median {median:.2f} dB' in capsys.readouterr().out


def test_an_earlier_result_is_kept_unless_forced(recording: Path, trajectory: Path, tmp_path: Path, capsys) -> None:
    output = tmp_path / 'out'
    (output / 'image').mkdir(parents=True)
    (output / 'image' / 'dear.png').touch()
    assert cli.main(command(recording, trajectory, output)) == 1
    assert 'is not empty' in capsys.readouterr().err and (output / 'image' / 'dear.png').exists()
    assert cli.main(command(recording, trajectory, output, '--force')) == 0
    assert len(list((output / 'image').iterdir())) == 7


def test_a_trajectory_with_the_recording_s_clock_keeps_its_times() -> None:
    recorded = SimpleNamespace(times=np.array([100., 110.]))
    aligned = Trajectory(np.array([104., 105.]), sideways([0., 0.]))
    other = Trajectory(np.array([0., 1.]), sideways([0., 0.]))
    assert scene_times(recorded, aligned).tolist() == [104., 105.]
    # Odometry was logged before the camera was.
    earlier = Trajectory(np.array([99.5, 100.5, 101.5]), sideways([0., 0., 0.]))
    assert scene_times(recorded, earlier).tolist() == [100., 100.5, 101.5]
    assert scene_times(recorded, other).tolist() == [100., 101.]


def test_depth_that_16_bits_cannot_hold_is_unknown() -> None:
    z_depth = np.array([[0.5, np.nan, 65.535, 65.6], [1e-5, -1., np.inf, 2.0006]], np.float32)
    assert in_millimetres(z_depth).tolist() == [[500, 0, 65535, 0], [0, 0, 0, 2001]]
