# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The ray caster against geometry worked out by other means, and what scenes promise to those who use them."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inspatio_ros.geometry import T_BODY_OPTICAL, PinholeCamera, invert, is_rigid, lift, make_pose, project, se3_exp
from inspatio_ros.scenes.clips import HELD_OUT_SEEDS, TRAIN_SEEDS_START, random_scene
from inspatio_ros.scenes.raycast import Image, clearance, raycast
from inspatio_ros.scenes.rooms import ROOM_SIZE, sample_room
from inspatio_ros.scenes.scene import Material, Motion, Scene, SceneBuilder, linear
from inspatio_ros.scenes.shapes import Shape
from inspatio_ros.scenes.textures import Pattern, make_srgb_table

CAMERA = PinholeCamera(60., 61., 39.7, 29.1, 80, 60)
GREY = Material(Pattern.PLAIN, ((.7, .7, .7),) * 3, grain=0.)
INSIDE = np.array([(-1., -1., -1.), (1., 1., 1.)])
DARK = ((0., 0., 0.),) * 2
BRIGHT = ((.8, .8, .8),) * 2


def ahead(x: float = 0., y: float = 0., z: float = 0., yaw: float = 0.) -> np.ndarray:
    """A camera at a place that looks along +x, turned by yaw."""
    return make_pose(translation=np.array([x, y, z])) @ se3_exp(np.array([0., 0., 0., 0., 0., yaw])) @ T_BODY_OPTICAL


def one(shape: Shape, centre: tuple, size: tuple, **more: object) -> Scene:
    builder = SceneBuilder()
    builder.add(shape, centre, size, GREY, **more)
    return builder.build(INSIDE, BRIGHT)


def directions(T_world_camera: np.ndarray) -> np.ndarray:
    """World directions of all pixels, z-depth 1 long."""
    return CAMERA.rays() @ T_world_camera[:3, :3].T


# --- geometry ---------------------------------------------------------------------------------------------------------

def test_depth_of_a_sphere() -> None:
    T, radius = ahead(z=.2), 1.
    seen = raycast(one(Shape.SPHERE, (4., .3, 0.), (2 * radius,) * 3), CAMERA, T, 0.)
    d, to_centre = directions(T), np.array([4., .3, 0.]) - T[:3, 3]
    a, b, c = (d * d).sum(-1), d @ to_centre, to_centre @ to_centre - radius**2
    root = b * b - a * c
    with np.errstate(invalid='ignore'):
        truth = (b - np.sqrt(root)) / a
    rim = np.abs(root) < 1e-6
    np.testing.assert_allclose(seen.z_depth[~rim], truth[~rim], rtol=1e-5)
    assert .1 < np.isfinite(truth).mean() < .9


def test_depth_of_walls_and_ground() -> None:
    T = ahead(.5, -.3, 1.2, yaw=.4)
    d = directions(T)
    low, high = np.array([-3., -2., 0.]), np.array([4., 3., 2.5])
    with np.errstate(divide='ignore'):
        truth = np.where(d > 0, (high - T[:3, 3]) / d, (low - T[:3, 3]) / d).min(axis=-1)
        ground = np.where(d[..., 2] < 0, -T[2, 3] / d[..., 2], np.nan)
    room = one(Shape.ROOM, tuple((low + high) / 2), tuple(high - low))
    np.testing.assert_allclose(raycast(room, CAMERA, T, 0.).z_depth, truth, rtol=1e-5)
    plane = one(Shape.PLANE, (0., 0., 0.), (2., 2., 2.))
    np.testing.assert_allclose(raycast(plane, CAMERA, T, 0.).z_depth, ground, rtol=1e-5)


def test_depth_of_a_box_and_a_cylinder_face_on() -> None:
    box = raycast(one(Shape.BOX, (3., 0., 0.), (1., 1.2, .8)), CAMERA, ahead(), 0.).z_depth
    y, z = -2.5 * directions(ahead())[..., 1], 2.5 * directions(ahead())[..., 2]
    face = (np.abs(y) < .6) & (np.abs(z) < .4)
    np.testing.assert_allclose(box[face], 2.5, rtol=1e-6)
    assert np.isnan(box[~face]).all()
    can = raycast(one(Shape.CYLINDER, (3., 0., 0.), (1., 1., 2.)), CAMERA, ahead(), 0.).z_depth
    middle = can[29, :]  # close to the row that looks level
    d = directions(ahead())[29]
    a, b = d[:, 0]**2 + d[:, 1]**2, 3. * d[:, 0]
    with np.errstate(invalid='ignore'):
        truth = (b - np.sqrt(b * b - a * (9. - .25))) / a
    np.testing.assert_allclose(middle, truth, rtol=1e-5)


@settings(max_examples=60)
@given(st.sampled_from([Shape.BOX, Shape.SPHERE, Shape.CYLINDER]), st.integers(0, 10**6))
def test_hits_lie_on_the_surface_and_nothing_comes_before(shape: Shape, seed: int) -> None:
    """Check any turned and stretched solid by its distance function, which shares no code with the rays' own."""
    rng = np.random.default_rng(seed)
    # An ellipsoid's distance is exact for balls only.
    size = np.full(3, rng.uniform(.3, 2.)) if shape == Shape.SPHERE else rng.uniform(.2, 2., 3)
    if shape == Shape.CYLINDER:
        size[1] = size[0]
    R = se3_exp(np.concatenate([np.zeros(3), rng.normal(size=3)]))[:3, :3]
    scene = one(shape, tuple(rng.uniform((2.5, -.6, -.6), (4., .6, .6))), tuple(size), rotation=R)
    z_depth = raycast(scene, CAMERA, ahead(), 0., threads=1).z_depth
    points = lift(z_depth, CAMERA, ahead())
    hit = np.isfinite(z_depth)
    assert hit.any()
    np.testing.assert_allclose(clearance(scene, points[hit], 0.), 0., atol=1e-5)
    for part in (.3, .7, .9, .99):
        assert (clearance(scene, part * points[hit], 0.) > 0.).all()
    # Rays that miss stay clear of the solid all the way.
    rays = directions(ahead())[~hit]
    for t in np.linspace(1., 6., 60):
        assert (clearance(scene, t * rays, 0.) > -1e-6).all()


def test_two_views_agree_where_both_see() -> None:
    """Lift a view, project it to another one: depth and colours must be those seen there."""
    scene, time = sample_room(), 1.3
    camera = PinholeCamera(130., 130., 103.5, 59.5, 208, 120)
    T0, T1 = ahead(2., -1.4, 1.2, yaw=2.7), ahead(1.7, -1.2, 1.1, yaw=2.8)
    first, second = (raycast(scene, camera, T, time, samples=2) for T in (T0, T1))
    pixels, z = project(lift(first.z_depth, camera, T0), camera, T1)
    x, y = np.rint(pixels[..., 0]).astype(int), np.rint(pixels[..., 1]).astype(int)
    inside = (x >= 0) & (x < camera.width) & (y >= 0) & (y < camera.height)
    there = second.z_depth[y[inside], x[inside]]
    visible = np.abs(there / z[inside] - 1.) < .02
    assert inside.mean() > .7 and visible.mean() > .85
    difference = np.abs(first.image[inside][visible].astype(int) - second.image[y[inside], x[inside]][visible])
    assert np.median(difference) <= 4 and difference.mean() < 11
    # And the check can fail: half a degree off, it does.
    off = project(lift(first.z_depth, camera, T0), camera, T1 @ se3_exp(np.array([0., 0., 0., 0., .03, 0.])))[0]
    xo = np.clip(np.rint(off[..., 0]), 0, camera.width - 1).astype(int)
    yo = np.clip(np.rint(off[..., 1]), 0, camera.height - 1).astype(int)
    wrong = np.abs(first.image[inside].astype(int) - second.image[yo[inside], xo[inside]])
    assert wrong.mean() > 1.5 * difference.mean()


def test_clearance() -> None:
    box = one(Shape.BOX, (0., 0., 0.), (2., 2., 2.))
    np.testing.assert_allclose(clearance(box, np.array([[3., 0., 0.], [2., 2., 0.], [.5, 0., 0.]]), 0.),
                               (2., 2**.5, -.5), atol=1e-12)
    room = one(Shape.ROOM, (0., 0., 1.), (4., 4., 2.))
    assert clearance(room, np.array([0., 1.5, 1.]), 0.) == pytest.approx(.5)
    assert clearance(room, np.array([0., 2.5, 1.]), 0.) == pytest.approx(-.5)


# --- light ------------------------------------------------------------------------------------------------------------

def lamp_over_floor(radius: float, blocker: bool) -> Image:
    builder = SceneBuilder()
    builder.add(Shape.PLANE, (0., 0., 0.), (2., 2., 2.), GREY)
    if blocker:
        builder.box((2., 0., 1.), (.8, .8, .05), GREY)
    builder.light((2., 0., 3.), (1., 1., 1.), radius=radius)
    down = make_pose(np.array([(0., -1., 0.), (-1., 0., 0.), (0., 0., -1.)]), np.array([2., 0., .9]))
    return raycast(builder.build(INSIDE, DARK), CAMERA.scaled(160, 120), down, 0., samples=4)


def test_shadows_fall_where_the_light_is_hidden() -> None:
    light, shadow = lamp_over_floor(0., False), lamp_over_floor(0., True)
    points = lift(light.z_depth, CAMERA.scaled(160, 120), make_pose(
        np.array([(0., -1., 0.), (-1., 0., 0.), (0., 0., -1.)]), np.array([2., 0., .9])))
    # By similar triangles the shadow of a square at z = 1 below a lamp at z = 3 is about 1.5 times as wide.
    reach = np.abs(points[..., :2] - (2., 0.)).max(axis=-1)
    half = .4 * 3. / (3. - 1.025)
    assert (shadow.image[reach < .97 * half] == 0).all()
    np.testing.assert_array_equal(shadow.image[reach > 1.05 * half], light.image[reach > 1.05 * half])
    assert light.image.min() > 50


def test_large_lamps_make_soft_shadows() -> None:
    def steps(image: np.ndarray) -> int:
        return len(np.unique(image[60, :, 1] // 8))
    assert steps(lamp_over_floor(.3, True).image) > steps(lamp_over_floor(0., True).image) + 3


def test_lamps_fall_off_and_suns_do_not() -> None:
    def level(reach: float | None, height: float) -> float:
        builder = SceneBuilder()
        builder.add(Shape.PLANE, (0., 0., 0.), (2., 2., 2.), GREY)
        builder.light((0., 0., height), (1., 1., 1.), radius=0., reach=reach)
        down = make_pose(np.array([(0., -1., 0.), (-1., 0., 0.), (0., 0., -1.)]), np.array([0., 0., 1.]))
        return float(linear(raycast(builder.build(INSIDE, DARK), CAMERA, down, 0.).image[29, 40] / 255.)[0])
    assert level(2., 2.) == pytest.approx(.5 * level(None, 2.), rel=.03)
    assert level(None, 200.) == pytest.approx(level(None, 2.), rel=.03)


def test_corners_are_darker_than_open_walls() -> None:
    room = one(Shape.ROOM, (0., 0., 0.), (4., 4., 4.))
    T = ahead(yaw=np.pi / 4)
    seen = raycast(room, CAMERA, T, 0.)
    x, y, z = lift(seen.z_depth, CAMERA, T).transpose(2, 0, 1)
    level = np.abs(z) < .5
    corner, wall = level & (np.minimum(x, y) > 1.95), level & (np.minimum(x, y) < 1.6)
    assert corner.any() and wall.any() and seen.image[corner].max() < seen.image[wall].min()


def test_srgb_table_is_srgb() -> None:
    table, x = make_srgb_table(), np.arange(16384) * 2. / 16384
    shown = x <= .8
    np.testing.assert_allclose(linear(table[shown] / 255.), x[shown], atol=.004)
    assert (np.diff(table.astype(int)) >= 0).all() and table[-1] == 255


# --- textures ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('pattern', [p for p in Pattern if p not in (Pattern.PLAIN, Pattern.IMAGE)])
def test_every_pattern_shows_something_and_fades_in_the_distance(pattern: Pattern) -> None:
    material = Material(pattern, ((.1, .2, .6), (.9, .8, .3), (.9, .2, .1)), scale=.3, aspect=.7, grain=0., seed=5)
    builder = SceneBuilder()
    size = 3. if pattern == Pattern.POSTER else 20.
    builder.box((3., 0., 0.), (.1, size, size), material)
    scene = builder.build(INSIDE, BRIGHT)
    near = raycast(scene, CAMERA, ahead(), 0., samples=2).image
    assert near.reshape(-1, 3).std(axis=0).max() > 4
    if pattern in (Pattern.POSTER, Pattern.BOOKS, Pattern.TEXT, Pattern.CLOUDS):
        return  # made of large parts, or by chance from cell to cell: they do not fade
    far = raycast(scene, CAMERA, ahead(-60.), 0., samples=2).image[25:35, 35:45]
    assert far.reshape(-1, 3).std(axis=0).max() < near.reshape(-1, 3).std(axis=0).max()


def test_writing_is_not_mirrored() -> None:
    """Posters carry their lines at the bottom, and u runs to the right on every upright face of a box."""
    stripes = Material(Pattern.POSTER, ((.5,) * 3, (.5,) * 3, (1., 1., 1.)), seed=3, grain=0.)
    builder = SceneBuilder()
    builder.box((0., 0., 0.), (1., 1., 1.), stripes)
    scene = builder.build(INSIDE, BRIGHT)
    views = [raycast(scene, CAMERA, make_pose(translation=-2. * np.array([np.cos(yaw), np.sin(yaw), 0.]))
                     @ ahead(yaw=yaw), 0., samples=2).image for yaw in np.arange(4) * np.pi / 2]
    for view in views[1:]:
        assert np.abs(view.astype(int) - views[0]).mean() < 2.
    assert np.abs(views[0][:, ::-1].astype(int) - views[0]).mean() > 5.


# --- motion -----------------------------------------------------------------------------------------------------------

@given(st.floats(-20., 20.), st.integers(0, 10**6))
def test_motions_are_rigid_and_groups_stay_together(time: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    motion = Motion(pivot=tuple(rng.normal(size=3)), axis=tuple(rng.normal(size=3)), spin=rng.normal(),
                    swing=rng.normal(), velocity=tuple(rng.normal(size=3)), sway=tuple(rng.normal(size=3)),
                    hop=tuple(rng.normal(size=3)), frequency=rng.uniform(0., 2.), phase=rng.normal())
    builder = SceneBuilder()
    for _ in range(3):
        builder.box(tuple(rng.normal(size=3)), (1., 1., 1.), GREY, motion=motion)
    scene = builder.build(INSIDE, BRIGHT)
    rest, T = scene.T_world_object, scene.poses(time)
    assert all(is_rigid(pose, 1e-9) for pose in T)
    np.testing.assert_allclose(invert(T[0]) @ T[1:], invert(rest[0]) @ rest[1:], atol=1e-9)


def test_moving_marks_what_moves() -> None:
    builder = SceneBuilder()
    builder.add(Shape.ROOM, (0., 0., 0.), (12., 12., 12.), GREY)
    builder.box((2., .9, 0.), (.1, .5, .5), GREY)
    builder.sphere((4., 0., 0.), (1., 1., 1.), GREY, motion=Motion(velocity=(0., .5, 0.)))
    scene = builder.build(INSIDE, BRIGHT)
    np.testing.assert_array_equal(scene.moves, (False, False, True))
    for time, y in ((0., 0.), (1., .5), (2., 1.)):
        seen = raycast(scene, CAMERA, ahead(), time)
        points = lift(seen.z_depth, CAMERA, ahead())
        on_ball = np.abs(np.linalg.norm(points - (4., y, 0.), axis=-1) - .5) < 1e-4
        np.testing.assert_array_equal(seen.moving, on_ball)
    assert seen.moving.any()
    # At t = 2 the box in front hides a part of the ball, and that part is not marked.
    assert seen.z_depth[seen.moving].min() > 3.


def test_nothing_there() -> None:
    seen = raycast(one(Shape.BOX, (-5., 0., 0.), (1., 1., 1.)), CAMERA, ahead(), 0.)
    assert np.isnan(seen.z_depth).all() and not seen.moving.any() and (seen.image == 0).all()


# --- promises ---------------------------------------------------------------------------------------------------------

def test_what_the_sample_room_holds() -> None:
    scene = sample_room()
    assert scene.moves.any() and not scene.moves.all()
    corners = np.array(np.meshgrid(*scene.inside.T)).reshape(3, -1).T
    assert (np.abs(corners[:, :2]) < np.array(ROOM_SIZE[:2]) / 2).all()
    # Everything stays in the room: the rays of a camera inside never leave it.
    for yaw in np.arange(6) * np.pi / 3:
        assert np.isfinite(raycast(scene, CAMERA, ahead(.3, -.6, 1.2, yaw), 2.).z_depth).all()


def test_pictures_do_not_depend_on_threads() -> None:
    scene, pose = sample_room(), ahead(2., -1.4, 1.2, yaw=2.7)
    alone = raycast(scene, CAMERA, pose, .7, samples=2, threads=1)
    for threads in (2, 3, 50):
        shared = raycast(scene, CAMERA, pose, .7, samples=2, threads=threads)
        np.testing.assert_array_equal(shared.image, alone.image)
        np.testing.assert_array_equal(shared.z_depth, alone.z_depth)
    # Several callers at once, as the simulator's worker and whoever asks for the truth.
    with ThreadPoolExecutor(4) as pool:
        for view in pool.map(lambda _: raycast(scene, CAMERA, pose, .7, samples=2), range(8)):
            np.testing.assert_array_equal(view.image, alone.image)


@pytest.mark.parametrize('seed', [*HELD_OUT_SEEDS[:4], TRAIN_SEEDS_START, TRAIN_SEEDS_START + 7])
def test_random_scenes_are_those_of_their_seed(seed: int) -> None:
    first, again, other = random_scene(seed), random_scene(seed), random_scene(seed + 1)
    for name in ('shape', 'T_world_object', 'half_size', 'material', 'colours', 'numbers'):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
    assert first.motions == again.motions
    assert first.half_size.shape != other.half_size.shape or not np.array_equal(first.half_size, other.half_size)


def test_no_seed_is_for_training_and_held_out() -> None:
    assert HELD_OUT_SEEDS.stop <= TRAIN_SEEDS_START


@pytest.mark.parametrize('seed', range(8))
def test_random_scenes_are_worth_looking_at(seed: int) -> None:
    """Cameras find room in them, and see depth, contrast and no void."""
    scene, rng = random_scene(seed), np.random.default_rng(seed)
    places = rng.uniform(*scene.inside, (400, 3))
    free = places[clearance(scene, places, 0.) > .3]
    assert len(free) > 20
    views = [raycast(scene, CAMERA, ahead(*place, yaw=rng.uniform(-3., 3.)), 0.) for place in free[:6]]
    assert all(np.isfinite(view.z_depth).all() for view in views)
    assert np.mean([view.image.std() for view in views]) > 12
    assert np.median([np.ptp(view.z_depth) for view in views]) > 1.


def test_kernels_run_where_nothing_can_be_kept() -> None:
    """In a read-only image without a home, numba refuses to keep what it compiles; it must compile all the same."""
    code = ('import numpy as np\nfrom inspatio_ros.compiled import compiled\n'
            '@compiled()\ndef twice(x):\n    return 2. * x\nprint(twice(21.))')
    # No locator that numba knows fits a file in a folder, if only the one for zip files is allowed.
    environment = {**os.environ, 'NUMBA_CACHE_LOCATOR_CLASSES': 'ZipCacheLocator'}
    done = subprocess.run([sys.executable, '-c', code], env=environment, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout.strip()) == (0, '42.0'), done.stderr
