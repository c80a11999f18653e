# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The spatial constraint of whole recordings: which frames are chosen, how they are fused, how true the result is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from inspatio_ros.errors import ConfigurationError
from inspatio_ros.evaluation.metrics import gain_fit_psnr, psnr
from inspatio_ros.geometry import PinholeCamera, make_pose, se3_exp
from inspatio_ros.reference.base import Reference, ReferenceFrame
from inspatio_ros.reference.rgbd import RgbdFolder
from inspatio_ros.scenes.raycast import raycast
from inspatio_ros.scenes.rooms import sample_room
from inspatio_ros.spatial import constraint as module
from inspatio_ros.spatial import views as views_module
from inspatio_ros.spatial.constraint import SpatialConstraint
from inspatio_ros.spatial.densify import densify, grid_of_target, resample_colour
from inspatio_ros.spatial.exposure import match_exposure
from inspatio_ros.spatial.fill import fill
from inspatio_ros.spatial.render import CONTRADICTION, Condition, contradicts
from inspatio_ros.spatial.views import Magnification, _bounding_spheres

_FORWARD = np.array([[0., 0., 1.], [-1., 0., 0.], [0., -1., 0.]])


class Room(Reference):
    """A recording of the sample room made by turning on the spot: 16 frames, ray-cast."""

    def __init__(self, is_static: bool = True, gains: np.ndarray | None = None) -> None:
        self.name, self.is_static, self.up = 'room', is_static, np.array([0., 0., 1.])
        self.camera = PinholeCamera(70., 70., 47.5, 31.5, 96, 64)
        self.times = 5. + np.arange(16) / 4
        self.T_world_camera = np.stack([self._pose(0.2 * i) for i in range(16)])
        self._gains = np.ones(16) if gains is None else gains
        self._frames: dict[int, ReferenceFrame] = {}

    @staticmethod
    def _pose(yaw: float) -> np.ndarray:
        turn = make_pose(_FORWARD) @ se3_exp([0., 0., 0., 0., 2.9 + yaw, 0.])
        return make_pose(turn[:3, :3], np.array([2.15, -1.45, 1.12]) + [-0.1 * yaw, 0.15 * yaw, 0.])

    def frame(self, index: int) -> ReferenceFrame:
        if index not in self._frames:
            time = 0. if self.is_static else float(self.times[index])
            view = raycast(sample_room(), self.camera, self.T_world_camera[index], time, 1)
            image = np.clip(view.image * self._gains[index], 0, 255).astype(np.uint8)
            self._frames[index] = ReferenceFrame(index, float(self.times[index]), image, view.z_depth,
                                                 self.T_world_camera[index])
        return self._frames[index]


@pytest.fixture(scope='module')
def room() -> Room:
    return Room()


def _bytes(image: torch.Tensor) -> np.ndarray:
    return ((image.movedim(-3, -1).numpy() + 1) * 127.5).round()


# --- moving recordings -----------------------------------------------------------------------------------------------


def test_a_moving_recording_is_rendered_from_the_frame_aligned_in_time():
    moving = Room(is_static=False)
    constraint = SpatialConstraint(moving, moving.camera)
    times = np.array([4., 5., 5.1, 5.13, 6., 8.74, 100.])
    frames = [0, 0, 0, 1, 4, 15, 15]
    poses = moving.T_world_camera[frames]
    assert constraint.reference_frames(poses, times, 3) == frames
    condition = constraint.render(poses, times)
    known = condition.mask[:, 0] > 0
    assert known.float().mean() > 0.99
    images = constraint.reference_images(frames)
    assert torch.allclose(condition.image.movedim(1, -1)[known], images.movedim(1, -1)[known], atol=1e-5)


def test_a_moving_recording_that_is_blown_up_has_no_lattice_of_holes(monkeypatch):
    moving = Room(is_static=False)
    near = (moving.T_world_camera[0] @ se3_exp([0., 0., 2., 0., 0., 0.]))[None]
    middle = (..., slice(16, 48), slice(24, 72))
    constraint = SpatialConstraint(moving, moving.camera)
    assert constraint._views(moving.T_world_camera[:1], moving.times[:1]) == [((0, 1),)]
    assert constraint._views(near, moving.times[:1]) == [((0, 2),)]
    magnification = Magnification(moving)
    assert magnification(0, moving.camera, moving.T_world_camera[0]) == pytest.approx(1.)
    nearest = magnification(0, moving.camera, near[0])
    with monkeypatch.context() as patch:
        patch.setattr(views_module, '_NEAREST', 0.5)
        assert magnification(0, moving.camera, near[0]) < nearest, 'what is near decides, and not the mean of all'
    dense = constraint.render(near, moving.times[:1]).mask[middle].mean()
    monkeypatch.setattr(module, 'DENSE_FROM', np.inf)
    assert SpatialConstraint(moving, moving.camera).render(near, moving.times[:1]).mask[middle].mean() < dense - 0.005


@pytest.mark.parametrize(('kernel', 'sentence'), [('nmba', "'nmba' is unknown"), ('triton', 'does not run on cpu')])
def test_a_kernel_that_cannot_be_is_refused_and_not_replaced(room, kernel, sentence):
    with pytest.raises(ConfigurationError, match=sentence):
        SpatialConstraint(room, room.camera, 'cpu', kernel=kernel)
    condition = SpatialConstraint(room, room.camera).render(room.T_world_camera[:1])
    with pytest.raises(ConfigurationError, match=sentence):
        fill(condition, 'smooth', kernel)


def test_a_moving_recording_wants_times():
    moving = Room(is_static=False)
    with pytest.raises(ValueError, match='times'):
        SpatialConstraint(moving, moving.camera).render(moving.T_world_camera[:1])


# --- static recordings -----------------------------------------------------------------------------------------------


def test_the_frame_from_there_comes_first(room):
    constraint = SpatialConstraint(room, room.camera)
    for index in (0, 5, 15):
        assert constraint.reference_frames(room.T_world_camera[index:index + 1], None, 3)[0] == index
        condition = constraint.render(room.T_world_camera[index:index + 1])
        image = torch.from_numpy(room.frame(index).image).movedim(-1, 0)[None] / 127.5 - 1
        known = (condition.mask > 0).expand_as(image)
        assert ((condition.image - image)[known].abs() < 1e-4).float().mean() > 0.99


def test_more_views_show_more_and_are_as_true(room):
    between = room._pose(0.9) @ se3_exp([0.05, 0., -0.4, 0., 0., 0.])
    truth = raycast(sample_room(), room.camera, between, 0., 2).image
    shares, quality = [], []
    for views in (1, 2, 4):
        condition = SpatialConstraint(room, room.camera, max_views=views).render(between[None])
        known = condition.mask[0, 0].numpy() > 0
        shares.append(known.mean())
        quality.append(psnr(_bytes(condition.image[0]), truth, known))
    assert shares[0] + 0.05 < shares[1] <= shares[2]
    assert shares[2] > 0.9
    assert min(quality) > 18.


def test_views_that_add_nothing_are_not_taken(room):
    twins = Room()
    twins.T_world_camera = np.repeat(room.T_world_camera[:1], 16, axis=0)
    constraint = SpatialConstraint(twins, twins.camera)
    assert len(constraint._views(room.T_world_camera[:1], None)[0]) == 1
    # The block's reference still has as many frames as it needs.
    assert len(set(constraint.reference_frames(room.T_world_camera[:1], None, 3))) == 1
    assert len(constraint.reference_frames(room.T_world_camera[:1], None, 3)) == 3


def test_where_nothing_was_recorded_nothing_is_known(room):
    outside = make_pose(_FORWARD, np.array([500., 0., 0.]))
    condition = SpatialConstraint(room, room.camera).render(outside[None])
    assert condition.mask.sum() == 0
    assert torch.isnan(condition.z_depth).all()


def test_a_block_is_rendered_from_the_same_views_throughout(room):
    constraint = SpatialConstraint(room, room.camera)
    path = np.stack([room._pose(yaw) for yaw in np.linspace(0.3, 1.0, 30)])
    views = constraint._views(path, None)
    assert len(views) == 30
    for start in range(0, 30, module.FRAMES_PER_CHOICE):
        assert len(set(views[start:start + module.FRAMES_PER_CHOICE])) == 1
    assert len(set(views)) > 1


def test_what_is_blown_up_has_no_lattice_of_holes(room, monkeypatch):
    near = room._pose(2.) @ se3_exp([0., 0., 2., 0., 0., 0.])
    middle = (..., slice(16, 48), slice(24, 72))
    constraint = SpatialConstraint(room, room.camera, max_views=1)
    assert constraint._views(near[None], None) == [((constraint.reference_frames(near[None], None, 1)[0], 2),)]
    dense = constraint.render(near[None]).mask[middle].mean()
    monkeypatch.setattr(module, 'DENSE_FROM', np.inf)
    assert dense > 0.97
    assert SpatialConstraint(room, room.camera, max_views=1).render(near[None]).mask[middle].mean() < dense - 0.005


def test_the_same_poses_give_the_same_picture(room):
    poses = np.stack([room._pose(yaw) for yaw in (0.1, 0.5, 0.9)])
    first = SpatialConstraint(room, room.camera)
    a = first.render(poses)
    first.render(poses[::-1])
    b, c = first.render(poses), SpatialConstraint(room, room.camera).render(poses)
    for other in (b, c):
        assert torch.equal(a.image, other.image)
        assert torch.equal(a.z_depth.nan_to_num(), other.z_depth.nan_to_num())


def test_torch_renders_what_the_kernel_renders(room):
    poses = np.stack([room._pose(yaw) @ se3_exp([0.02, 0., 0.1, 0., 0., 0.]) for yaw in (0.1, 0.9)])
    a, b = (SpatialConstraint(room, room.camera.fitted(112, 80), kernel=kernel).render(poses)
            for kernel in ('numba', 'torch'))
    assert a.image.shape == b.image.shape == (2, 3, 80, 112)
    assert (a.mask != b.mask).float().mean() < 0.005
    assert ((a.image - b.image).abs().amax(1) > 1e-2).float().mean() < 0.01


def test_reference_images_are_fitted_to_the_camera(room):
    camera = room.camera.fitted(64, 48)
    images = SpatialConstraint(room, camera).reference_images([3, 3, 7])
    assert images.shape == (3, 3, 48, 64)
    assert images.dtype == torch.float32
    assert torch.equal(images[0], images[1])
    truth = raycast(sample_room(), camera, room.T_world_camera[7], 0., 3).image
    assert psnr(_bytes(images[2]), truth) > 25.


def test_memory_of_prepared_frames_is_bounded(room, monkeypatch):
    monkeypatch.setattr(module, 'CACHE_BYTES', 300_000)
    monkeypatch.setattr(module, 'GAINS_KEPT', 3)
    constraint = SpatialConstraint(room, room.camera)
    for index in [*range(16), *range(16)]:
        constraint.render(room.T_world_camera[index:index + 1])
        constraint.reference_images([index])
        assert constraint._cache._bytes <= 300_000
        assert constraint._cache._bytes == sum(value.nbytes for value in constraint._cache._values.values())
        assert len(constraint._gain_cache) <= 3


# --- exposure and contradiction --------------------------------------------------------------------------------------


def test_exposure_is_matched_to_the_first_view(room):
    gains = np.ones(16)
    gains[1::2] = 0.6
    views = [densify(Room(gains=gains).frame(i), room.camera, room.camera) for i in (4, 5, 6)]
    matched = match_exposure(views)
    assert np.allclose(matched[0], 1.)
    assert np.allclose(matched[1], 1 / 0.6, rtol=0.1)
    assert np.allclose(matched[2], 1., rtol=0.1)


def test_views_without_common_points_keep_their_exposure(room):
    views = [densify(room.frame(i), room.camera, room.camera) for i in (0, 15)]
    views[1] = replace(views[1], T_world_camera=make_pose(translation=np.array([100., 0., 0.])))
    assert (match_exposure(views) == 1.).all()


def test_what_a_better_view_shows_in_another_colour_is_contradicted():
    K, T = np.array([[50., 0., 31.5], [0., 50., 23.5], [0., 0., 1.]]), np.eye(4)[None]
    rendered = Condition(torch.full((1, 3, 48, 64), 0.2), torch.ones(1, 1, 48, 64), torch.full((1, 48, 64), 2.))
    image = torch.full((1, 3, 48, 64), 0.2)
    image[..., :32] += 2 * CONTRADICTION
    z_depth = torch.full((1, 48, 64), torch.nan)
    z_depth[:, :24] = 1.
    verdict = contradicts(rendered, image, z_depth, K, T, K)
    # Only where the better view has no depth, and only where the colours differ.
    assert verdict[0, 24:, :32].all()
    assert verdict.sum() == 24 * 32
    hole = Condition(rendered.image, rendered.mask * 0, torch.full_like(rendered.z_depth, torch.nan))
    assert not contradicts(hole, image, z_depth, K, T, K).any()


@pytest.mark.filterwarnings('error')
def test_a_frame_without_any_depth_is_seen_from_nowhere():
    points = np.random.default_rng(0).normal(size=(2, 5, 3))
    points[1] = np.nan
    middles, radii = _bounding_spheres(points)
    assert np.linalg.norm(points[0] - middles[0], axis=1).max() == pytest.approx(radii[0])
    assert np.isfinite(middles[1]).all() and radii[1] == -np.inf


# --- a real recording ------------------------------------------------------------------------------------------------


def test_office_frames_kept_out_are_rendered_true(shared_office):
    office, kept_out = RgbdFolder(shared_office), [25, 75, 125, 175, 225]
    camera = office.camera.fitted(832, 480)
    constraint = SpatialConstraint(office.without(kept_out), camera)
    figures = []
    for index in kept_out:
        condition = constraint.render(office.T_world_camera[index:index + 1])
        truth = resample_colour(office.frame(index).image, grid_of_target(office.camera, camera))
        known = condition.mask[0, 0].numpy() > 0
        assert known.mean() > 0.7
        figures.append(gain_fit_psnr(_bytes(condition.image[0]), truth, known))
    assert np.median(figures) >= 23., figures
    assert min(figures) >= 18., figures
