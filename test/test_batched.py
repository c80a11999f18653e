# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The ray caster in torch against the compiled one, which is its slow-but-sure twin; photographs; camera paths."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inspatio_ros.geometry import PinholeCamera, se3_exp
from inspatio_ros.scenes.clips import random_scene
from inspatio_ros.scenes.paths import CLEAR, PATHS, body_pose, clear_by, random_path
from inspatio_ros.scenes.photographs import make_atlas, show_photographs
from inspatio_ros.scenes.raycast import Image, raycast, raycast_path
from inspatio_ros.scenes.rooms import sample_room
from inspatio_ros.scenes.scene import Material, Motion, Scene, SceneBuilder
from inspatio_ros.scenes.shapes import Shape
from inspatio_ros.scenes.textures import Pattern
from inspatio_ros.training.batched.caster import Images, cast

# Neither side is a whole number of tiles.
CAMERA = PinholeCamera(36., 35., 24.2, 16.9, 50, 35)
INSIDE = np.array([(-1., -1., -1.), (1., 1., 1.)])
TIMES = np.array([0., .8, 1.9])


def assert_equal(scene: Scene, path: np.ndarray, times: np.ndarray, samples: int) -> Image:
    """Cast both ways; few pixels may differ: those at edges, where rounding decides what a ray hits."""
    truth, seen = raycast_path(scene, CAMERA, path, times, samples), cast(scene, CAMERA, path, times, samples)
    assert seen.image.dtype == torch.uint8 and seen.z_depth.dtype == torch.float32
    z_depth = seen.z_depth.numpy()
    same = np.isclose(z_depth, truth.z_depth, rtol=1e-4, atol=0., equal_nan=True)
    off = np.abs(seen.image.numpy().astype(int) - truth.image).max(axis=-1)
    assert same.mean() >= .995
    assert (off <= 1).mean() >= .995
    assert (seen.moving.numpy() == truth.moving).mean() >= .995
    return truth


def square(rng: np.random.Generator, size: int = 200) -> np.ndarray:
    return rng.integers(0, 256, (size, size + 40, 3)).astype(np.uint8)


# --- the two ray casters ----------------------------------------------------------------------------------------------

@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([1, 2]))
def test_random_scenes_look_the_same(seed: int, samples: int) -> None:
    scene, rng = random_scene(seed), np.random.default_rng(seed)
    assert_equal(scene, random_path(rng, scene, TIMES), TIMES, samples)


def test_the_sample_room_looks_the_same_and_what_moves_is_marked() -> None:
    scene = sample_room()
    path = np.stack([body_pose((2.1, -1.5, 1.2), yaw, -.2) for yaw in (2.4, 2.7, 3.)])
    assert assert_equal(scene, path, TIMES, 3).moving.mean() > .001


@pytest.mark.parametrize('pattern', [p for p in Pattern if p != Pattern.IMAGE])
def test_every_pattern_looks_the_same_on_every_shape(pattern: Pattern) -> None:
    rng = np.random.default_rng(int(pattern))

    def material() -> Material:
        return Material(pattern, tuple(tuple(rng.random(3)) for _ in range(3)), scale=rng.uniform(.2, .6),
                        aspect=rng.uniform(.3, 1.2), seed=int(rng.integers(1, 9999)), specular=rng.choice((0., .3)),
                        emission=.3 * rng.integers(2))

    builder = SceneBuilder()
    builder.add(Shape.PLANE, (0., 0., -1.2), (2., 2., 2.), material())
    builder.add(Shape.DOME, (0., 0., 0.), (60., 60., 60.), material())
    builder.add(Shape.ROOM, (0., 0., 0.), (9., 7., 3.), material())
    swing = Motion(pivot=(3., 0., 0.), axis=(.3, .1, 1.), spin=.7, sway=(.2, .3, 0.), hop=(0., 0., .2), frequency=.3)
    for shape, y in ((Shape.BOX, -1.2), (Shape.SPHERE, 0.), (Shape.CYLINDER, 1.2)):
        R = se3_exp(np.concatenate([np.zeros(3), rng.normal(size=3)]))[:3, :3]
        builder.add(shape, (3., y, 0.), tuple(rng.uniform(.6, 1.2, 3)), material(), rotation=R, motion=swing)
        builder.add(shape, (2.4, -.8 * y, -.7), (.3, .3, .8), material())
    builder.light((.5, -1., 1.2), (1.2, 1., .8), radius=.3, reach=2.)
    builder.light((100., 200., 300.), (.5, .6, .7), radius=3.)
    scene = builder.build(INSIDE, ((.3, .3, .4), (.2, .2, .1)))
    # Inside the room, and outside it on the plane under the dome.
    path = np.stack([body_pose((0., 0., 0.), 0., -.1), body_pose((0., .3, .3), .4), body_pose((-8., 5., 2.), -.4, -.3)])
    truth = assert_equal(scene, path, TIMES, 2)
    assert truth.moving.any() and truth.image.std() > 3


def test_what_nothing_is_hit_by() -> None:
    builder = SceneBuilder()
    builder.box((-5., 0., 0.), (1., 1., 1.), Material())
    scene = builder.build(INSIDE, ((1., 1., 1.),) * 2, background=np.array([.2, .4, .6]))
    seen = cast(scene, CAMERA, body_pose((0., 0., 0.), 0.)[None], np.zeros(1), 2)
    assert seen.z_depth.isnan().all() and not seen.moving.any()
    np.testing.assert_array_equal(seen.image[0], raycast(scene, CAMERA, body_pose((0., 0., 0.), 0.), 0., 2).image)


def test_a_batch_is_its_views_one_by_one_whatever_the_memory() -> None:
    scene = random_scene(4)
    path = random_path(np.random.default_rng(4), scene, TIMES)
    whole = cast(scene, CAMERA, path, TIMES, 2)
    few = cast(scene, CAMERA, path, TIMES, 2, rays_at_once=1000)
    single = [cast(scene, CAMERA, path[i:i + 1], TIMES[i:i + 1], 2) for i in range(len(path))]
    for name in Images.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(few, name), getattr(whole, name))
        np.testing.assert_array_equal(torch.cat([getattr(one, name) for one in single]), getattr(whole, name))


def test_poses_and_times_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r'poses \[B, 4, 4\] and times \[B\]'):
        cast(random_scene(0), CAMERA, np.eye(4)[None], np.zeros(2))


# --- photographs ------------------------------------------------------------------------------------------------------

def test_photographs_look_the_same_and_are_those_of_the_scene() -> None:
    rng = np.random.default_rng(0)
    atlas = make_atlas([square(rng), square(rng), square(rng)], rng, size=32)
    for seed in (0, 1):
        scene = random_scene(seed)
        shown = show_photographs(scene, atlas, .6, np.random.default_rng(seed))
        path = random_path(np.random.default_rng(seed), scene, TIMES)
        truth = assert_equal(shown, path, TIMES, 2)
        assert (truth.image != raycast_path(scene, CAMERA, path, TIMES, 2).image).mean() > .05


def test_a_photograph_hangs_upright_and_fades_to_its_mean() -> None:
    image = np.zeros((64, 64, 3), np.uint8)
    image[:32, :, 0], image[32:, :, 1] = 255, 255  # red above, green below
    atlas = make_atlas([image], np.random.default_rng(0), size=64)
    np.testing.assert_allclose(atlas[0, 0, 126], (.5, .5, 0.), atol=1e-6)
    builder = SceneBuilder()
    builder.box((3., 0., 0.), (.1, 9., 9.), Material(Pattern.IMAGE, scale=1., grain=0., seed=1))
    scene = builder.build(INSIDE, ((.8,) * 3,) * 2, photographs=atlas)
    near = raycast(scene, CAMERA, body_pose((2., 0., 0.), 0.), 0., 2).image.astype(int)
    red = near[:, 25, 0] > near[:, 25, 1]
    assert red.any() and not red.all()
    # A row of the wall has one colour: the picture is not turned.
    assert (np.ptp(near, axis=1).max(axis=1) < 10).mean() > .9
    far = raycast(scene, CAMERA, body_pose((-300., 0., 0.), 0.), 0., 2).image[17, 24]
    assert abs(int(far[0]) - int(far[1])) <= 2 and far[2] == 0


def test_what_cannot_show_photographs_is_refused() -> None:
    builder = SceneBuilder()
    builder.box((3., 0., 0.), (1., 1., 1.), Material(Pattern.IMAGE))
    with pytest.raises(ValueError, match='the scene has none'):
        builder.build(INSIDE, ((.8,) * 3,) * 2)
    with pytest.raises(ValueError, match='at least 128 x 128'):
        make_atlas([np.zeros((100, 300, 3), np.uint8)], np.random.default_rng(0))


# --- camera paths -----------------------------------------------------------------------------------------------------

LONG = np.arange(21) / 12


def paths_of(kind: str) -> list[tuple[Scene, np.ndarray]]:
    scenes = [random_scene(seed) for seed in range(4)]
    return [(scene, random_path(np.random.default_rng(i), scene, LONG, kind)) for i, scene in enumerate(scenes)]


@pytest.mark.parametrize('kind', PATHS)
def test_paths_are_smooth_and_clear_of_surfaces(kind: str) -> None:
    for scene, path in paths_of(kind):
        assert clear_by(scene, path, LONG) > CLEAR
        assert np.linalg.norm(np.diff(path[:, :3, 3], axis=0), axis=-1).max() < .5
        turns = np.diff(path[:, :3, 2], axis=0)
        assert np.linalg.norm(turns, axis=-1).max() < .4


def test_robots_drive_level_along_their_heading() -> None:
    for _, path in paths_of('robot'):
        assert np.ptp(path[:, 2, 3]) == 0.
        np.testing.assert_allclose(path[:, 2, 0], 0., atol=1e-12)  # the image's x stays level
        np.testing.assert_allclose(path[:, 2, 2], path[0, 2, 2], atol=1e-12)
        step, ahead = np.diff(path[:, :2, 3], axis=0), path[1:, :2, 2]
        np.testing.assert_allclose(step[:, 0] * ahead[:, 1] - step[:, 1] * ahead[:, 0], 0., atol=1e-12)
        assert ((step * ahead).sum(axis=-1) >= -1e-12).all()


def test_hands_tremble_in_all_directions() -> None:
    for _, path in paths_of('hand'):
        assert np.abs(np.diff(path[:, 2, 3], 2)).max() > 1e-4
        assert np.ptp(path[:, 2, 0]) > 1e-3 and np.ptp(path[:, 2, 2]) > 1e-3


def test_orbits_look_at_their_centre() -> None:
    for _, path in paths_of('orbit'):
        # The point nearest to all the lines of sight lies on each of them, at one distance from the camera.
        ahead, eye = path[:, :3, 2], path[:, :3, 3]
        across = np.eye(3) - ahead[:, :, None] * ahead[:, None]
        centre = np.linalg.solve(across.sum(axis=0), (across @ eye[..., None]).sum(axis=0))[:, 0]
        np.testing.assert_allclose(across @ (centre - eye)[..., None], 0., atol=1e-6)
        away = ((centre - eye) * ahead).sum(axis=-1)
        np.testing.assert_allclose(away, away[0], atol=1e-6)
        assert away[0] > .5 and np.degrees(np.arccos(ahead[0] @ ahead[-1])) > 10


def test_spins_close() -> None:
    for _, path in paths_of('spin'):
        np.testing.assert_allclose(path[-1], path[0], atol=1e-9)
        assert np.ptp(path[:, :3, 3], axis=0).max() == 0.
        heading = np.unwrap(np.arctan2(path[:, 1, 2], path[:, 0, 2]))
        assert abs(heading[-1] - heading[0]) == pytest.approx(2 * np.pi)
