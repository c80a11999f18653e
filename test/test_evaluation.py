# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Measures of the evaluation: each is shown a case whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from inspatio_ros.evaluation.camera_error import camera_error
from inspatio_ros.evaluation.consistency import gradient_energy, warp_error
from inspatio_ros.evaluation.frechet import GaussianFit, frechet_distance
from inspatio_ros.geometry import T_BODY_OPTICAL, PinholeCamera, make_pose, se3_exp
from inspatio_ros.scenes.raycast import Image, raycast
from inspatio_ros.scenes.rooms import sample_room

CAMERA = PinholeCamera(230., 230., 159.5, 95.5, 320, 192)
START = make_pose(translation=np.array([0., 0., 1.2])) @ T_BODY_OPTICAL


@pytest.fixture(scope='module')
def room() -> object:
    """Give the built-in room."""
    return sample_room()


@pytest.fixture(scope='module')
def view(room: object) -> Image:
    """Look at the room from the start."""
    return raycast(room, CAMERA, START, 0., samples=2)


def test_a_picture_from_the_asked_pose_has_no_camera_error(view: Image) -> None:
    """Identical pictures give the identity."""
    error = camera_error(view.image, view.image, view.z_depth, CAMERA)
    assert error.rotation_degrees < 0.02
    assert error.translation_metres < 0.002


@pytest.mark.parametrize('twist', [(0.1, 0, 0, 0, 0, 0), (0, 0, 0.15, 0, 0, 0), (0, 0, 0, 0, np.radians(3), 0),
                                   (0.05, 0, 0.05, 0, np.radians(-2), 0)])
def test_camera_error_finds_the_pose_that_a_picture_was_really_made_from(room: object, view: Image,
                                                                          twist: tuple[float, ...]) -> None:
    """A picture from a pose that is off by a known motion gives that motion."""
    off = se3_exp(np.array(twist))
    wrong = raycast(room, CAMERA, START @ off, 0., samples=2)
    error = camera_error(wrong.image, view.image, view.z_depth, CAMERA)
    assert error.rotation_degrees == pytest.approx(np.degrees(np.linalg.norm(twist[3:])), abs=0.15)
    assert error.translation_metres == pytest.approx(np.linalg.norm(twist[:3]), abs=0.015)
    assert error.translation_share == pytest.approx(error.translation_metres / np.nanmedian(view.z_depth))


def test_noise_is_a_failure_and_not_a_pose(view: Image) -> None:
    """A picture that shows nothing of the scene has no pose."""
    noise = np.random.default_rng(0).integers(0, 256, view.image.shape, dtype=np.uint8)
    assert camera_error(noise, view.image, view.z_depth, CAMERA) is None


def test_true_neighbours_are_consistent_and_shifted_ones_are_not(room: object, view: Image) -> None:
    """Warping the true next frame back gives the frame; a next frame that slipped by two pixels does not."""
    T_next = START @ se3_exp(np.array([0.02, 0, 0.03, 0, 0.01, 0]))
    after = raycast(room, CAMERA, T_next, 0., samples=2)
    args = view.z_depth, after.z_depth, CAMERA, START, T_next
    right, count = warp_error(view.image, after.image, *args)
    wrong, _ = warp_error(view.image, np.roll(after.image, 2, axis=1), *args)
    assert count > 0.7 * view.image.size
    assert wrong > 4 * right


def test_gradient_energy_falls_with_blur_and_counts_only_where_asked(view: Image) -> None:
    """Blur removes gradient energy; a region without pixels has none."""
    import cv2
    everywhere = np.ones(view.image.shape[:2], bool)
    sharp = gradient_energy(view.image, everywhere)
    assert gradient_energy(cv2.GaussianBlur(view.image, (0, 0), 2.), everywhere) < 0.4 * sharp
    assert gradient_energy(view.image, ~everywhere) == 0.
    left, right = everywhere.copy(), everywhere.copy()
    left[:, 160:], right[:, :160] = False, False
    # Only the differences across the seam are in neither half.
    assert 0.95 * sharp < gradient_energy(view.image, left) + gradient_energy(view.image, right) <= sharp


def test_frechet_distance_of_known_gaussians() -> None:
    """Equal to the closed form for axis-aligned Gaussians, zero to itself, and symmetric."""
    rng = np.random.default_rng(0)
    a, b = GaussianFit(), GaussianFit()
    for _ in range(4):
        a.add(rng.normal(size=(50_000, 3)) * (1., 2., 3.))
        b.add(rng.normal(size=(50_000, 3)) * (2., 2., 1.) + (1., 0., 0.))
    assert frechet_distance(a, b) == pytest.approx(1. + 1. + 0. + 4., rel=0.03)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a))
    assert frechet_distance(a, a) == pytest.approx(0., abs=1e-9)


def test_gaussian_fit_in_pieces_equals_numpy() -> None:
    """Pieces give the moments of the whole."""
    data = np.random.default_rng(1).normal(size=(300, 5)) + 3.
    fit = GaussianFit()
    for piece in np.array_split(data, 7):
        fit.add(piece)
    mean, covariance = fit.moments()
    np.testing.assert_allclose(mean, data.mean(axis=0))
    np.testing.assert_allclose(covariance, np.cov(data, rowvar=False), atol=1e-9)
