# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The suites: the same every time, on held-out scenes, and on paths that do what they are named after."""

from __future__ import annotations

import numpy as np
import pytest

from inspatio_ros.errors import ConfigurationError
from inspatio_ros.evaluation.suites import (
    BLOCK,
    FIRST_BLOCK,
    FIRST_SEED,
    SUITES,
    clips_of,
    open_suite,
    pose_at,
)
from inspatio_ros.evaluation.worlds import recorded_truth
from inspatio_ros.geometry import PinholeCamera, invert, make_pose, se3_log
from inspatio_ros.reference.base import Reference, ReferenceFrame
from inspatio_ros.scenes.clips import HELD_OUT_SEEDS, LEAVE_ANGLE, LEAVE_DISTANCE

WIDTH, HEIGHT = 48, 32


class Corridor(Reference):
    """Fifty frames of noise along a straight line: pixels can be told apart, nothing else matters."""

    def __init__(self) -> None:
        self.name = 'corridor'
        self.camera = PinholeCamera(40., 40., 23.5, 15.5, WIDTH, HEIGHT)
        self.times = np.arange(50) / 5.
        self.T_world_camera = np.stack([make_pose(translation=np.array([0., 0., 0.1 * i])) for i in range(50)])
        self.up = np.array([0., -1., 0.])

    def frame(self, index: int) -> ReferenceFrame:
        rng = np.random.default_rng(index)
        z_depth = rng.uniform(1., 4., (HEIGHT, WIDTH)).astype(np.float32)
        z_depth[:4] = 0.
        return ReferenceFrame(index, self.times[index], rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8),
                              z_depth, self.T_world_camera[index])


def whole_blocks(frames: int) -> bool:
    return (frames - FIRST_BLOCK) % BLOCK == 0


@pytest.mark.parametrize('name', ['scenes', 'memory', 'roam'])
def test_a_suite_is_the_same_every_time(name):
    once, again = (list(clips_of(open_suite(name, 2), WIDTH, HEIGHT)) for _ in range(2))
    for a, b in zip(once, again, strict=True):
        np.testing.assert_array_equal(a.T_world_camera, b.T_world_camera)
        np.testing.assert_array_equal(a.reference.frame(0).image, b.reference.frame(0).image)
        camera = a.reference.camera
        np.testing.assert_array_equal(a.look(camera, 3).image, b.look(camera, 3).image)
        assert whole_blocks(len(a))
    assert not np.array_equal(once[0].T_world_camera[:5], once[1].T_world_camera[:5])


def test_the_scenes_of_suites_are_held_out_and_apart():
    seeds = sorted(FIRST_SEED.values())
    assert seeds[0] > HELD_OUT_SEEDS.start + 16 and min(np.diff(seeds)) >= 300
    assert all(seed + 250 in HELD_OUT_SEEDS for seed in seeds)


@pytest.mark.parametrize('index', range(4))
def test_paths_of_scenes_leave_the_recording_no_farther_than_they_say(index):
    clip = open_suite('scenes').clip(index, WIDTH, HEIGHT)
    aligned = clip.reference.T_world_camera
    if clip.reference.is_static:
        aligned = np.stack([pose_at(clip.reference, time) for time in clip.times])
    off = np.stack([se3_log(T) for T in invert(aligned) @ clip.T_world_camera])
    metres = np.linalg.norm((invert(aligned) @ clip.T_world_camera)[:, :3, 3], axis=1)
    # Between its stills the recorder's path is a curve, a little off the straight way that is assumed here.
    slack = 0.1 if clip.reference.is_static else 1e-6
    assert metres.max() <= LEAVE_DISTANCE + slack
    assert np.degrees(np.linalg.norm(off[:, 3:], axis=1)).max() <= np.degrees(LEAVE_ANGLE) + 100 * slack
    assert metres.max() > 0.01


def test_odd_scenes_stand_still_and_even_ones_move_with_their_recording():
    moving, stills = (open_suite('scenes').clip(index, WIDTH, HEIGHT) for index in (0, 1))
    assert not moving.reference.is_static and len(moving.reference) == len(moving)
    assert stills.reference.is_static and len(stills.reference) < len(stills)
    camera, T = stills.reference.camera, stills.T_world_camera[0]
    early, late = (stills.reference.look(camera, T, time).image for time in (0., 2.))
    np.testing.assert_array_equal(early, late)
    assert not stills.look(camera, 0).moving.any()


@pytest.mark.parametrize(('name', 'index'), [('memory', 2), ('roam', 0), ('roam', 1)])
def test_revisits_have_equal_poses_and_lie_two_blocks_apart(name, index):
    clip = open_suite(name).clip(index, WIDTH, HEIGHT)
    assert len(clip.revisits) >= BLOCK // 2
    for before, after in clip.revisits:
        np.testing.assert_allclose(clip.T_world_camera[before], clip.T_world_camera[after], atol=1e-9)
        assert after - before >= 2 * BLOCK
        between = invert(clip.T_world_camera[before]) @ clip.T_world_camera[before:after]
        assert max(np.degrees(np.linalg.norm(se3_log(T)[3:])) for T in between) > 5.


def test_turns_reach_90_degrees_and_all_the_way_round():
    turn, round_ = (open_suite('roam').clip(index, WIDTH, HEIGHT) for index in (0, 1))
    angles = [np.degrees(np.linalg.norm(se3_log(invert(turn.T_world_camera[0]) @ T)[3:])) for T in turn.T_world_camera]
    assert max(angles) == pytest.approx(90., abs=0.1)
    ahead = round_.T_world_camera[:, :3, 2] @ round_.T_world_camera[0, :3, 2]
    # A camera that looks down a little looks back at 180 degrees less twice its pitch.
    assert ahead.min() < -0.8
    assert len({tuple(np.round(T[:3, 2], 3)) for T in round_.T_world_camera[:8 * BLOCK]}) == 8 * BLOCK


def test_the_block_before_shows_what_the_recording_turned_away_from():
    clip = open_suite('memory').clip(1, WIDTH, HEIGHT)
    recorded, wanted = clip.reference.T_world_camera[:, :3, 2], clip.T_world_camera[:, :3, 2]
    apart = np.degrees(np.arccos((recorded * wanted).sum(axis=1).clip(-1, 1)))
    assert apart[0] < 1. and apart[FIRST_BLOCK] > 8. and apart[-1] > 45.
    assert not clip.reference.is_static


def test_the_long_loop_closes_and_makes_a_thousand_frames():
    loop = open_suite('roam').loop(WIDTH, HEIGHT)
    path = loop.clip.T_world_camera
    assert loop.laps * len(path) == 1000
    steps = [np.linalg.norm(se3_log(invert(a) @ b)) for a, b in zip(path, np.roll(path, -1, axis=0), strict=True)]
    assert steps[-1] <= 1.01 * max(steps[:-1])


def test_the_stills_of_another_frame_look_different_ways_and_only_one_is_rendered():
    clip = open_suite('memory').clip(0, WIDTH, HEIGHT)
    ahead = clip.reference.T_world_camera[:, :3, 2]
    assert clip.max_views == 1 and clip.reference.is_static
    assert np.degrees(np.arccos(ahead[0] @ ahead[-1])) > 45.


def test_cameras_stand_where_there_is_room():
    for name, index in (('memory', 0), ('memory', 1), ('roam', 0)):
        clip = open_suite(name).clip(index, WIDTH, HEIGHT)
        nearest = [np.nanmin(clip.look(clip.reference.camera, i).z_depth) for i in (0, len(clip) // 2, len(clip) - 1)]
        assert min(nearest) > 0.15


def test_office_holds_frames_out_and_arrives_at_them():
    whole = Corridor()
    suite = open_suite('office', None, whole)
    frames = [5, 15, 25, 35, 45]
    assert suite.count == len(frames) and suite.gain_fit
    for clip, frame in zip(clips_of(suite, WIDTH, HEIGHT), frames, strict=True):
        assert whole_blocks(len(clip)) and clip.judged == (len(clip) - 1,)
        np.testing.assert_allclose(clip.T_world_camera[-1], whole.T_world_camera[frame], atol=1e-9)
        np.testing.assert_array_equal(clip.look(whole.camera, len(clip) - 1).image, whole.frame(frame).image)
        assert len(clip.reference) == 45
        assert not any(np.array_equal(clip.reference.frame(i).image, whole.frame(frame).image) for i in range(45))
    assert (suite.meant, open_suite('office', 2, whole).meant) == (5, 5)
    with pytest.raises(ConfigurationError, match='has 5 frames of .* to measure, not 6; leave --clips out'):
        open_suite('office', 6, whole)
    # Of five frames, five spread evenly are not five different ones.
    with pytest.raises(ConfigurationError, match='has 5 frames, too few to hold some out of'):
        open_suite('office', None, whole.without(range(5, len(whole))))


def test_recorded_truth_is_resized_with_its_depth_and_what_is_unknown_stays_so():
    whole = Corridor()
    half = recorded_truth(whole, 3, whole.camera.fitted(WIDTH // 2, HEIGHT // 2))
    frame = whole.frame(3)
    means = frame.image.reshape(HEIGHT // 2, 2, WIDTH // 2, 2, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(half.image, means, atol=1.)
    assert np.isnan(half.z_depth[:2]).all() and np.isfinite(half.z_depth[2:]).all()
    assert set(half.z_depth[2:].ravel()) <= set(frame.z_depth.ravel())


@pytest.mark.parametrize(('name', 'reference', 'words'), [
    ('magic', None, ', '.join(SUITES)), ('office', None, '--reference'), ('scenes', Corridor(), 'suite office')])
def test_a_suite_that_cannot_be_opened_says_why(name, reference, words):
    with pytest.raises(ConfigurationError, match=words):
        open_suite(name, None, reference)
