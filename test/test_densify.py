# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Preparing recorded frames: clean depth, the target's density, grids that fall on the target's pixels."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inspatio_ros.geometry import PinholeCamera
from inspatio_ros.reference.base import ReferenceFrame
from inspatio_ros.spatial.densify import clean_depth, densify, grid_of_source, grid_of_target, resample_colour
from inspatio_ros.spatial.render import splat

CAMERA = PinholeCamera(100., 101., 58.3, 41.9, 120, 80)


def _image(height: int = 80, width: int = 120) -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 1.5)


def _plane(camera: PinholeCamera, normal=(0.3, -0.5, 1.)) -> np.ndarray:
    """Give the z-depth of a plane through (0, 0, 2): float32 [H, W]."""
    return (2. / (camera.rays() @ np.array(normal))).astype(np.float32)


@settings(max_examples=30, deadline=None)
@given(width=st.integers(1, 20).map(lambda n: 16 * n), height=st.integers(1, 15).map(lambda n: 16 * n),
       density=st.sampled_from([1, 2]))
def test_source_pixels_fall_on_target_pixels(width, height, density):
    target = CAMERA.fitted(width, height)
    grid = grid_of_source(CAMERA, target, density)
    K = grid.K(CAMERA)
    dense = target.scaled(width * density, height * density)
    assert np.allclose(K[:2, :2], dense.K[:2, :2])
    offset = K[:2, 2] - dense.K[:2, 2]
    assert np.allclose(offset, offset.round(), atol=1e-6)
    # It covers what the target sees of the source image.
    assert (offset >= -1e-6).all()
    assert grid.width - offset[0] >= dense.width - 1e-6
    assert grid.height - offset[1] >= dense.height - 1e-6


@pytest.mark.parametrize(('width', 'height'), [(120, 80), (240, 160), (208, 112), (48, 32), (64, 48)])
def test_identity_warp_of_a_prepared_frame_is_the_reference_image(width, height):
    target = CAMERA.fitted(width, height)
    frame = ReferenceFrame(0, 0., _image(), _plane(CAMERA), np.eye(4))
    dense = densify(frame, CAMERA, target)
    colour = torch.from_numpy(dense.colour).movedim(-1, 0)[None] / 127.5 - 1
    rendered = splat(colour, torch.from_numpy(dense.z_depth)[None], dense.K, np.eye(4)[None], target.K, (width, height))
    assert rendered.mask.min() == 1
    image = (rendered.image[0].movedim(0, -1).numpy() + 1) * 127.5
    # The bilinear resize rounds to 1/32 of a pixel, on both grids differently.
    assert np.abs(image - resample_colour(frame.image, grid_of_target(CAMERA, target))).max() <= 2.
    inner = (slice(2, -2),) * 2
    assert np.allclose(rendered.z_depth[0][inner], _plane(target)[inner], rtol=2e-3)


def test_halving_takes_the_mean_of_each_area():
    target = CAMERA.scaled(60, 40)
    ours = resample_colour(_image(), grid_of_target(CAMERA, target)).astype(int)
    assert np.abs(ours - cv2.resize(_image(), (60, 40), interpolation=cv2.INTER_AREA)).max() <= 1
    odd = resample_colour(_image(), grid_of_target(CAMERA, CAMERA.scaled(43, 29))).astype(int)
    assert np.abs(odd - cv2.resize(_image(), (43, 29), interpolation=cv2.INTER_AREA)).max() <= 1


def test_own_size_is_not_touched():
    image = _image()
    assert resample_colour(image, grid_of_target(CAMERA, CAMERA)) is image


@pytest.mark.parametrize('density', [1, 2])
def test_a_plane_stays_a_plane(density):
    target = CAMERA.fitted(240, 160)
    frame = ReferenceFrame(0, 0., _image(), _plane(CAMERA), np.eye(4))
    dense = densify(frame, CAMERA, target, density)
    height, width = dense.z_depth.shape
    camera = PinholeCamera(dense.K[0, 0], dense.K[1, 1], dense.K[0, 2], dense.K[1, 2], width, height)
    # Beyond the centres of the outermost source pixels, depth is repeated.
    inner = (slice(2 * density, -2 * density),) * 2
    assert np.allclose(dense.z_depth[inner], _plane(camera)[inner], rtol=1e-4)


def test_depth_is_not_mixed_across_an_edge():
    z = np.full((80, 120), 2., np.float32)
    z[:, 60:] = 4.
    frame = ReferenceFrame(0, 0., _image(), z, np.eye(4))
    assert set(np.unique(densify(frame, CAMERA, CAMERA.fitted(304, 208)).z_depth)) == {2., 4.}


def test_flying_pixels_are_dropped_and_edges_kept():
    z = np.full((80, 120), 2., np.float32)
    z[:, 60:] = 4.
    assert np.array_equal(clean_depth(z, CAMERA), z)
    z[:, 60] = 3.
    cleaned = clean_depth(z, CAMERA)
    assert np.isnan(cleaned[:, 60]).all()
    assert np.array_equal(np.delete(cleaned, 60, axis=1), np.delete(z, 60, axis=1))


def test_slanted_surfaces_are_kept():
    # Seen under 80 degrees from its normal, a wall is still a wall.
    z = _plane(CAMERA, normal=(np.tan(np.radians(80.)) * 0.2, 0., 1.))
    assert np.isfinite(clean_depth(z, CAMERA)).all()


@pytest.mark.parametrize('unknown', [0., np.nan, -1., np.inf])
def test_thin_gaps_close_within_a_surface_only(unknown):
    camera = PinholeCamera(500., 500., 269.5, 179.5, 540, 360)
    plane = _plane(camera)
    gappy = plane.copy()
    gappy[100:103], gappy[:, 200:202] = unknown, unknown
    closed = clean_depth(gappy, camera)
    assert np.allclose(closed, plane, rtol=1e-4)
    wide = plane.copy()
    wide[100:112] = unknown
    assert np.isnan(clean_depth(wide, camera)[104:108]).all()
    step = np.full((360, 540), 2., np.float32)
    step[:, 270:], step[:, 269:271] = 3., unknown
    assert np.isnan(clean_depth(step, camera)[:, 269:271]).all()


def test_nothing_known_stays_unknown():
    frame = ReferenceFrame(0, 0., _image(), np.zeros((80, 120), np.float32), np.eye(4))
    assert np.isnan(densify(frame, CAMERA, CAMERA.fitted(240, 160)).z_depth).all()
