# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Rigid motions and cameras: identities that must hold for any pose, and the pixel convention against true pictures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.linalg import expm

from inspatio_ros.geometry import (
    T_BODY_OPTICAL,
    PinholeCamera,
    interpolate,
    invert,
    is_rigid,
    lift,
    make_pose,
    pose_from_quaternion,
    project,
    quaternion_xyzw,
    se3_exp,
    se3_log,
)
from inspatio_ros.scenes.raycast import raycast
from inspatio_ros.scenes.rooms import sample_room
from inspatio_ros.scenes.scene import linear

CAMERA = PinholeCamera(70., 72., 47.2, 30.9, 96, 64)


def vectors(size: float) -> st.SearchStrategy[np.ndarray]:
    return arrays(np.float64, 3, elements=st.floats(-size, size, width=64))


@st.composite
def twists(draw: st.DrawFn, least: float = 0., most: float = np.pi - 1e-3) -> np.ndarray:
    """Draw (linear, angular) with a rotation angle between least and most, tiny ones as likely as others."""
    axis = draw(vectors(1.).filter(lambda v: np.linalg.norm(v) > 1e-2))
    share = draw(st.one_of(st.floats(0., 1.), st.floats(-12., 0.).map(lambda e: 10.**e)))
    angle = least + share * (most - least)
    return np.concatenate([draw(vectors(10.)), angle * axis / np.linalg.norm(axis)])


poses = twists().map(se3_exp)


def matrix_of(twist: np.ndarray) -> np.ndarray:
    (vx, vy, vz), (wx, wy, wz) = twist[:3], twist[3:]
    return np.array([[0., -wz, wy, vx], [wz, 0., -wx, vy], [-wy, wx, 0., vz], [0., 0., 0., 0.]])


@given(twists())
def test_exp_is_the_matrix_exponential(twist: np.ndarray) -> None:
    np.testing.assert_allclose(se3_exp(twist), expm(matrix_of(twist)), atol=1e-9)


@given(twists())
def test_log_undoes_exp(twist: np.ndarray) -> None:
    np.testing.assert_allclose(se3_log(se3_exp(twist)), twist, atol=1e-6)


@pytest.mark.parametrize('angle', [0., 1e-12, 1e-9, 1e-7, 9.9e-7, 1.1e-6, 1e-5, 1e-3])
def test_tiny_angles_keep_their_digits(angle: float) -> None:
    twist = np.array([.3, -2., 1., 0., angle * .6, angle * .8])
    np.testing.assert_allclose(se3_log(se3_exp(twist)), twist, rtol=1e-7, atol=1e-13)


@given(twists(least=np.pi - 1e-6, most=np.pi))
def test_half_turns_come_back_as_the_same_motion(twist: np.ndarray) -> None:
    # The axis may come back reversed at exactly half a turn, so motions are compared, not twists.
    T = se3_exp(twist)
    log = se3_log(T)
    assert np.linalg.norm(log[3:]) <= np.pi + 1e-9
    np.testing.assert_allclose(se3_exp(log), T, atol=1e-5)


@given(poses, poses)
def test_inverse(A: np.ndarray, B: np.ndarray) -> None:
    np.testing.assert_allclose(invert(A) @ A, np.eye(4), atol=1e-9)
    np.testing.assert_allclose(invert(A @ B), invert(B) @ invert(A), atol=1e-8)
    np.testing.assert_array_equal(invert(np.stack([A, B])), np.stack([invert(A), invert(B)]))


@given(poses, poses, st.floats(0., 1.))
def test_interpolation_does_not_depend_on_the_world(A: np.ndarray, B: np.ndarray, fraction: float) -> None:
    T1 = A @ se3_exp(.9 * se3_log(B))
    between = interpolate(A, T1, fraction)
    assert is_rigid(between, 1e-6)
    np.testing.assert_allclose(interpolate(B @ A, B @ T1, fraction), B @ between, atol=1e-6)
    np.testing.assert_allclose(interpolate(T1, A, 1. - fraction), between, atol=1e-6)


@given(poses, twists(most=3.))
def test_interpolation_ends_and_steps(A: np.ndarray, twist: np.ndarray) -> None:
    B = A @ se3_exp(twist)
    np.testing.assert_allclose(interpolate(A, B, 0.), A, atol=1e-7)
    np.testing.assert_allclose(interpolate(A, B, 1.), B, atol=1e-6)
    # Equal steps: the motion from a quarter to a half is that from a half to three quarters.
    quarter, half, late = (interpolate(A, B, f) for f in (.25, .5, .75))
    np.testing.assert_allclose(invert(quarter) @ half, invert(half) @ late, atol=1e-6)


@given(poses)
def test_quaternions(T: np.ndarray) -> None:
    q = quaternion_xyzw(T)
    assert q[3] >= 0. and np.linalg.norm(q) == pytest.approx(1.)
    np.testing.assert_allclose(pose_from_quaternion(T[:3, 3], q), T, atol=1e-7)


def test_quaternion_order_is_that_of_ros() -> None:
    # A quarter turn about z takes x to y.
    T = pose_from_quaternion(np.zeros(3), np.array([0., 0., np.sqrt(.5), np.sqrt(.5)]))
    np.testing.assert_allclose(T[:3, :3] @ (1., 0., 0.), (0., 1., 0.), atol=1e-12)


def test_axes_of_body_and_camera() -> None:
    # What a camera sees ahead (z), right (x) and below (y) is ahead (x), right (-y) and below (-z) of the body.
    np.testing.assert_array_equal(T_BODY_OPTICAL[:3, :3] @ np.eye(3), np.array([(0, -1, 0), (0, 0, -1), (1, 0, 0)]).T)
    assert is_rigid(T_BODY_OPTICAL)


@pytest.mark.parametrize('fault', [
    lambda T: T * np.array([[1.01], [1.], [1.], [1.]]), lambda T: T * np.nan, lambda T: T[:3],
    lambda T: np.diag([1., 1., -1., 1.]) @ T, lambda T: T + np.array([[0.], [0.], [0.], [.1]])])
def test_what_is_not_rigid(fault: object) -> None:
    T = se3_exp(np.array([1., 2., 3., .1, .2, .3]))
    assert is_rigid(T)
    assert not is_rigid(fault(T))


@given(poses, arrays(np.float32, (8, 12), elements=st.floats(.125, 50., width=32)))
def test_lifted_pixels_project_to_themselves(T: np.ndarray, z_depth: np.ndarray) -> None:
    camera = CAMERA.scaled(12, 8)
    pixels, z = project(lift(z_depth, camera, T), camera, T)
    x, y = np.meshgrid(np.arange(12), np.arange(8))
    np.testing.assert_allclose(pixels, np.stack([x, y], axis=-1), atol=1e-6)
    np.testing.assert_allclose(z, z_depth, rtol=1e-6)


def test_what_lies_behind_has_no_pixel() -> None:
    pixels, z = project(np.array([[0., 0., -1.], [.1, .1, 0.], [0., 0., 1.]]), CAMERA, np.eye(4))
    assert np.isnan(pixels[:2]).all() and z[0] == -1.
    np.testing.assert_array_equal(pixels[2], (CAMERA.cx, CAMERA.cy))


def test_unknown_depth_stays_unknown() -> None:
    z_depth = np.full((CAMERA.height, CAMERA.width), np.nan, np.float32)
    z_depth[3, 4] = 2.
    points = lift(z_depth, CAMERA, make_pose(translation=np.array([1., 2., 3.])))
    assert np.isfinite(points[3, 4]).all() and np.isnan(np.delete(points.reshape(-1, 3), 3 * CAMERA.width + 4, 0)).all()


@given(st.integers(1, 500), st.integers(1, 500), st.integers(1, 500), st.integers(1, 500))
def test_resizing_twice_is_resizing_once(w1: int, h1: int, w2: int, h2: int) -> None:
    once, twice = CAMERA.scaled(w2, h2), CAMERA.scaled(w1, h1).scaled(w2, h2)
    np.testing.assert_allclose((twice.fx, twice.fy, twice.cx, twice.cy), (once.fx, once.fy, once.cx, once.cy))


@given(st.integers(1, 300), st.integers(1, 300))
def test_a_fitted_camera_sees_nothing_but_what_the_first_saw(width: int, height: int) -> None:
    fitted = CAMERA.fitted(width, height)
    assert fitted.fx / fitted.fy == pytest.approx(CAMERA.fx / CAMERA.fy)

    # The outer edges of the outer pixels, as directions.
    def edges(camera: PinholeCamera) -> tuple[float, ...]:
        return ((-.5 - camera.cx) / camera.fx, (-.5 - camera.cy) / camera.fy,
                (camera.width - .5 - camera.cx) / camera.fx, (camera.height - .5 - camera.cy) / camera.fy)

    left, top, right, bottom = edges(CAMERA)
    l, t, r, b = edges(fitted)  # noqa: E741
    assert l >= left - 1e-9 and t >= top - 1e-9 and r <= right + 1e-9 and b <= bottom + 1e-9
    # It is full in one direction, and cropped as much on one side as on the other in the other one.
    assert (l - left, r - right) == pytest.approx((0., 0.), abs=1e-9) or \
        (t - top, b - bottom) == pytest.approx((0., 0.), abs=1e-9)
    assert l - left == pytest.approx(right - r, abs=1e-9) and t - top == pytest.approx(bottom - b, abs=1e-9)


def test_pixel_centres_against_true_pictures() -> None:
    """A scaled camera's true picture is the resized true picture, a fitted one's its middle: pixel areas stay put."""
    scene = sample_room()
    # Lamps without extent: soft shadows are made by the rays of a pixel, so they would differ with their number.
    scene = replace(scene, lights=replace(scene.lights, radius=0. * scene.lights.radius))
    T = make_pose(np.stack([(0., 1., 0.), (0., 0., -1.), (-1., 0., 0.)], axis=1), np.array([2., -.5, 1.2]))
    assert is_rigid(T)
    large = PinholeCamera(190., 190., 143.1, 95.4, 288, 192)
    picture = raycast(scene, large, T, 0.)
    # Every third pixel of the large picture looks where a pixel of the small one does.
    small = raycast(scene, large.scaled(96, 64), T, 0., samples=3)
    np.testing.assert_allclose(small.z_depth, picture.z_depth[1::3, 1::3], rtol=1e-5)
    # Colours, too: the mean of 3x3 is the picture of a third the size; half a pixel off it would not be.
    light = linear(picture.image / 255.)
    resized = light.reshape(64, 3, 96, 3, 3).mean(axis=(1, 3))
    shifted = light[2:-1, 2:-1].reshape(63, 3, 95, 3, 3).mean(axis=(1, 3))
    truth = linear(small.image / 255.)
    assert np.abs(truth - resized).mean() < .2 * np.abs(truth[1:, 1:] - shifted).mean()
    fitted = raycast(scene, large.fitted(192, 192), T, 0.)
    np.testing.assert_allclose(fitted.z_depth, picture.z_depth[:, 48:-48], rtol=1e-5)
