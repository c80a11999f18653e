# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Noise on the scene: of variance 1, in holes alone, and moving as the scene does."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import grid_sample

from inspatio_ros.geometry import se3_exp
from inspatio_ros.spatial.grain import FADE_FRAMES, REACH, GrainField
from inspatio_ros.spatial.positions import TokenViews

WIDTH, HEIGHT, TOKEN = 96, 64, 16
FOCAL, DEPTH = 80., 2.
K = torch.tensor([[[FOCAL, 0., 47.5], [0., FOCAL, 31.5], [0., 0., 1.]]], dtype=torch.float64)


def views(*poses, depth=DEPTH):
    """Cameras before a plane that faces the world's origin."""
    rotation = torch.stack([pose[2, :2].norm() for pose in poses])
    assert float(rotation.max()) < 1e-9 or np.isinf(depth), 'a plane has one depth only for cameras that face it'
    return TokenViews(torch.stack(poses)[None], torch.full((1, len(poses), HEIGHT // TOKEN, WIDTH // TOKEN), 1 / depth))


def pose(x=0., y=0., turned=0.):
    return torch.from_numpy(se3_exp(np.array([x, y, 0., 0., turned, 0.])))


def holes(frames):
    return torch.zeros(1, frames, 1, HEIGHT, WIDTH)


def seen_from(image, flow):
    """Give what lies `flow` (pixels [H, W, 2], x first) from each pixel of [1, 1, H, W], and where that is inside."""
    y, x = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing='ij')
    place = torch.stack([x, y], dim=-1) + flow
    size = torch.tensor([WIDTH, HEIGHT])
    inside = ((place >= 0) & (place <= size - 1)).all(dim=-1)
    return grid_sample(image, ((place + 0.5) / size * 2 - 1)[None].float(), align_corners=False)[0, 0], inside


def correlation(a, b):
    return float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1])


def test_it_has_mean_0_and_variance_1_in_holes_and_is_0_elsewhere():
    mask = (torch.rand(1, 3, 1, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0)) > 0.5).float()
    noise = GrainField().look(K, views(pose(), pose(), pose()), mask)
    assert noise.shape == mask.shape and noise.dtype == torch.float32
    assert not noise[mask > 0].any()
    inside = noise[mask == 0]
    assert abs(float(inside.mean())) < 0.05 and float(inside.std()) == pytest.approx(1, abs=0.05)
    assert float(inside.abs().max()) < 4


def test_a_seed_and_a_path_give_the_same_noise_and_another_seed_other_noise():
    path = views(pose(), pose(0.1))
    first, again, other = (GrainField(seed).look(K, path, holes(2)) for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert abs(correlation(first, other)) < 0.05


def test_it_goes_on_from_call_to_call_as_in_one():
    path = [pose(0.05 * i) for i in range(30)]
    whole = GrainField().look(K, views(*path), holes(30))
    field = GrainField()
    parts = [field.look(K, views(*path[start:end]), holes(end - start)) for start, end in ((0, 9), (9, 21), (21, 30))]
    torch.testing.assert_close(torch.cat(parts, dim=1), whole)


@pytest.mark.parametrize(('depth', 'moved', 'flow'), [
    (DEPTH, pose(0.2), (FOCAL * 0.2 / DEPTH, 0.)), (DEPTH, pose(0., -0.1), (0., -FOCAL * 0.1 / DEPTH)),
    (np.inf, pose(3., 1.), (0., 0.))])
def test_a_point_keeps_its_noise_when_the_camera_moves(depth, moved, flow):
    first, second = GrainField().look(K, views(pose(), moved, depth=depth), holes(2))[0].split(1)
    found, inside = seen_from(first, torch.tensor(flow))
    assert correlation(found[inside], second[0, 0][inside]) > 0.95


def test_a_point_at_infinity_keeps_its_noise_when_the_camera_turns():
    turned = 0.1
    first, second = GrainField().look(K, views(pose(), pose(turned=turned), depth=np.inf), holes(2))[0].split(1)
    y, x = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing='ij')
    rays = torch.stack([(x - 47.5) / FOCAL, (y - 31.5) / FOCAL, torch.ones(HEIGHT, WIDTH)], dim=-1).double()
    seen = rays @ pose(turned=turned)[:3, :3].T @ K[0].T
    flow = seen[..., :2] / seen[..., 2:] - torch.stack([x, y], dim=-1)
    found, inside = seen_from(first, flow)
    assert 0.5 < float(inside.float().mean()) < 0.95
    # Interpolated between pixels 1.5 of which are one value apart.
    assert correlation(found[inside], second[0, 0][inside]) > 0.85


def test_wrong_depth_hardly_matters_near_the_anchor():
    near = views(pose(), pose(0.1))
    wrong = TokenViews(near.T_world_camera, near.inverse_depth * torch.tensor([1., 1.1])[None, :, None, None])
    right, moved = (GrainField().look(K, path, holes(2))[0, 1] for path in (near, wrong))
    assert correlation(right, moved) > 0.8


def test_far_from_an_anchor_the_noise_fades_into_that_of_the_next():
    step = 1.5 * REACH * DEPTH
    path = [pose(), *[pose(step)] * (FADE_FRAMES + 3)]
    noise = GrainField().look(K, views(*path), holes(len(path)))[0]
    last = noise[-1]
    likeness = [correlation(frame, last) for frame in noise[1:]]
    assert abs(likeness[0]) < 0.2 and likeness[FADE_FRAMES - 1] == pytest.approx(1) and likeness[-2] == pytest.approx(1)
    assert all(b > a - 1e-3 for a, b in zip(likeness, likeness[1:], strict=False))
    assert all(float(frame.std()) == pytest.approx(1, abs=0.06) for frame in noise)


def test_behind_a_cut_the_noise_depends_on_nothing_of_before():
    def after(*path):
        field = GrainField()
        field.look(K, views(*path), holes(len(path)))
        field.forget()
        return field.look(K, views(pose(5.), pose(5.1)), holes(2))

    assert torch.equal(after(pose(), pose(0.1)), after(pose(3.)))
