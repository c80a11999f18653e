# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Trajectory files: equal to the released code where asked, right by default, and clear about bad lines."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from inspatio_ros.errors import TrajectoryError
from inspatio_ros.geometry import invert, is_rigid, se3_exp
from inspatio_ros.spatial.trajectory import (
    TextKeys,
    bounce_indices,
    frame_count_bounds,
    interpolate_keys,
    keyed_poses,
    orbit_poses,
    read_trajectory,
)
from inspatio_ros.tum import write_tum

FILES = ('x_y_circle_cycle.txt', 'zoom_out_in.txt', 'synthetic_zoom_only', 'synthetic_yaw_only',
         'synthetic_pitch_yaw_displacement')
#: Tolerances that come with the golden file: doubles with FITPACK, single-precision matrices.
TOLERANCE, TOLERANCE_SINGLE = 1e-6, 1e-5


@functools.cache
def _load(path: Path) -> dict:
    return json.loads(path.read_text())


@pytest.fixture
def golden(shared: Path) -> dict:
    return _load(Path(shared) / 'golden' / 'trajectory.json')


def _matrices(flat: list[float]) -> np.ndarray:
    return np.reshape(flat, (-1, 4, 4))


def _write(folder: Path, text: str) -> Path:
    path = folder / 'trajectory.txt'
    path.write_text(text)
    return path


def _keys(entry: dict) -> TextKeys:
    return TextKeys(tuple(entry['x_up_deg']), tuple(entry['y_left_deg']), tuple(entry['r']))


# --- equal to the released code -------------------------------------------------------------------------------------

@pytest.mark.parametrize('name', FILES)
def test_interpolation_equals_release(golden: dict, name: str) -> None:
    entry = golden['trajectories'][name]
    for line, keys in (('x_up', 'x_up_deg'), ('y_left', 'y_left_deg'), ('r', 'r')):
        expected = entry['interpolated'][line]['values']
        np.testing.assert_allclose(interpolate_keys(entry[keys], 49, release=True), expected, atol=TOLERANCE)


@pytest.mark.parametrize('rotation_only', [False, True])
@pytest.mark.parametrize('name', FILES)
def test_generated_poses_equal_release(golden: dict, name: str, rotation_only: bool) -> None:
    entry = golden['trajectories'][name]
    expected = _matrices(entry['generated_c2w'][f'is_translation={rotation_only}']['data'])
    poses = keyed_poses(_keys(entry), 49, rotation_only, release=True)
    np.testing.assert_allclose(poses, expected, atol=TOLERANCE)


@pytest.mark.parametrize('rotation_only', [False, True])
@pytest.mark.parametrize('relative', [False, True])
@pytest.mark.parametrize('source', ['identity_source', 'moving_source'])
@pytest.mark.parametrize('name', FILES)
def test_files_equal_release(golden: dict, tmp_path: Path, name: str, source: str, relative: bool,
                             rotation_only: bool) -> None:
    entry = golden['trajectories'][name]
    poses = (np.tile(np.eye(4), (49, 1, 1)) if source == 'identity_source'
             else _matrices(golden['moving_source_c2w']['data']))
    read = read_trajectory(_write(tmp_path, entry['text']), 49, source_T_world_camera=poses,
                           relative_to_source=relative, rotation_only=rotation_only, release=True)
    expected = entry['target_c2w'][f'{source}/relative_to_source={relative}/rotation_only={rotation_only}']
    np.testing.assert_allclose(read.T_world_camera, _matrices(expected), atol=TOLERANCE_SINGLE)


@pytest.mark.parametrize('name', FILES)
def test_orbit_equals_saved_extrinsics(golden: dict, name: str) -> None:
    entry = golden['trajectories'][name]
    saved, keys = entry['dataset_target_extrinsics_w2c'], _keys(entry)
    scale = saved['first_depth_min'] * saved['radius_ratio']
    if keys.is_zoom:
        pytest.skip('a zoom is not an orbit')
    pitch, yaw = (np.radians(interpolate_keys(line, 49, release=True)) for line in (keys.pitch, keys.yaw))
    radius = scale * interpolate_keys(keys.displacement, 49, release=True)
    radius[[0, -1]] = scale * keys.displacement[0], scale * keys.displacement[-1]
    np.testing.assert_allclose(invert(orbit_poses(pitch, yaw, radius)), _matrices(saved['data']), atol=TOLERANCE)


@pytest.mark.parametrize('name', FILES)
def test_frame_counts_equal_release(golden: dict, name: str) -> None:
    entry = golden['trajectories'][name]
    bounds = frame_count_bounds(_keys(entry))
    adaptive = entry['adaptive']
    assert (bounds or ('n_frames', 'n_frames')) == (adaptive['min_needed'], adaptive['max_needed'])


def test_bounce_equals_release(golden: dict) -> None:
    for case in golden['bounce_indices']:
        assert bounce_indices(case['n_source'], case['n_target']) == case['indices']


# --- right by default -----------------------------------------------------------------------------------------------

@pytest.mark.parametrize('name', FILES)
def test_keys_are_hit_and_not_overshot(golden: dict, name: str) -> None:
    for keys in (golden['trajectories'][name][line] for line in ('x_up_deg', 'y_left_deg', 'r')):
        between = 7
        values = interpolate_keys(keys, (len(keys) - 1) * between + 1)
        np.testing.assert_allclose(values[::between], keys, atol=1e-9)
        assert min(keys) - 1e-9 <= values.min() and values.max() <= max(keys) + 1e-9


@pytest.mark.parametrize('name', FILES)
def test_starts_at_the_source(golden: dict, tmp_path: Path, name: str) -> None:
    entry, source = golden['trajectories'][name], _matrices(golden['moving_source_c2w']['data'])
    keys = _keys(entry)
    if keys.is_zoom and keys.displacement[0]:
        pytest.skip('its first key is not the source')
    path = _write(tmp_path, entry['text'])
    np.testing.assert_allclose(read_trajectory(path, 49, source_T_world_camera=source).T_world_camera[0], source[0],
                               atol=1e-9)
    relative = read_trajectory(path, 49, source_T_world_camera=source, relative_to_source=True)
    np.testing.assert_allclose(relative.T_world_camera[0], source[0], atol=1e-9)
    alone = read_trajectory(path, 49)
    np.testing.assert_allclose(relative.T_world_camera, source @ alone.T_world_camera, atol=1e-9)


def test_relative_identity_follows_the_source(golden: dict, tmp_path: Path) -> None:
    source = _matrices(golden['moving_source_c2w']['data'])
    read = read_trajectory(_write(tmp_path, '0\n0\n0\n'), source_T_world_camera=source, relative_to_source=True)
    np.testing.assert_allclose(read.T_world_camera, source, atol=1e-12)


def test_default_frame_count(golden: dict, tmp_path: Path) -> None:
    lengths = {name: len(read_trajectory(_write(tmp_path, golden['trajectories'][name]['text']))) for name in FILES}
    assert lengths == {'x_y_circle_cycle.txt': 301, 'zoom_out_in.txt': 121, 'synthetic_zoom_only': 121,
                       'synthetic_yaw_only': 101, 'synthetic_pitch_yaw_displacement': 101}


def test_zoom_goes_ahead_unless_rotation_only(tmp_path: Path) -> None:
    path = _write(tmp_path, '0 0\n0 0\n0 0.3 0.6\n')
    np.testing.assert_allclose(read_trajectory(path, 3).T_world_camera[:, :3, 3], [[0, 0, 0], [0, 0, .3], [0, 0, .6]])
    assert not read_trajectory(path, 3, rotation_only=True).T_world_camera[:, :3, 3].any()
    assert read_trajectory(path, 3, rotation_only=True, release=True).T_world_camera[:, :3, 3].any()


@given(pitch=st.floats(-60, 60), yaw=st.floats(-170, 170), radius=st.floats(0.1, 10))
def test_orbit_looks_at_its_centre(pitch: float, yaw: float, radius: float) -> None:
    T, = orbit_poses(np.radians([pitch]), np.radians([yaw]), np.array([radius]))
    assert is_rigid(T, 1e-9)
    np.testing.assert_allclose(invert(T) @ [0, 0, radius, 1], [0, 0, radius, 1], atol=1e-9)
    # Up is -y and left is -x in optical axes.
    assert pitch * T[1, 3] <= 1e-12
    assert yaw * T[0, 3] <= 1e-12


# --- pose files -----------------------------------------------------------------------------------------------------

_POSES = arrays(np.float64, st.tuples(st.integers(1, 6), st.just(6)), elements=st.floats(-3, 3)).map(
    lambda twists: np.array([se3_exp(twist) for twist in twists]))


@given(poses=_POSES, start=st.floats(0, 2e9), steps=arrays(np.float64, 6, elements=st.floats(1e-3, 10)))
def test_tum_round_trip(tmp_path_factory: pytest.TempPathFactory, poses: np.ndarray, start: float,
                        steps: np.ndarray) -> None:
    path = tmp_path_factory.mktemp('tum') / 'poses.txt'
    times = start + np.cumsum(steps)[:len(poses)]
    write_tum(path, times, poses)
    read = read_trajectory(path)
    np.testing.assert_array_equal(read.times, times)
    np.testing.assert_allclose(read.T_world_camera, poses, atol=1e-9)


@given(poses=_POSES)
def test_matrices_round_trip(tmp_path_factory: pytest.TempPathFactory, poses: np.ndarray) -> None:
    path = tmp_path_factory.mktemp('matrices') / 'poses.txt'
    path.write_text('\n'.join(' '.join(map(repr, T.ravel().tolist())) for T in invert(poses)))
    read = read_trajectory(path, frame_rate=10.)
    np.testing.assert_allclose(read.T_world_camera, poses, atol=1e-9)
    np.testing.assert_allclose(read.times, np.arange(len(poses)) / 10.)


@given(source=st.integers(1, 40), target=st.integers(1, 90))
def test_bounce_is_a_walk_within_the_source(source: int, target: int) -> None:
    indices = bounce_indices(source, target)
    assert len(indices) == target and indices[0] == 0 and min(indices) >= 0 and max(indices) <= source - 1
    if target > source > 1:
        assert set(np.abs(np.diff(indices))) == {1}
    if source >= target > 1:
        assert indices[-1] == source - 1


def test_office_trajectory(shared: Path) -> None:
    read = read_trajectory(Path(shared) / 'data' / 'hololens_office_a' / 'trajectory.txt')
    assert len(read) == 250 and read.times[:2].tolist() == [0.6, 0.8]
    np.testing.assert_allclose(read.T_world_camera[0, :3, 3], [-1.94312, 0.112344, 4.67999])


def test_resampled_poses_lie_on_the_way(tmp_path: Path) -> None:
    poses = np.array([se3_exp(t * np.array([1., 0, 0, 0, 0, .8])) for t in (0., 1., 3.)])
    path = tmp_path / 'poses.txt'
    write_tum(path, np.array([0., 1., 3.]), poses)
    read = read_trajectory(path, frame_count=7)
    expected = [se3_exp(t * np.array([1., 0, 0, 0, 0, .8])) for t in np.linspace(0, 3, 7)]
    np.testing.assert_allclose(read.T_world_camera, expected, atol=1e-9)
    np.testing.assert_allclose(read.times, np.linspace(0, 3, 7))


def test_pose_file_options(tmp_path: Path) -> None:
    poses = np.array([se3_exp(np.array([t, 2 * t, 0, 0, t, 0])) for t in (.1, .2, .3)])
    path = tmp_path / 'poses.txt'
    write_tum(path, np.arange(3.), poses)
    still = read_trajectory(path, rotation_only=True).T_world_camera
    np.testing.assert_allclose(still[:, :3, 3], np.tile(poses[0, :3, 3], (3, 1)))
    np.testing.assert_allclose(still[:, :3, :3], poses[:, :3, :3], atol=1e-9)
    source = poses[::-1]
    moved = read_trajectory(path, source_T_world_camera=source, relative_to_source=True).T_world_camera
    np.testing.assert_allclose(moved, source @ poses, atol=1e-9)
    in_world = read_trajectory(path, source_T_world_camera=source).T_world_camera
    np.testing.assert_allclose(in_world, poses, atol=1e-9)


# --- bad files ------------------------------------------------------------------------------------------------------

_TUM = '{} 0 0 0 0 0 0 1'
_IDENTITY = '1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1'


@pytest.mark.parametrize(('text', 'line', 'what'), [
    ('', 1, 'empty'),
    ('# only a comment\n\n', 1, 'empty'),
    ('0 1\n0 x\n1 1\n', 2, "'x' is not a number"),
    ('0 1\n0 1\n1 nan\n', 3, 'not a finite number'),
    ('0 1\n0 1\n', 1, '2 numbers'),
    ('0 1\n0 1\n1 1\n2 2\n', 1, '2 numbers'),
    ('\n'.join([_TUM.format(0), _TUM.format(1), '2 0 0 0 0 0 1']), 3, '7 numbers instead of 8'),
    ('\n'.join([_TUM.format(0), '', '# comment', _TUM.format(0)]), 4, 'not after'),
    ('\n'.join([_TUM.format(0), _TUM.format(1), _TUM.format(0.5), _TUM.format(2)]), 3, 'not after'),
    ('\n'.join([_TUM.format(0), _TUM.format('inf')]), 2, 'not a finite number'),
    ('\n'.join([_TUM.format(0), '1 0 0 0 0 0 0 0.5', _TUM.format(2)]), 2, 'quaternion has length 0.5'),
    ('\n'.join([_TUM.format(0), '1 0 0 0 0 0 0 0']), 2, 'quaternion has length 0'),
    ('\n'.join([_IDENTITY, _IDENTITY, '2' + _IDENTITY[1:]]), 3, 'not a rotation'),
    ('\n'.join([_IDENTITY, '-1' + _IDENTITY[1:]]), 2, 'not a rotation'),
    ('\n'.join([_IDENTITY, _IDENTITY + ' 5', _IDENTITY]), 2, '17 numbers instead of 16'),
])
def test_bad_line_is_named(tmp_path: Path, text: str, line: int, what: str) -> None:
    path = _write(tmp_path, text)
    with pytest.raises(TrajectoryError) as error:
        read_trajectory(path)
    assert f'{path} line {line}:' in str(error.value) and what in str(error.value)
    assert '\n' not in str(error.value)


def test_bad_paths(tmp_path: Path) -> None:
    binary = tmp_path / 'binary'
    binary.write_bytes(b'\x89PNG\xff\xfe\x00')
    for path, what in ((tmp_path / 'none.txt', 'no such'), (tmp_path, 'cannot be read'), (binary, 'not a text file')):
        with pytest.raises(TrajectoryError, match=what) as error:
            read_trajectory(path)
        assert str(path) in str(error.value)


@pytest.mark.parametrize('options', [
    {'frame_count': 0}, {'frame_rate': 0.}, {'frame_rate': float('nan')}, {'relative_to_source': True},
    {'source_T_world_camera': np.eye(4)}, {'source_T_world_camera': np.empty((0, 4, 4))}, {'frame_count': 5}])
def test_bad_options(tmp_path: Path, options: dict) -> None:
    path = _write(tmp_path, _IDENTITY)
    with pytest.raises(TrajectoryError):
        read_trajectory(path, **options)


def test_three_lines_of_sixteen_keys_are_text(tmp_path: Path) -> None:
    keys = ' '.join(str(v) for v in range(16))
    read = read_trajectory(_write(tmp_path, f'{keys}\n{keys}\n{" ".join(["1"] * 16)}\n'), 4)
    np.testing.assert_allclose(read.T_world_camera[-1], orbit_poses(*np.radians([[15.], [15.]]), np.ones(1))[0])


def test_write_refuses_and_leaves_nothing(tmp_path: Path) -> None:
    bad = np.tile(np.eye(4), (2, 1, 1))
    bad[1, 0, 0] = np.nan
    good = np.tile(np.eye(4), (2, 1, 1))
    for times, poses in (([0., 1.], bad), ([1., 1.], good), ([0., np.nan], good), ([0.], good)):
        with pytest.raises(TrajectoryError):
            write_tum(tmp_path / 'out.txt', np.array(times), poses)
    with pytest.raises(TrajectoryError, match='cannot be written'):
        write_tum(tmp_path / 'missing' / 'out.txt', np.arange(2.), good)
    (tmp_path / 'folder').mkdir()
    with pytest.raises(TrajectoryError, match='cannot be written'):
        write_tum(tmp_path / 'folder', np.arange(2.), good)
    assert [p.name for p in tmp_path.iterdir()] == ['folder']
