# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""When frames are shown, and what stamp they carry."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip('rclpy')

from inspatio_ros.geometry import make_pose, quaternion_xyzw, se3_exp  # noqa: E402
from inspatio_ros.ros import diagnostics  # noqa: E402
from inspatio_ros.ros.drive import OdometryDrive, TwistDrive  # noqa: E402
from inspatio_ros.ros.pacing import Pacer, SimulatedClock  # noqa: E402
from inspatio_ros.spatial.motion import Limits  # noqa: E402
from inspatio_ros.spatial.odometry import PushStatus  # noqa: E402

MS = 10**6
AGILE = Limits(linear_acceleration=np.inf, angular_acceleration=np.inf)


def shown(pacer: Pacer, ticks: list[int]) -> list[int]:
    """Give the stamps of a run with frames always at hand."""
    stamps = []
    for now in ticks:
        while (stamp := pacer.next_stamp(now)) is not None:
            stamps.append(stamp)
    return stamps


@given(st.lists(st.integers(0, 15 * MS), min_size=50, max_size=120), st.integers(0, 10**18))
@settings(max_examples=60, deadline=None)
def test_late_timers_lose_no_frame(jitter, start):
    pacer = Pacer(24.)
    stamps = shown(pacer, [start + i * pacer.period + late for i, late in enumerate(jitter)])
    assert len(stamps) >= len(jitter) - 1
    steps = np.diff(stamps)
    assert (steps > 0).all() and steps.max() <= 2 * pacer.period
    assert pacer.slips == 0


def test_stamps_are_even_and_never_ahead_of_the_clock():
    pacer = Pacer(24.)
    jitter = [3, 0, 8, 1, 0, 9, 2, 5, 0, 4]
    ticks = [i * pacer.period + late * MS for i, late in enumerate(jitter)]
    stamps = [pacer.next_stamp(now) for now in ticks]
    assert all(stamp <= now for stamp, now in zip(stamps, ticks, strict=True))
    # The first tick that came on time fixes the grid.
    assert (np.diff(stamps[1:]) == pacer.period).all()


def test_a_short_hiccup_is_caught_up_and_a_long_one_moves_the_grid():
    pacer = Pacer(20.)
    assert shown(pacer, [0, 50 * MS]) == [0, 50 * MS]
    assert shown(pacer, [200 * MS]) == [100 * MS, 150 * MS, 200 * MS]
    assert pacer.slips == 0
    assert shown(pacer, [2000 * MS]) == [2000 * MS]
    assert pacer.slips == 1


def test_a_clock_that_jumps_in_coarse_steps_keeps_the_rate():
    pacer = Pacer(25.)
    stamps = shown(pacer, [i * 100 * MS for i in range(21)])
    assert len(stamps) == 51 and (np.diff(stamps) == 40 * MS).all()


def test_a_clock_that_stands_shows_nothing_and_one_set_back_starts_anew():
    pacer = Pacer(25.)
    assert shown(pacer, [10**12] * 5) == [10**12]
    assert shown(pacer, [5, 40 * MS]) == [5, 40 * MS]


def test_frames_left_out_double_the_wait():
    pacer = Pacer(25.)
    assert pacer.next_stamp(0) == 0
    assert pacer.next_stamp(40 * MS, periods=2) is None
    assert pacer.next_stamp(80 * MS, periods=2) == 80 * MS


def test_simulated_clock_advances_by_what_is_shown():
    clock = SimulatedClock()
    assert [clock.advance(40 * MS), clock.advance(40 * MS), clock.now] == [40 * MS, 80 * MS, 80 * MS]


def test_twist_drive_moves_and_tells_scene_time():
    drive = TwistDrive(np.eye(4), 10., AGILE, 0.5)
    assert drive.command([0.5, 0, 0, 0, 0, 0], 1.)
    plan = drive.plan(3, 1.1)
    np.testing.assert_allclose(plan.T_map_base[:, 0, 3], [0., 0.05, 0.1])
    np.testing.assert_allclose(plan.elapsed, [0., 0.1, 0.2])
    assert plan.stamps is None
    np.testing.assert_allclose(drive.plan(2, 1.3).elapsed, [0.3, 0.4])


def test_twist_drive_with_stride_covers_the_same_way_in_fewer_frames():
    drive = TwistDrive(np.eye(4), 10., AGILE, 0.5)
    drive.command([0.5, 0, 0, 0, 0, 0], 1.)
    plan = drive.plan(3, 1., stride=4)
    np.testing.assert_allclose(plan.T_map_base[:, 0, 3], [0., 0.2, 0.4])
    np.testing.assert_allclose(plan.elapsed, [0., 0.4, 0.8])
    np.testing.assert_allclose(drive.plan(1, 1.).elapsed, [1.2])


def test_moving_the_robot_moves_the_map_under_its_odometry():
    drive = TwistDrive(np.eye(4), 10., AGILE, 0.5)
    drive.command([1., 0, 0, 0, 0, 0], 0.)
    before = drive.plan(3, 0.)
    odom_before = np.linalg.inv(before.T_map_odom) @ before.T_map_base[-1]
    target = make_pose(translation=np.array([5., 2., 0.]))
    drive.move_to(target)
    after = drive.plan(1, 0.)
    np.testing.assert_allclose(after.T_map_base[0], target, atol=1e-12)
    np.testing.assert_allclose(np.linalg.inv(after.T_map_odom) @ after.T_map_base[0], odom_before, atol=1e-12)
    # Frames that were planned and never shown have not been: odometry goes on from what was.
    shown = make_pose(translation=np.array([0.7, 0.1, 0.]))
    drive.move_to(np.eye(4), shown)
    once_more = drive.plan(1, 0.)
    np.testing.assert_allclose(np.linalg.inv(once_more.T_map_odom) @ once_more.T_map_base[0], shown, atol=1e-12)
    drive.reset()
    plan = drive.plan(1, 10.)
    np.testing.assert_array_equal(plan.T_map_base[0], np.eye(4))
    np.testing.assert_array_equal(plan.T_map_odom, np.eye(4))
    assert plan.elapsed[0] == 0.


def push(drive: OdometryDrive, stamp: int, x: float) -> PushStatus:
    return drive.push(stamp, (x, 1., 0.), (0., 0., 0., 1.))


def test_odometry_drive_waits_for_the_path_and_keeps_stamps():
    start = se3_exp(np.array([1., 2., 0., 0., 0., 0.5]))
    drive = OdometryDrive(start, 10., 'slow_down')
    first = 7_000_000_001
    assert push(drive, first, 3.) is PushStatus.ACCEPTED
    assert drive.plan(3, 0.) is None
    push(drive, first + 300 * MS, 3.3)
    plan = drive.plan(3, 0.)
    assert plan.stamps.tolist() == [first, first + 100 * MS, first + 200 * MS]
    np.testing.assert_allclose(plan.T_map_base[0], start, atol=1e-12)
    np.testing.assert_allclose((np.linalg.inv(start) @ plan.T_map_base)[:, 0, 3], [0., 0.1, 0.2], atol=1e-9)
    np.testing.assert_allclose(plan.elapsed, [0., 0.1, 0.2])
    in_odom = np.linalg.inv(plan.T_map_odom) @ plan.T_map_base[1]
    np.testing.assert_allclose(in_odom[:3, 3], [3.1, 1., 0.], atol=1e-9)
    np.testing.assert_allclose(quaternion_xyzw(in_odom), [0, 0, 0, 1], atol=1e-9)


def test_odometry_drive_foresees_what_it_will_plan_and_nothing_it_may_not():
    drive = OdometryDrive(se3_exp(np.array([1., 2., 0., 0., 0., 0.5])), 10., 'slow_down')
    for i in range(13):
        push(drive, i * 70 * MS, 0.03 * i)
    assert drive.foresee(3) is None, 'nothing says yet where the path lies in the map'
    drive.plan(2, 0.)
    poses, elapsed = drive.foresee(3)
    plan = drive.plan(3, 0.)
    np.testing.assert_array_equal(poses, plan.T_map_base)
    np.testing.assert_array_equal(elapsed, plan.elapsed)
    assert drive.foresee(9) is None
    drive.resume()
    assert drive.foresee(1) is None
    for stamp in (10**10, 5):
        push(drive, stamp, 0.)
    assert drive.foresee(1) is None, 'the clock was set back: the robot will be at its start'
    twist = TwistDrive(np.eye(4), 10., AGILE, 0.5)
    assert twist.foresee(1) is None, 'the newest command decides'


def test_odometry_drive_goes_on_after_pause_move_and_reset():
    drive = OdometryDrive(np.eye(4), 10., 'slow_down')
    push(drive, 0, 0.)
    push(drive, 100 * MS, 0.1)
    drive.plan(2, 0.)
    drive.resume()
    push(drive, 10**10, 4.)
    plan = drive.plan(1, 0.)
    assert plan.stamps.tolist() == [10**10]
    np.testing.assert_allclose(plan.T_map_base[0, :2, 3], [4., 0.], atol=1e-12)
    assert plan.elapsed[0] == pytest.approx(10.)
    drive.move_to(make_pose(translation=np.array([7., 7., 0.])))
    push(drive, 11 * 10**9, 4.)
    np.testing.assert_allclose(drive.plan(1, 0.).T_map_base[0, :2, 3], [7., 7.], atol=1e-12)
    drive.reset()
    push(drive, 12 * 10**9, 4.)
    plan = drive.plan(1, 0.)
    np.testing.assert_allclose(plan.T_map_base[0], np.eye(4), atol=1e-12)
    assert plan.elapsed[0] == 0.


@pytest.mark.parametrize('moved', [False, True])
def test_odometry_whose_clock_was_set_back_starts_anew(moved):
    drive = OdometryDrive(np.eye(4), 10., 'slow_down')
    if moved:
        # By initialpose, in the middle of a bag that is played in a loop.
        drive.move_to(make_pose(translation=np.array([7., 7., 0.])))
    push(drive, 10**10, 0.)
    push(drive, 10**10 + 100 * MS, 0.1)
    drive.plan(2, 0.)
    assert push(drive, 5, 9.) is PushStatus.RESTARTED
    plan = drive.plan(1, 0.)
    assert plan.stamps.tolist() == [5] and plan.elapsed[0] == 0.
    np.testing.assert_allclose(plan.T_map_base[0], np.eye(4), atol=1e-12)


# --- rates ------------------------------------------------------------------------------------------------------------

def test_rates_nobody_asks_for_are_forgotten(monkeypatch):
    now = [100.]
    monkeypatch.setattr(diagnostics.time, 'monotonic', lambda: now[0])
    meter = diagnostics.RateMeter()
    for _ in range(2400):
        now[0] += 1 / 24
        meter.count(1 / 24, 0.1)
    assert len(meter._shown) <= 5 * 24 + 1
    assert meter.rates() == pytest.approx((24., 1.), rel=0.02)
