# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Motion: a robot's start in a recording, its mount, and twists within limits."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from inspatio_ros.errors import ConfigurationError
from inspatio_ros.geometry import T_BODY_OPTICAL, invert, is_rigid, make_pose, se3_exp, se3_log
from inspatio_ros.spatial.motion import Limits, Mount, TwistDriver, start_frame

_TWIST = arrays(np.float64, 6, elements=st.floats(-3., 3.))
_UP = arrays(np.float64, 3, elements=st.floats(-1., 1.)).filter(lambda v: np.linalg.norm(v) > 1e-2)
_AT_ONCE = Limits(10., 10., math.inf, math.inf)

# A camera looking ahead (world x) in a world with z up.
_LEVEL = make_pose(T_BODY_OPTICAL[:3, :3], np.array([2., 3., 1.7]))


# --- start and mount ------------------------------------------------------------------------------------------------

@given(twist=_TWIST, up=_UP, height=st.floats(-1., 3.))
def test_first_view_is_the_recordings_own(twist: np.ndarray, up: np.ndarray, height: float) -> None:
    T_world_camera0 = se3_exp(twist)
    start = start_frame(T_world_camera0, up, camera_height=height)
    np.testing.assert_allclose(start.camera_poses(start.T_map_base), T_world_camera0, atol=1e-9)
    for T in (start.T_world_map, start.T_map_base, start.T_base_camera):
        assert is_rigid(T, 1e-9)
    up = up / np.linalg.norm(up)
    np.testing.assert_allclose(start.T_world_map[:3, 2], up, atol=1e-9)
    # The camera is straight above the base.
    np.testing.assert_allclose(start.T_base_camera[:3, 3], [0., 0., height], atol=1e-9)
    heading = start.T_base_camera[:3, 2]
    assert abs(heading[1]) < 1e-6
    assert heading[0] > -1e-6


def test_level_camera() -> None:
    start = start_frame(_LEVEL, np.array([0., 0., 1.]), camera_height=1.2)
    np.testing.assert_allclose(start.T_world_map, make_pose(translation=np.array([2., 3., .5])), atol=1e-12)
    np.testing.assert_allclose(start.T_base_camera_link, make_pose(translation=np.array([0., 0., 1.2])), atol=1e-12)
    # One metre ahead, then a quarter turn left: the camera looks along world y from there.
    turned = start.camera_poses(se3_exp(np.array([1., 0, 0, 0, 0, 0])) @ se3_exp(np.array([0, 0, 0, 0, 0, np.pi / 2])))
    np.testing.assert_allclose(turned[:3, 3], [3., 3., 1.7], atol=1e-12)
    np.testing.assert_allclose(turned[:3, 2], [0., 1., 0.], atol=1e-12)


@pytest.mark.parametrize(('forward', 'top'), [((0., 0., -1.), (1., 0., 0.)), ((0., 0., 1.), (-1., 0., 0.))])
def test_vertical_camera_has_a_heading(forward: tuple, top: tuple) -> None:
    # Looking straight down the top of the image is ahead; straight up, its bottom.
    y, z = -np.array(top), np.array(forward)
    T = make_pose(np.stack([np.cross(y, z), y, z], axis=1))
    start = start_frame(T, np.array([0., 0., 1.]))
    np.testing.assert_allclose(start.T_world_map[:3, 0], [1., 0., 0.], atol=1e-9)


@given(twist=_TWIST, up=_UP, xyz=st.tuples(*[st.floats(-1., 2.)] * 3), roll=st.floats(-.3, .3),
       pitch=st.floats(-1.2, 1.2), yaw=st.floats(-3., 3.))
def test_explicit_mount_keeps_position_and_heading(twist: np.ndarray, up: np.ndarray, xyz: tuple, roll: float,
                                                   pitch: float, yaw: float) -> None:
    T_world_camera0, up = se3_exp(twist), up / np.linalg.norm(up)
    mount = Mount(xyz, (roll, pitch, yaw))
    start = start_frame(T_world_camera0, up, mount)
    first = start.camera_poses(start.T_map_base)
    np.testing.assert_allclose(first[:3, 3], T_world_camera0[:3, 3], atol=1e-9)
    np.testing.assert_allclose((start.T_world_map @ start.T_map_base)[:3, 2], up, atol=1e-9)
    np.testing.assert_allclose(start.T_base_camera, mount.T_base_camera)
    # The first view is turned from the recording's about a horizontal axis only: headings agree.
    across, recorded = np.cross(first[:3, 2], up), T_world_camera0[:3, 2]
    if np.linalg.norm(np.cross(recorded, up)) > 1e-2:
        assert abs(across @ recorded) < 1e-6
        assert np.cross(across, up) @ recorded < 1e-9


def test_mount_follows_urdf() -> None:
    mount = Mount((.1, .2, .3), (0., math.pi / 2, 0.))
    T = mount.T_base_camera
    np.testing.assert_allclose(T[:3, 3], [.1, .2, .3])
    # Positive pitch looks down: the optical axis points to -z of the base.
    np.testing.assert_allclose(T[:3, 2], [0., 0., -1.], atol=1e-12)


@given(twist=_TWIST, base=_TWIST)
def test_base_and_camera_poses_are_inverse(twist: np.ndarray, base: np.ndarray) -> None:
    start = start_frame(se3_exp(twist), np.array([0., -1., 0.]), Mount((.2, .1, .9), (.1, .2, .3)))
    T = se3_exp(base)
    np.testing.assert_allclose(start.base_poses(start.camera_poses(T)), T, atol=1e-9)
    points = np.arange(12.).reshape(4, 3)
    back = start.to_map(points) @ start.T_world_map[:3, :3].T + start.T_world_map[:3, 3]
    np.testing.assert_allclose(back, points, atol=1e-9)


@pytest.mark.parametrize('arguments', [
    (np.full((4, 4), np.nan), (0., 0., 1.)), (np.diag([2., 1., 1., 1.]), (0., 0., 1.)), (np.eye(4), (0., 0., 0.)),
    (np.eye(4), (0., math.nan, 0.)), (np.eye(4), (0., 1.)), (np.eye(4), (0., 0., 1.), None, math.inf)])
def test_bad_start_is_refused(arguments: tuple) -> None:
    with pytest.raises(ConfigurationError):
        start_frame(arguments[0], np.array(arguments[1]), *arguments[2:])


def test_bad_mount_and_limits_are_refused() -> None:
    for make in (lambda: Mount((0., math.nan, 0.)), lambda: Mount(rpy=(0., 0.)), lambda: Limits(linear_speed=0.),
                 lambda: Limits(angular_acceleration=math.nan), lambda: TwistDriver(timeout=0.)):
        with pytest.raises(ConfigurationError):
            make()


# --- twists ---------------------------------------------------------------------------------------------------------

@given(twist=_TWIST, start=_TWIST, count=st.integers(1, 60))
def test_constant_twist_is_the_closed_form(twist: np.ndarray, start: np.ndarray, count: int) -> None:
    seconds = 1.5
    driver = TwistDriver(se3_exp(start), _AT_ONCE)
    driver.command(twist, 0.)
    poses, twists = driver.advance(0., count + 1, count / seconds)
    np.testing.assert_allclose(poses[0], se3_exp(start))
    np.testing.assert_allclose(poses[-1], se3_exp(start) @ se3_exp(seconds * twist), atol=1e-9)
    np.testing.assert_allclose(twists[-1], twist)


@given(split=st.lists(st.integers(1, 9), min_size=1, max_size=6))
def test_blocks_do_not_matter(split: list[int]) -> None:
    whole, parts = TwistDriver(), TwistDriver()
    for driver in (whole, parts):
        driver.command([.8, 0., 0., 0., 0., .5], 0.)
    expected, _ = whole.advance(0., sum(split), 24.)
    got = [parts.advance(0., count, 24.)[0] for count in split]
    np.testing.assert_allclose(np.concatenate(got), expected, atol=1e-12)


def test_a_straight_ramp_does_not_depend_on_the_rate() -> None:
    # 1 m/s reached in 1 / 1.5 s on 1/3 m, then held until 2 s: 1/3 + 4/3 m.
    for rate in (3., 7., 24., 200.):
        driver = TwistDriver(limits=Limits(linear_speed=1., linear_acceleration=1.5))
        driver.command([1., 0., 0., 0., 0., 0.], 0.)
        poses, _ = driver.advance(0., int(2 * rate) + 1, rate)
        assert poses[-1, 0, 3] == pytest.approx(5 / 3, abs=1e-9)


_EXTREME = st.one_of(st.floats(-5., 5.), st.floats(-1e300, 1e300), st.sampled_from([math.nan, math.inf, -math.inf]))


@settings(deadline=None)
@given(commands=st.lists(st.tuples(st.tuples(*[_EXTREME] * 6), st.integers(1, 12), st.floats(0., 1.)), max_size=8),
       speed=st.floats(.1, 3.), acceleration=st.floats(.1, 20.), rate=st.sampled_from([5., 12., 24.]))
def test_limits_are_never_exceeded(commands: list, speed: float, acceleration: float, rate: float) -> None:
    limits = Limits(speed, 2 * speed, acceleration, 2 * acceleration)
    driver, now = TwistDriver(limits=limits), 0.
    poses, twists = [driver.advance(now, 1, rate)[0]], [np.zeros((1, 6))]
    for twist, count, wait in commands:
        assert driver.command(twist, now) == np.isfinite(twist).all()
        now += wait
        block_poses, block_twists = driver.advance(now, count, rate)
        poses.append(block_poses)
        twists.append(block_twists)
    poses, twists = np.concatenate(poses), np.concatenate(twists)
    assert all(is_rigid(T, 1e-9) for T in poses)
    steps = np.array([se3_log(invert(T0) @ T1) for T0, T1 in zip(poses[:-1], poses[1:], strict=True)]).reshape(-1, 6)
    ways = np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=1)
    slack = 1. + 1e-6
    assert (ways * rate <= speed * slack).all()
    assert (np.linalg.norm(steps[:, 3:], axis=1) * rate <= 2 * speed * slack).all()
    changes = np.diff(twists, axis=0) * rate
    assert (np.linalg.norm(changes[:, :3], axis=1) <= acceleration * slack).all()
    assert (np.linalg.norm(changes[:, 3:], axis=1) <= 2 * acceleration * slack).all()


def test_stops_smoothly_after_the_timeout() -> None:
    driver = TwistDriver(limits=Limits(linear_speed=1., linear_acceleration=2.))
    driver.command([1., 0., 0., 0., 0., 0.], 10.)
    driver.advance(10., 13, 24.)
    assert driver.twist[0] == pytest.approx(1.)
    driver.advance(10.5, 1, 24.)
    assert driver.twist[0] == pytest.approx(1.)
    _, twists = driver.advance(10.51, 24, 24.)
    assert (np.diff(twists[:12, 0]) < 0).all()
    np.testing.assert_array_equal(twists[12:], 0.)
    standing = driver.T_map_base
    np.testing.assert_array_equal(driver.advance(12., 3, 24.)[0], np.tile(standing, (3, 1, 1)))


def test_a_command_from_another_clock_does_not_count() -> None:
    driver = TwistDriver()
    driver.command([1., 0., 0., 0., 0., 0.], 1.7e9)
    np.testing.assert_array_equal(driver.advance(5., 10, 24.)[1], 0.)


def test_a_single_command_counts_for_one_block_however_long_that_is() -> None:
    driver = TwistDriver(limits=_AT_ONCE, timeout=.5)
    driver.advance(10., 12, 12.)
    # In the very tick of the clock that the block before was planned in.
    driver.command([1., 0., 0., 0., 0., 0.], 10.)
    np.testing.assert_array_equal(driver.advance(11., 12, 12.)[1][:, 0], 1.)
    np.testing.assert_array_equal(driver.advance(12., 12, 12.)[1], 0.)
    driver.command([1., 0., 0., 0., 0., 0.], 12.1)
    driver.set_pose(np.eye(4))
    np.testing.assert_array_equal(driver.advance(13., 12, 12.)[1], 0.)


def test_bad_commands_leave_the_last_one() -> None:
    driver = TwistDriver(limits=_AT_ONCE)
    assert driver.command([1., 0., 0., 0., 0., 0.], 0.)
    assert not driver.command([math.nan, 0., 0., 0., 0., 0.], .1)
    assert not driver.command([0., 0., 0., 0., 0., math.inf], .1)
    assert not driver.command([0.] * 6, math.nan)
    with pytest.raises(ValueError, match='6 numbers'):
        driver.command([1., 2.], .1)
    poses, _ = driver.advance(.1, 25, 24.)
    assert poses[-1, 0, 3] == pytest.approx(1.)


def test_lower_limits_hold_at_once_for_the_command_given() -> None:
    driver = TwistDriver(limits=_AT_ONCE)
    driver.command([5., 0., 0., 0., 0., 0.], 0.)
    driver.limits = Limits(2., 2., math.inf, math.inf)
    assert driver.advance(0., 2, 24.)[1][-1, 0] == pytest.approx(2.)


def test_set_pose_stands_there_and_forgets() -> None:
    driver = TwistDriver(limits=_AT_ONCE)
    driver.command([1., 0., 0., 0., 0., 1.], 0.)
    driver.advance(0., 5, 24.)
    there = se3_exp(np.array([4., 5., 0., 0., 0., 2.]))
    driver.set_pose(there)
    poses, twists = driver.advance(.1, 4, 24.)
    np.testing.assert_allclose(poses, np.tile(there, (4, 1, 1)))
    np.testing.assert_array_equal(twists, 0.)
    with pytest.raises(ConfigurationError):
        driver.set_pose(np.full((4, 4), np.nan))
    np.testing.assert_allclose(driver.T_map_base, there)


def test_bad_advance_is_a_programming_error() -> None:
    for count, rate in ((0, 24.), (1, 0.), (1, math.nan)):
        with pytest.raises(ValueError, match='cannot advance'):
            TwistDriver().advance(0., count, rate)


def test_rotation_stays_a_rotation_over_an_hour() -> None:
    driver = TwistDriver(limits=_AT_ONCE)
    driver.command([.1, 0., 0., .3, .2, 1.], 0.)
    for _ in range(10):
        driver.advance(0., 2000, 24.)
    R = driver.T_map_base[:3, :3]
    np.testing.assert_allclose(R @ R.T, np.eye(3), atol=1e-14)
