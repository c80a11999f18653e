# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Where content lies in another camera: against points projected one by one, and against what a scene really shows."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from small_clips import views_like
from small_recording import write_wall
from test_pipeline import condition
from test_training import make_clip as small_clip

from inspatio_ros.geometry import PinholeCamera, se3_exp
from inspatio_ros.reference import open_reference
from inspatio_ros.scenes.clips import make_clip
from inspatio_ros.simulator import WorldSimulator
from inspatio_ros.spatial.positions import (
    TokenViews,
    block_positions,
    latent_views,
    middle_frames,
    reproject,
    token_inverse_depth,
)
from inspatio_ros.star.pipeline import StarPipeline
from inspatio_ros.star.presets import TINY_GUIDED
from inspatio_ros.training.data import ClipFolder, augment, save_clip
from inspatio_ros.training.networks import Networks

TOKEN = 16
K = torch.tensor([[[60., 0., 47.5], [0., 60., 31.5], [0., 0., 1.]]], dtype=torch.float64)
REPROJECTED = dataclasses.replace(TINY_GUIDED, width=48, height=32, positions='reprojected')


def grid(rows=4, cols=6):
    return torch.stack(torch.meshgrid(torch.arange(float(rows)), torch.arange(float(cols)), indexing='ij'), dim=-1)


def pose(*twist):
    return torch.from_numpy(se3_exp(np.array(twist)))


def test_depth_of_a_token_is_the_mean_inverse_of_what_is_known():
    z = torch.full((1, 32, 32), 2.)
    z[:, :16, 16:] = 4.
    z[:, 0, 0], z[:, 1, 1], z[:, 2, 2], z[:, 3, 3] = torch.nan, 0., torch.inf, -1.
    z[:, 16:24, :16] = 1.
    torch.testing.assert_close(token_inverse_depth(z, TOKEN), torch.tensor([[[0.5, 0.25], [0.75, 0.5]]]))


def test_tokens_without_depth_take_that_of_their_neighbours():
    z = torch.full((1, 64, 96), torch.nan)
    z[:, :, :16], z[:, :, -16:] = 1., 10.
    found = token_inverse_depth(z, TOKEN)[0]
    assert found[0, 0] == 1 and found[0, 5] == pytest.approx(0.1)
    assert (found[:, 1:] < found[:, :-1]).all()
    assert not token_inverse_depth(torch.full((1, 64, 96), torch.nan), TOKEN).any()


def test_the_same_camera_sees_tokens_where_they_are():
    T = pose(0.3, -0.2, 0.5, 0.1, 0.4, -0.2)
    found = reproject(TokenViews(T[None, None], torch.rand(1, 1, 4, 6)), K, T[None], TOKEN)
    torch.testing.assert_close(found[0, 0], grid(), atol=1e-6, rtol=0)


def test_positions_are_those_of_points_projected_one_by_one():
    T_source, T_anchor = pose(0.1, 0., 0.2, 0.05, -0.1, 0.02), pose(-0.2, 0.1, 0., 0., 0.15, 0.)
    inverse = torch.rand(1, 1, 4, 6) + 0.2
    found = reproject(TokenViews(T_source[None, None], inverse), K, T_anchor[None], TOKEN)[0, 0]
    for row, col in ((0, 0), (2, 3), (3, 5)):
        pixel = np.array([col * TOKEN + 7.5, row * TOKEN + 7.5, 1.])
        point = np.linalg.solve(K[0].numpy(), pixel) / float(inverse[0, 0, row, col])
        seen = np.linalg.solve(T_anchor.numpy(), T_source.numpy() @ np.append(point, 1.))[:3]
        u, v = (K[0].numpy() @ (seen / seen[2]))[:2]
        assert found[row, col].tolist() == pytest.approx([(v + 0.5) / TOKEN - 0.5, (u + 0.5) / TOKEN - 0.5], abs=1e-4)


def test_what_is_behind_a_camera_lies_outside_of_its_picture_on_its_side():
    views = TokenViews(torch.eye(4, dtype=torch.float64)[None, None], torch.zeros(1, 1, 4, 6))
    turned = reproject(views, K, pose(0., 0., 0., 0., np.radians(120.), 0.)[None], TOKEN)[0, 0]
    assert torch.isfinite(turned).all() and (turned[..., 1] == -6).all()


def test_infinitely_far_tokens_move_by_the_turn_alone():
    far = torch.zeros(1, 1, 4, 6)
    anchor = pose(0., 0., 0., 0., 0.2, 0.)[None]
    still = reproject(TokenViews(torch.eye(4, dtype=torch.float64)[None, None], far), K, anchor, TOKEN)
    moved = reproject(TokenViews(pose(1., 2., 3., 0., 0., 0.)[None, None], far), K, anchor, TOKEN)
    torch.testing.assert_close(still, moved)


def test_latents_take_the_middle_of_their_frames():
    assert middle_frames(3, 4, True) == [0, 3, 7]
    assert middle_frames(3, 4, False) == [2, 6, 10]


def test_a_block_is_placed_in_the_camera_of_its_middle_latent():
    views = views_like(12, 12, step=0.1)
    seen = latent_views(views, 3, 4, False)
    found = block_positions(seen, seen.block, TOKEN)
    torch.testing.assert_close(found.block[0, 1], grid(2, 3))
    # Four frames to the left: 0.4 m at 2 m, with a focal length of 48 pixels, are 9.6 pixels.
    torch.testing.assert_close(found.block[0, 0], grid(2, 3) - torch.tensor([0., 9.6 / TOKEN]))
    torch.testing.assert_close(found.previous, found.block)
    stills = latent_views(views_like(12, 3), 3, 4, False)
    assert stills.reference.T_world_camera[0, :, 0, 3].tolist() == pytest.approx([0., 0.05, 0.1])


def test_positions_find_the_same_content_in_a_procedural_scene():
    """The mean colour of a token is that of the picture where it is said to lie, for most tokens of a scene."""
    clip = make_clip(3, 96, 64, 9, 9)
    camera = PinholeCamera(clip['K'][0, 0], clip['K'][1, 1], 47.5, 31.5, 96, 64)
    views = TokenViews(torch.from_numpy(clip['reference_T_world_camera'])[None],
                       token_inverse_depth(torch.from_numpy(clip['reference_z_depth']), 8)[None])
    anchor = torch.from_numpy(clip['target_T_world_camera'][4])[None]
    found = reproject(views, torch.from_numpy(camera.K)[None], anchor, 8)[0, 4]
    inside = (found > 0).all(-1) & (found[..., 0] < 7) & (found[..., 1] < 11)
    cells = [torch.from_numpy(image).float().unflatten(0, (8, 8)).unflatten(2, (12, 8)).mean(dim=(1, 3))
             for image in (clip['reference_image'][4], clip['target_image'][4])]
    at = found.round().long().clamp_min(0)
    off = {name: (cells[0] - other).abs().mean(-1)[inside].median()
           for name, other in (('there', cells[1][at[..., 0].clamp_max(7), at[..., 1].clamp_max(11)]),
                               ('unmoved', cells[1]))}
    assert inside.float().mean() > 0.4 and off['there'] < 0.7 * off['unmoved'], off


def test_a_mirrored_clip_has_mirrored_positions(tmp_path):
    save_clip(tmp_path / 'clip_1.safetensors', small_clip(0), {})
    clip = next(ClipFolder(tmp_path).batches(1))
    networks = Networks(REPROJECTED)
    plain = networks.place(clip)[1]
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        flip, backward = (int(torch.randint(2, (1,), generator=generator)) for _ in range(2))
        if flip and not backward:
            break
    mirrored = networks.place(augment(clip, torch.Generator().manual_seed(seed)))[1]
    for name in ('reference', 'previous', 'block'):
        wanted = getattr(plain, name).flip(3)
        wanted = torch.stack([wanted[..., 0], 2 - wanted[..., 1]], dim=-1)
        torch.testing.assert_close(getattr(mirrored, name), wanted, atol=1e-4, rtol=0)


def test_a_mirrored_camera_has_its_axis_as_far_from_the_other_side(tmp_path):
    save_clip(tmp_path / 'clip_1.safetensors', small_clip(0), {})
    clip = next(ClipFolder(tmp_path).batches(1))
    clip.views.K[:, 0, 2] += 3.
    width = clip.truth.shape[-1]
    found = {float(augment(clip, torch.Generator().manual_seed(seed)).views.K[0, 0, 2]) for seed in range(8)}
    axis = float(clip.views.K[0, 0, 2])
    assert found == {axis, width - 1 - axis} and axis != (width - 1) / 2


class MovedReference(WorldSimulator):
    """A simulator whose generator is told that the recording was made elsewhere."""

    shift = 0.

    def _reference_views(self, *given):
        images, keys, views = super()._reference_views(*given)
        if views is not None:
            moved = pose(self.shift, 0., 0., 0., 0., 0.) @ views.reference.T_world_camera
            views = dataclasses.replace(views, reference=dataclasses.replace(views.reference, T_world_camera=moved))
        return images, keys, views


@pytest.mark.parametrize('config', [TINY_GUIDED, REPROJECTED])
def test_only_a_generator_that_places_tokens_minds_where_the_recording_was_made(config, tmp_path):
    reference, made = open_reference(write_wall(tmp_path)), []
    for shift in (0., 0.3):
        pipeline = StarPipeline.random(dataclasses.replace(config, width=48, height=32))
        simulator = MovedReference(reference, pipeline, device='cpu')
        simulator.shift = shift
        poses = np.repeat(reference.T_world_camera[:1], 12, axis=0)
        made.append([simulator.step(poses[:count]).image for count in (9, 12)])
    same = [np.array_equal(*pair) for pair in zip(*made, strict=True)]
    assert same == [config.positions == 'grid'] * 2


def test_a_generator_that_places_tokens_refuses_a_block_without_views():
    pipeline = StarPipeline.random(REPROJECTED)
    given = condition(9)
    with pytest.raises(ValueError, match='give the views of the block'):
        pipeline.step(given, torch.zeros(3, *given.image.shape[1:]))
