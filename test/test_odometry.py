# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Odometry: frames on exactly the path driven, at exact stamps, whatever comes in."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from inspatio_ros.errors import ConfigurationError
from inspatio_ros.geometry import invert, make_pose, se3_exp
from inspatio_ros.spatial.odometry import NANOSECONDS, OdometryAligner, OdometryLimits, OdometryPath, PushStatus

_TWIST = arrays(np.float64, 6, elements=st.floats(-2., 2.))
_CURVE = np.array([.8, 0., 0., 0., 0., .6])
_START = 1_700_000_000_123_456_789


def _pose(seconds: float) -> np.ndarray:
    return se3_exp(seconds * _CURVE)


def _drive(path: OdometryPath, start: float, end: float, rate: float = 50.) -> list[PushStatus]:
    return [path.push(_START + round(t * NANOSECONDS), _pose(t)) for t in np.arange(start, end, 1 / rate)]


# --- alignment ------------------------------------------------------------------------------------------------------

@given(start=_TWIST, first=_TWIST, motion=_TWIST)
def test_first_pose_is_the_start_and_others_follow(start: np.ndarray, first: np.ndarray, motion: np.ndarray) -> None:
    aligner = OdometryAligner(se3_exp(start))
    assert aligner.T_map_odom is None
    first = first * (1, 1, 1, 0, 0, 1)  # neither rolled nor pitched
    T0, T1 = se3_exp(first), se3_exp(first) @ se3_exp(motion)
    np.testing.assert_allclose(aligner.align(T0), se3_exp(start), atol=1e-9)
    np.testing.assert_allclose(aligner.align(np.array([T0, T1]))[1], se3_exp(start) @ se3_exp(motion), atol=1e-9)
    np.testing.assert_allclose(aligner.T_map_odom @ T1, aligner.align(T1))


@given(pitch=st.floats(-1.2, 1.2), roll=st.floats(-1.2, 1.2), yaw=st.floats(-3., 3.))
def test_a_first_pose_on_a_ramp_tilts_the_robot_and_not_the_map(pitch: float, roll: float, yaw: float) -> None:
    start = make_pose(se3_exp(np.array([0., 0., 0., 0., 0., .7]))[:3, :3], np.array([1., 2., .3]))
    turn, tilt = (se3_exp(np.array([0., 0., 0., 0., 0., yaw])),
                  se3_exp(np.array([0., 0., 0., 0., pitch, 0.])) @ se3_exp(np.array([0., 0., 0., roll, 0., 0.])))
    aligner = OdometryAligner(start)
    np.testing.assert_allclose(aligner.align(turn @ tilt), start @ tilt, atol=1e-9)
    np.testing.assert_allclose(aligner.T_map_odom[2], [0., 0., 1., .3], atol=1e-12)
    # Driven level from there, it keeps its height.
    on = turn @ make_pose(translation=np.array([10., 0., 0.]))
    assert aligner.align(on)[2, 3] == pytest.approx(.3)


def test_reset_aligns_anew() -> None:
    aligner = OdometryAligner(np.eye(4))
    aligner.align(_pose(1.))
    aligner.reset()
    np.testing.assert_allclose(aligner.align(_pose(2.)), np.eye(4), atol=1e-12)
    aligner.reset(_pose(5.))
    np.testing.assert_allclose(aligner.align(np.array([_pose(2.), _pose(3.)]))[1],
                               _pose(5.) @ invert(_pose(2.)) @ _pose(3.), atol=1e-12)


# --- sampling -------------------------------------------------------------------------------------------------------

def test_what_is_foreseen_is_what_is_taken() -> None:
    path = OdometryPath(24.)
    assert path.foresee(3) is None
    _drive(path, 0., 2.)
    for count in (9, 12, 12):
        foreseen, again, taken = path.foresee(count), path.foresee(count), path.take(count)
        for one, other, third in zip(foreseen, again, taken, strict=True):
            np.testing.assert_array_equal(one, third)
            np.testing.assert_array_equal(other, third)
    assert path.foresee(60) is None, 'it is not covered yet'


def test_what_may_be_dropped_is_not_foreseen() -> None:
    path = OdometryPath(24., 'drop')
    _drive(path, 0., 1.)
    assert path.foresee(9) is None and path.foresee(20) is not None


@pytest.mark.parametrize('rate', [24., 12., 30., 24000 / 1001, 7.5])
def test_samples_lie_on_the_path_at_exact_stamps(rate: float) -> None:
    path = OdometryPath(rate)
    _drive(path, 0., 9.)
    stamps, poses = path.take(60)
    exact = Fraction(rate).limit_denominator(1001)
    assert stamps.tolist() == [_START + round(Fraction(i * NANOSECONDS) / exact) for i in range(60)]
    expected = [_pose((stamp - _START) / NANOSECONDS) for stamp in stamps.tolist()]
    np.testing.assert_allclose(poses, expected, atol=1e-8)


@settings(deadline=None)
@given(steps=st.lists(st.integers(1, 400_000_000), min_size=2, max_size=60),
       counts=st.lists(st.integers(1, 12), min_size=1, max_size=12), rate=st.sampled_from([24., 12., 29.97]))
def test_stamps_are_one_grid_however_messages_come(steps: list[int], counts: list[int], rate: float) -> None:
    path, taken, stamp = OdometryPath(rate), [], _START
    counts = iter(counts)
    for step in steps:
        assert path.push(stamp, _pose((stamp - _START) / NANOSECONDS)) is PushStatus.ACCEPTED
        while path.ready(1) and (count := next(counts, None)) is not None:
            block = path.take(count)
            if block is not None:
                taken += block[0].tolist()
                assert taken[-1] <= stamp
                assert all(np.allclose(T, _pose((s - _START) / NANOSECONDS), atol=1e-7)
                           for s, T in zip(block[0].tolist(), block[1], strict=True))
        stamp += step
    exact = Fraction(rate).limit_denominator(1001)
    assert all(abs(s - _START - Fraction(i * NANOSECONDS) / exact) <= Fraction(1, 2) for i, s in enumerate(taken))
    assert path.dropped == 0


def test_nothing_is_given_before_it_is_covered() -> None:
    path = OdometryPath(10.)
    assert path.take(1) is None and not path.ready(1)
    path.push(_START, _pose(0.))
    assert path.take(1)[0].tolist() == [_START]
    path.push(_START + 199_999_999, _pose(.199_999_999))
    assert path.take(2) is None
    path.push(_START + 200_000_000, _pose(.2))
    assert path.ready(2) and not path.ready(3)
    assert path.take(2)[0].tolist() == [_START + 100_000_000, _START + 200_000_000]


def test_no_drift_after_a_day() -> None:
    path = OdometryPath(24000 / 1001, 'drop', OdometryLimits(max_gap=1e9))
    path.push(0, np.eye(4))
    path.push(86_400 * NANOSECONDS, np.eye(4))
    stamps, _ = path.take(12)
    last = 86_400 * 24000 // 1001
    assert stamps.tolist() == [round(Fraction(i * NANOSECONDS * 1001, 24000)) for i in range(last - 11, last + 1)]


# --- what can go wrong ----------------------------------------------------------------------------------------------

def test_a_jump_restarts_the_path_there() -> None:
    path = OdometryPath(10.)
    assert set(_drive(path, 0., .26)) == {PushStatus.ACCEPTED}
    there = se3_exp(np.array([50., 0., 0., 0., 0., 0.]))
    jump = round(.28 * NANOSECONDS)
    assert path.push(_START + jump, there) is PushStatus.JUMPED
    assert path.push(_START + jump + NANOSECONDS // 2, there) is PushStatus.ACCEPTED
    stamps, poses = path.take(4)
    # Frames at 0, .1 and .2 s are given up; .3 is the first of the same grid on the new path.
    assert (stamps - _START).tolist() == [300_000_000, 400_000_000, 500_000_000, 600_000_000]
    np.testing.assert_allclose(poses, np.tile(there, (4, 1, 1)))
    assert path.dropped == 3


def test_what_is_a_jump_goes_by_the_robots_speed() -> None:
    for fastest, status in ((30., PushStatus.ACCEPTED), (10., PushStatus.JUMPED)):
        path = OdometryPath(10., limits=OdometryLimits(linear_speed=fastest))
        path.push(0, np.eye(4))
        assert path.push(50_000_000, make_pose(translation=np.array([.75, 0., 0.]))) is status


def test_a_turn_can_be_a_jump_and_noise_is_not() -> None:
    path = OdometryPath(10.)
    path.push(0, np.eye(4))
    noise = se3_exp(np.array([.05, 0., 0., 0., 0., .1]))
    assert path.push(1_000_000, noise) is PushStatus.ACCEPTED
    assert path.push(2_000_000, noise @ se3_exp(np.array([0., 0., 0., 0., 0., 2.]))) is PushStatus.JUMPED


def test_time_going_back_is_ignored() -> None:
    path = OdometryPath(10.)
    _drive(path, 0., 1.)
    assert path.push(_START + 500_000_000, _pose(9.)) is PushStatus.BACKWARDS
    assert path.push(path.newest_stamp, _pose(9.)) is PushStatus.BACKWARDS
    stamps, poses = path.take(9)
    np.testing.assert_allclose(poses, [_pose(i / 10) for i in range(9)], atol=1e-8)
    assert (np.diff(stamps) > 0).all()


def test_a_clock_set_back_restarts_everything() -> None:
    path = OdometryPath(10.)
    _drive(path, 0., 1.)
    path.take(5)
    assert path.push(7, np.eye(4)) is PushStatus.RESTARTED
    path.push(200_000_007, np.eye(4))
    stamps, _ = path.take(3)
    assert stamps.tolist() == [7, 100_000_007, 200_000_007]
    assert path.dropped == 0


@pytest.mark.parametrize('ahead', [3., 60., 1e6])
def test_one_stamp_of_another_time_is_left_out(ahead: float) -> None:
    path, plain = OdometryPath(10.), OdometryPath(10.)
    for one in (path, plain):
        _drive(one, 0., 1.)
        one.take(4)
    newest = path.newest_stamp
    assert path.push(_START + round(ahead * NANOSECONDS), _pose(1.)) is PushStatus.GAP
    assert path.newest_stamp == newest and (path.lag, path.dropped) == (plain.lag, 0)
    assert path.take(1) is None and path.foresee(1) is None, 'its stamp is one of the grid'
    for one in (path, plain):
        assert one.push(newest - 5_000_000, _pose(.9)) is PushStatus.BACKWARDS, 'as the message before it, come late'
        assert set(_drive(one, 1., 2.)) == {PushStatus.ACCEPTED}
    for taken, expected in zip(path.take(14), plain.take(14), strict=True):
        np.testing.assert_array_equal(taken, expected)
    assert (path.dropped, path.newest_stamp) == (0, plain.newest_stamp)


def test_one_stamp_of_another_time_before_a_jump_or_a_pause_sets_nothing_back() -> None:
    path = OdometryPath(10.)
    _drive(path, 0., 1.)
    assert path.push(_START + 60 * NANOSECONDS, _pose(1.)) is PushStatus.GAP
    away = make_pose(translation=np.array([90., 0., 0.]))
    assert path.push(_START + NANOSECONDS, away) is PushStatus.JUMPED
    assert path.push(_START + 60 * NANOSECONDS, away) is PushStatus.GAP
    path.reset()
    assert path.push(_START + 2 * NANOSECONDS, away) is PushStatus.ACCEPTED


def test_a_clock_set_back_behind_a_gap_restarts_everything() -> None:
    for back in (7, _START - 2 * NANOSECONDS):
        path = OdometryPath(10.)
        _drive(path, 0., 1.)
        assert path.push(_START + 60 * NANOSECONDS, _pose(1.)) is PushStatus.GAP
        assert path.push(back, _pose(1.)) is PushStatus.RESTARTED
        assert path.newest_stamp == back
    # Two poses behind it make a gap one.
    path = OdometryPath(10.)
    _drive(path, 0., 1.)
    _drive(path, 60., 60.1)
    assert path.newest_stamp > _START + 60 * NANOSECONDS
    assert path.push(_START + NANOSECONDS, _pose(1.)) is PushStatus.RESTARTED


def test_a_gap_is_not_bridged() -> None:
    path = OdometryPath(10.)
    _drive(path, 0., .15)
    path.take(2)
    assert path.push(_START + 5 * NANOSECONDS, _pose(5.)) is PushStatus.GAP
    path.push(_START + 5 * NANOSECONDS + 100_000_000, _pose(5.1))
    stamps, _ = path.take(2)
    assert (stamps - _START).tolist() == [5_000_000_000, 5_100_000_000]


@pytest.mark.parametrize(('position', 'orientation', 'status'), [
    ((0., 0., 0.), (0., 0., 0., 1.), PushStatus.ACCEPTED),
    ((0., 0., 0.), (0., 0., 0., 1.0005), PushStatus.ACCEPTED),
    ((0., 0., 0.), (0., 0., 0., 0.), PushStatus.REFUSED),
    ((0., 0., 0.), (1., 0., 0., 1.), PushStatus.REFUSED),
    ((math.nan, 0., 0.), (0., 0., 0., 1.), PushStatus.REFUSED),
    ((0., 0., 0.), (0., 0., math.inf, 1.), PushStatus.REFUSED)])
def test_messages_are_checked(position: tuple, orientation: tuple, status: PushStatus) -> None:
    path = OdometryPath(10.)
    assert path.push_message(0, position, orientation) is status
    assert path.ready(1) == status.is_kept == (status is PushStatus.ACCEPTED)


def test_matrices_are_checked() -> None:
    path = OdometryPath(10.)
    for bad in (np.full((4, 4), np.nan), np.diag([2., 1., 1., 1.]), np.eye(3)):
        assert path.push(0, bad) is PushStatus.REFUSED
    assert path.newest_stamp is None


# --- overload -------------------------------------------------------------------------------------------------------

def test_slow_down_gives_every_frame() -> None:
    path = OdometryPath(24.)
    _drive(path, 0., 10.)
    assert path.lag == pytest.approx(9.98)
    taken = []
    while (block := path.take(12)) is not None:
        taken += block[0].tolist()
    # The last pose is that of 9.98 s, so frames 0 to 239 are due.
    assert len(taken) == 240
    assert path.dropped == 0
    assert path.lag < .5


def test_drop_skips_to_the_newest_on_the_same_grid() -> None:
    path = OdometryPath(24., 'drop')
    _drive(path, 0., .9)
    # Not yet two blocks: nothing is dropped.
    assert path.take(12)[0][0] == _START and path.dropped == 0
    _drive(path, .9, 10.)
    stamps, poses = path.take(12)
    last = round((stamps[-1] - _START) * 24 / NANOSECONDS)
    assert last == math.floor(9.98 * 24) and path.dropped == last - 23
    assert stamps.tolist() == [_START + round(Fraction(i * NANOSECONDS, 24)) for i in range(last - 11, last + 1)]
    np.testing.assert_allclose(poses[-1], _pose(last / 24), atol=1e-7)
    assert path.take(12) is None


def test_memory_is_bounded() -> None:
    path = OdometryPath(10., max_poses=50)
    _drive(path, 0., 20.)
    stamps, poses = path.take(5)
    # The oldest second held starts at 19 s; what was before is counted as given up.
    assert stamps[0] - _START == 19_000_000_000 and path.dropped == 190
    np.testing.assert_allclose(poses[0], _pose(19.), atol=1e-7)


def test_giving_up_what_does_not_fit_is_told() -> None:
    path = OdometryPath(10., max_poses=50)
    assert set(_drive(path, 0., 1.)) == {PushStatus.ACCEPTED}
    told = _drive(path, 1., 2.)
    assert told.count(PushStatus.FULL) == path.dropped == 10 and PushStatus.FULL.is_kept
    # Who takes what is due is never told so.
    path.take(10)
    path.take(10)
    assert set(_drive(path, 2., 2.1)) == {PushStatus.ACCEPTED}


def test_reset_forgets() -> None:
    path = OdometryPath(10.)
    _drive(path, 0., 1.)
    path.reset()
    assert path.newest_stamp is None and path.lag == 0. and path.take(1) is None
    path.push(5, np.eye(4))
    assert path.take(1)[0].tolist() == [5]


def test_bad_options_are_refused() -> None:
    for options in ({'frame_rate': 0.}, {'frame_rate': math.nan}, {'frame_rate': 24., 'overload': 'hurry'},
                    {'frame_rate': 24., 'max_poses': 1}):
        with pytest.raises(ConfigurationError):
            OdometryPath(**options)
    with pytest.raises(ValueError, match='cannot take'):
        OdometryPath(24.).take(0)


def test_a_clock_that_was_set_back_while_nobody_listened_is_told():
    path = OdometryPath(10.)
    assert path.push(100 * NANOSECONDS, np.eye(4)) is PushStatus.ACCEPTED
    path.reset()
    assert path.push(5 * NANOSECONDS, np.eye(4)) is PushStatus.RESTARTED
    path.reset()
    assert path.push(6 * NANOSECONDS, np.eye(4)) is PushStatus.ACCEPTED
