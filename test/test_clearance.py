# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Clearance: no command whatever takes a robot through known geometry."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inspatio_ros.errors import ConfigurationError
from inspatio_ros.geometry import PinholeCamera, invert, lift, make_pose, se3_exp
from inspatio_ros.reference.base import Reference, ReferenceFrame
from inspatio_ros.spatial.clearance import (
    MAX_FRAMES,
    Clearance,
    _spread_over_the_way,
    clearance_of,
    estimate_floor,
    points_from_reference,
    thin,
)
from inspatio_ros.spatial.motion import Limits, TwistDriver, start_frame

RADIUS, SPACING, HALF = 0.3, 0.05, 2.
#: A disc sinks this far between two points of a wall that are SPACING apart.
SINK = RADIUS - np.sqrt(RADIUS**2 - SPACING**2 / 4)


def _grid(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    return np.stack(np.meshgrid(x, y, z), axis=-1).reshape(-1, 3)


def _box_room() -> np.ndarray:
    """Floor and four walls of a room of 4 x 4 x 2 m about the origin, and a pillar of 0.4 x 0.4 m at (1, 1)."""
    across, height = np.arange(-HALF, HALF + 1e-9, SPACING), np.arange(0., 2., 0.2)
    around = np.arange(0.8, 1.2 + 1e-9, SPACING)
    ends, sides = np.array([-HALF, HALF]), np.array([0.8, 1.2])
    return np.concatenate([_grid(across, across, np.zeros(1)), _grid(ends, across, height),
                           _grid(across, ends, height), _grid(sides, around, height), _grid(around, sides, height)])


@pytest.fixture(scope='module')
def room() -> Clearance:
    return Clearance(_box_room(), radius=RADIUS)


def _at(x: float, y: float, z: float = 0., yaw: float = 0.) -> np.ndarray:
    c, s = np.cos(yaw), np.sin(yaw)
    return make_pose(np.array([[c, -s, 0.], [s, c, 0.], [0., 0., 1.]]), np.array([x, y, z]))


def _assert_inside(positions: np.ndarray) -> None:
    """Check centres [N, 3] against the room's true shape: within the walls, and no way cuts the pillar."""
    keep = RADIUS - SINK - 1e-9
    assert np.abs(positions[:, :2]).max() <= HALF - keep
    outside_pillar = np.abs(positions[:, :2] - 1.) - 0.2
    assert np.linalg.norm(np.maximum(outside_pillar, 0.), axis=1).min() >= keep - SINK
    between = 0.5 * (positions[1:] + positions[:-1])
    assert (np.abs(between[:, :2] - 1.) > 0.2).any(axis=1).all()


_SPEED = st.floats(-8., 8.)
_COMMANDS = st.lists(st.tuples(_SPEED, _SPEED, st.just(0.), st.just(0.), st.just(0.), _SPEED, st.integers(1, 24)),
                     min_size=1, max_size=12)


@settings(max_examples=60, deadline=None)
@given(commands=_COMMANDS, rate=st.sampled_from([2., 12., 24.]), acceleration=st.sampled_from([1., 8., float('inf')]))
def test_no_command_crosses_a_wall(room: Clearance, commands: list[tuple], rate: float, acceleration: float) -> None:
    driver = TwistDriver(limits=Limits(8., 8., acceleration, acceleration), clearance=room)
    now, positions = 0., []
    for *twist, count in commands:
        driver.command(twist, now)
        positions.append(driver.advance(now, count, rate)[0][:, :3, 3])
        now += count / rate
    _assert_inside(np.concatenate(positions))


def test_a_fast_step_does_not_tunnel(room: Clearance) -> None:
    fraction = room.limit(_at(0., 0.), _at(100., 0.))
    assert 100. * fraction == pytest.approx(HALF - RADIUS, abs=2 * SINK)
    assert room.limit(_at(0., 0.), _at(1., 0.)) == 1.


def test_way_between_two_obstacles_is_checked_whole() -> None:
    post = Clearance(_grid(np.array([5.]), np.zeros(1), np.arange(0., 2., .1)), radius=RADIUS, floor=0.)
    # Both ends are clear of the post; the way between is not, unless it passes beside.
    assert 10. * post.limit(_at(0., 0.), _at(10., 0.)) == pytest.approx(5. - RADIUS, abs=1e-3)
    assert post.limit(_at(0., RADIUS + .01), _at(10., RADIUS + .01)) == 1.


def test_floor_and_ceiling_do_not_block() -> None:
    across = np.arange(-3., 3., .05)
    hall = np.concatenate([_grid(across, across, np.array([-.02, 0., .02])), _grid(across, across, np.array([2.5]))])
    clearance = Clearance(hall, radius=RADIUS)
    assert clearance.floor == pytest.approx(0., abs=.03)
    assert len(clearance.obstacles) == 0
    assert clearance.limit(_at(0., 0.), _at(5., 0.)) == 1.
    assert np.isinf(clearance.distance(np.zeros((2, 3)))).all()


def test_touching_may_turn_and_leave_but_not_press_on(room: Clearance) -> None:
    touching = _at(HALF - RADIUS + .05, 0.)
    assert room.limit(touching, _at(HALF - RADIUS + .05, 0., yaw=2.)) == 1.
    assert room.limit(touching, _at(0., 0.)) == 1.
    assert room.limit(touching, _at(HALF, 0.)) == 0.


def test_any_up_gives_the_same() -> None:
    points = _box_room()
    # y down, as in an optical frame: world (x, -z, y) has up = -y.
    turned = points[:, [0, 2, 1]] * [1., -1., 1.]
    clearance = Clearance(turned, up=np.array([0., -1., 0.]), radius=RADIUS)
    start, end = make_pose(translation=np.zeros(3)), make_pose(translation=np.array([0., 0., -9.]))
    assert 9. * clearance.limit(start, end) == pytest.approx(HALF - RADIUS, abs=2 * SINK)


def test_brakes_before_the_wall(room: Clearance) -> None:
    limits = Limits(linear_speed=1., linear_acceleration=1.)
    driver = TwistDriver(limits=limits, clearance=room)
    driver.command([5., 0., 0., 0., 0., 0.], 0.)
    poses, twists = driver.advance(0., 24 * 6, 24.)
    speed = np.diff(poses[:, 0, 3]) * 24.
    assert speed.max() == pytest.approx(1., rel=1e-6)
    assert np.abs(np.diff(speed)).max() * 24. <= 1. + 1e-6
    assert poses[-1, 0, 3] == pytest.approx(HALF - RADIUS, abs=.02)
    assert np.abs(twists[-1]).max() < .05


def test_floor_is_found_under_noise() -> None:
    rng = np.random.default_rng(0)
    floor = np.c_[rng.uniform(-3, 3, (4000, 2)), rng.normal(-1.6, .01, 4000)]
    clutter = np.c_[rng.uniform(-3, 3, (6000, 2)), rng.uniform(-1.6, 1., 6000)]
    below = np.c_[rng.uniform(-3, 3, (20, 2)), rng.uniform(-4., -2., 20)]
    points = np.concatenate([floor, clutter, below])
    assert estimate_floor(points, np.array([0., 0., 1.])) == pytest.approx(-1.6, abs=.02)
    assert estimate_floor(np.empty((0, 3)), np.array([0., 0., 1.])) == 0.


def test_no_points_and_unknown_points_are_no_obstacles() -> None:
    for points in (np.empty((0, 3)), np.full((5, 3), np.nan)):
        assert Clearance(points).limit(_at(0., 0.), _at(9., 0.)) == 1.


def test_bad_values_are_refused() -> None:
    with pytest.raises(ConfigurationError, match='radius'):
        Clearance(np.zeros((1, 3)), radius=0.)
    with pytest.raises(ConfigurationError, match='height band'):
        Clearance(np.zeros((1, 3)), height_band=(1., .5))


def test_thin_keeps_real_points_one_a_cell() -> None:
    points = np.random.default_rng(1).uniform(-1., 1., (5000, 3))
    kept = thin(points, .25)
    assert {tuple(p) for p in kept} <= {tuple(p) for p in points}
    assert len(kept) == len({tuple(c) for c in np.floor(points / .25).astype(int)})
    assert len(thin(points, 4., 4000)) == 0


class _WallAhead(Reference):
    """Three views of a wall 2 m ahead (world z = 2, y down); one frame also sees a speck at half the way."""

    def __init__(self) -> None:
        self.name, self.up = 'wall', np.array([0., -1., 0.])
        self.camera = PinholeCamera(40., 40., 31.5, 23.5, 64, 48)
        self.times = np.arange(3.)
        self.T_world_camera = np.array([make_pose(translation=np.array([x, 0., 0.])) for x in (0., .01, .02)])

    def frame(self, index: int) -> ReferenceFrame:
        z_depth = np.full((48, 64), 2., dtype=np.float32)
        z_depth[:8] = np.nan
        if index == 1:
            z_depth[20:28, 28:36] = 1.
        image = np.zeros((48, 64, 3), dtype=np.uint8)
        return ReferenceFrame(index, self.times[index], image, z_depth, self.T_world_camera[index])


def test_points_of_a_recording() -> None:
    reference = _WallAhead()
    points = points_from_reference(reference, stride=1, voxel=.1)
    assert len(points) > 100
    np.testing.assert_allclose(points[:, 2], 2., atol=1e-6)
    assert np.isclose(points_from_reference(reference, stride=1, voxel=.1, min_frames=1)[:, 2], 1.).any()
    assert len(points_from_reference(reference, max_depth=1.5)) == 0
    whole = lift(reference.frame(0).z_depth, reference.camera, np.eye(4)).reshape(-1, 3)
    assert points[:, 1].min() >= np.nanmin(whole[:, 1]) - 1e-6
    one = points_from_reference(reference.without([1, 2]), stride=1)
    assert len(one) > 100


def test_every_part_of_a_long_way_is_looked_at_twice() -> None:
    still, steps = np.repeat(np.eye(4)[None], 500, axis=0), np.arange(600) / 60
    walk = np.array([make_pose(translation=[x, 0., 0.]) for x in steps])
    chosen = _spread_over_the_way(np.concatenate([still, walk]), MAX_FRAMES)
    places = np.concatenate([still, walk])[chosen, 0, 3]
    assert np.diff(places).max() <= 0.5 + 2 / 60 and len(chosen) < 30 and places[-1] == steps[-1]
    assert len(_spread_over_the_way(still, MAX_FRAMES)) == 16
    turning = np.array([se3_exp(np.array([0., 0., 0., 0., angle, 0.])) for angle in np.linspace(0., 40 * np.pi, 2000)])
    assert len(_spread_over_the_way(turning, MAX_FRAMES)) == MAX_FRAMES
    assert _spread_over_the_way(still[:2], MAX_FRAMES).tolist() == [0, 1]


@pytest.mark.parametrize('height', [.3, 1., 1.64])
def test_wall_of_a_recording_stops_the_robot(height: float) -> None:
    reference = _WallAhead()
    start = start_frame(reference.T_world_camera[0], reference.up, camera_height=height)
    driver = TwistDriver(start.T_map_base, clearance=clearance_of(reference, start, RADIUS))
    driver.command([1., 0., 0., 0., 0., 0.], 0.)
    positions = start.camera_poses(driver.advance(0., 200, 24.)[0])[:, 2, 3]
    assert positions[-1] == pytest.approx(2. - RADIUS, abs=.02)


def test_office_where_the_recording_went_is_free(shared: Path) -> None:
    from inspatio_ros.reference import open_reference
    reference = open_reference(Path(shared) / 'data' / 'hololens_office_a')
    start = start_frame(reference.T_world_camera[0], reference.up)
    clearance = clearance_of(reference, start)
    walked = start.to_map(reference.T_world_camera[:, :3, 3])
    assert clearance.distance(walked).min() > clearance.radius
    poses = [make_pose(translation=position) for position in walked]
    assert all(clearance.limit(T0, T1) == 1. for T0, T1 in zip(poses[:-1], poses[1:], strict=True))
    # What the recording looked at is there: going 20 m ahead from where it stood runs into something.
    T_map_cameras = invert(start.T_world_map) @ reference.T_world_camera[::10]
    for T, pose in zip(T_map_cameras, poses[::10], strict=True):
        heading = T[:2, 2] / np.linalg.norm(T[:2, 2])
        ahead = make_pose(translation=pose[:3, 3] + [*20. * heading, 0.])
        assert clearance.limit(pose, ahead) < 1.
