# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The forward splat: golden tensors, its slow twin, what must hold for any scene, and the truth of a ray-cast one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from inspatio_ros.geometry import PinholeCamera, invert, make_pose, se3_exp
from inspatio_ros.scenes.raycast import raycast
from inspatio_ros.scenes.rooms import sample_room
from inspatio_ros.spatial import splat_cpu, splat_triton
from inspatio_ros.spatial.render import HOLE, fuse, project_pixels, splat

KERNELS = ('torch', 'numba')
CAMERA = PinholeCamera(52., 50., 31.5, 23.5, 64, 48)
SIZE = (64, 48)


def _scene(seed: int = 0, frames: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Give images [F, 3, 48, 64] of noise and depths [F, 48, 64] of slanted surfaces with edges and unknown pixels."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(frames, 3, 48, 64, generator=generator) * 2 - 1
    y, x = torch.meshgrid(torch.arange(48.), torch.arange(64.), indexing='ij')
    z = 2 + 0.01 * x + 0.005 * y + 0.8 * ((x // 16 + y // 12) % 2)
    z = z * (1 + 0.1 * torch.arange(frames)[:, None, None])
    z[:, 5:8, 5:9], z[:, 30:33, 40:44] = 0., torch.nan
    return image, z


def _splat(image, z_depth, T, kernel='auto', size=SIZE, camera=CAMERA):
    T = np.broadcast_to(T, (len(image), 4, 4))
    return splat(image, z_depth, CAMERA.K, T, camera.K, size, kernel=kernel)


# --- the released code's own results ---------------------------------------------------------------------------------


@pytest.fixture(scope='module')
def golden(shared_golden):
    return load_file(shared_golden / 'forward_warp.safetensors')


def _released(golden, case, frames=(0, 1, 2)):
    """Run the splat as released on a golden case; give it and what the released code gave."""
    image, depth = torch.from_numpy(golden['out.frame_m1_p1']), torch.from_numpy(golden['in.depth'])
    identity = np.tile(np.eye(4), (len(frames), 1, 1))
    source = golden.get(f'out.{case}.source_w2c', identity).astype(np.float64)
    target = golden.get(f'out.{case}.target_w2c', identity).astype(np.float64)
    K = golden['out.intrinsic_render'].astype(np.float64)
    T = target @ np.linalg.inv(source)
    rendered = splat(image[list(frames)], depth[list(frames)], K, T, K, SIZE, release=True)
    return rendered, torch.from_numpy(golden[f'out.{case}.render']), torch.from_numpy(golden[f'out.{case}.mask']), K, T


@pytest.mark.parametrize(('case', 'frames', 'identities'), [('A', (0, 1, 2), {0}), ('B', (0, 1, 2), set()),
                                                            ('F', (0, 1, 1, 1, 2), {0})])
def test_released_splat_equals_golden(golden, case, frames, identities):
    rendered, image, mask, K, T = _released(golden, case, frames)
    assert torch.equal(rendered.mask, mask)
    error = (rendered.image - image).abs().amax(1)
    for frame in range(len(frames)):
        if frame in identities:
            # The released weights are unstable there: rounding lets the foreground leak over the background.
            assert (error[frame] < 1e-3).float().mean() >= 0.985
        else:
            assert error[frame].max() < 1e-3
    depth = torch.from_numpy(golden['in.depth'])[list(frames)].clamp(1e-4, 1e4)
    coords, z = project_pixels(depth, K, T, K)
    assert torch.allclose(coords, torch.from_numpy(golden[f'out.{case}.coords']), atol=1e-3)
    assert torch.allclose(z, torch.from_numpy(golden[f'out.{case}.z']), atol=1e-5)


def test_released_splat_depends_on_the_rest_of_the_clip(golden):
    image, depth = torch.from_numpy(golden['out.frame_m1_p1']), torch.from_numpy(golden['in.depth'])
    K = golden['out.intrinsic_render'].astype(np.float64)
    T = golden['out.A.target_w2c'].astype(np.float64) @ np.linalg.inv(golden['out.A.source_w2c'].astype(np.float64))
    alone = splat(image[1:2], depth[1:2], K, T[1:2], K, SIZE, release=True)
    assert (alone.image - torch.from_numpy(golden['out.A_frame1_alone.render'])).abs().max() < 1e-3
    assert torch.equal(alone.mask, torch.from_numpy(golden['out.A_frame1_alone.mask']))
    assert (alone.image - torch.from_numpy(golden['out.A.render'])[1:2]).abs().max() > 5e-3
    # Ours does not.
    ours = splat(image[1:2], depth[1:2], K, T[1:2], K, SIZE)
    assert torch.equal(ours.image, splat(image, depth, K, T, K, SIZE).image[1:2])


@pytest.mark.parametrize('case', ['identity', 'behind'])
def test_released_splat_equals_golden_where_it_is_unstable(golden, case):
    rendered, image, mask, *_ = _released(golden, case)
    assert ((rendered.image - image).abs().amax(1) < 1e-3).float().mean() >= 0.985
    # Where a position falls on a row by rounding, the next row counts as known for a weight of 1e-7.
    assert (rendered.mask == mask).float().mean() >= 0.998


@pytest.mark.parametrize('kernel', KERNELS)
def test_our_identity_warp_reproduces_the_golden_image(golden, kernel):
    image, depth = torch.from_numpy(golden['out.frame_m1_p1']), torch.from_numpy(golden['in.depth'])
    K = golden['out.intrinsic_render'].astype(np.float64)
    rendered = splat(image, depth, K, np.tile(np.eye(4), (3, 1, 1)), K, SIZE, kernel=kernel)
    known = depth > 0
    assert torch.equal(rendered.mask[:, 0] > 0, known)
    assert ((rendered.image - image).abs().amax(1)[known]).max() < 1e-5


@pytest.mark.parametrize(('available', 'said'), [(False, 'Triton is not installed'), (True, 'no compiler')])
def test_kernel_that_does_not_run_on_a_gpu_gives_way_and_says_so_once(monkeypatch, caplog, available, said):
    def fails(*given):
        raise RuntimeError('no compiler')

    monkeypatch.setattr(splat_triton, 'AVAILABLE', available)
    monkeypatch.setattr(splat_triton, 'splat_triton', fails)
    splat_triton.runs_on.cache_clear()
    assert not any(splat_triton.runs_on(torch.device('cpu')) for _ in range(3))
    assert [said in record.message for record in caplog.records] == [True]
    splat_triton.runs_on.cache_clear()


def test_unknown_kernel_is_refused():
    image, z = _scene()
    with pytest.raises(ValueError, match="kernel 'abacus' is unknown; choose one of auto, torch, numba, triton"):
        _splat(image, z, np.eye(4), 'abacus')


# --- the fast kernel and its slow twin -------------------------------------------------------------------------------


def _agree(a, b, most_pixels: float = 0.002) -> None:
    """Two renders agree but for a few pixels, whose share of a point lies on a threshold by rounding."""
    assert (a.mask != b.mask).float().mean() <= most_pixels
    assert ((a.image - b.image).abs().amax(1) > 1e-3).float().mean() <= most_pixels
    same = torch.isclose(a.z_depth, b.z_depth, rtol=0., atol=1e-3, equal_nan=True)
    assert (~same).float().mean() <= most_pixels


@settings(max_examples=25, deadline=None)
@given(twist=st.lists(st.floats(-0.3, 0.3), min_size=6, max_size=6), seed=st.integers(0, 5))
def test_kernel_equals_its_twin(twist, seed):
    image, z = _scene(seed, frames=2)
    T = np.stack([se3_exp(twist), se3_exp(-np.array(twist))])
    _agree(_splat(image, z, T, 'numba'), _splat(image, z, T, 'torch'))


@pytest.mark.parametrize('threads', [1, 2, 5])
def test_any_number_of_threads_gives_the_same_picture(threads):
    image, z = _scene(frames=1)
    T = se3_exp([0.1, 0.05, -0.3, 0.02, 0.1, 0.])[None]
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = _splat(image, z, T)
        torch.set_num_threads(threads)
        shared = _splat(image, z, T)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(alone.image, shared.image)
    assert torch.equal(alone.mask, shared.mask)


def test_culling_leaves_out_only_what_does_not_show():
    image, z = _scene(frames=3)
    views = []
    twists = ([0.05, 0, 0.1, 0, 0.02, 0], [-0.2, 0.05, 0.3, 0, -0.1, 0], [0.4, 0, 0, 0, 0.2, 0.1])
    for frame, twist in enumerate(twists):
        pixels = splat_cpu.SourcePixels.of(image[frame].movedim(0, -1).numpy(), z[frame].numpy())
        views.append(splat_cpu.View(pixels, *splat_cpu.pixel_motion(CAMERA.K, se3_exp(twist), CAMERA.K)))
    _agree(splat_cpu.splat_views([views], SIZE), splat_cpu.splat_views([views], SIZE, cull=False))


# --- what must hold --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('kernel', KERNELS)
def test_identity_reproduces_image_mask_and_depth(kernel):
    image, z = _scene(frames=2)
    rendered = _splat(image, z, np.eye(4), kernel)
    known = z > 0
    assert torch.equal(rendered.mask[:, 0] > 0, known)
    assert torch.allclose(rendered.image.movedim(1, -1)[known], image.movedim(1, -1)[known], atol=1e-6)
    assert torch.allclose(rendered.z_depth[known], z[known], rtol=1e-6)
    assert (rendered.image.movedim(1, -1)[~known] == HOLE).all()


@pytest.mark.parametrize('kernel', KERNELS)
@settings(max_examples=10, deadline=None)
@given(shift=st.tuples(st.integers(-20, 20), st.integers(-15, 15)))
def test_whole_pixels_shift_exactly(kernel, shift):
    image, _ = _scene()
    z = torch.full((1, 48, 64), 2.)
    dx, dy = shift
    rendered = _splat(image, z, make_pose(translation=[dx * 2 / CAMERA.fx, dy * 2 / CAMERA.fy, 0.]), kernel)
    moved = torch.full_like(image, HOLE)
    moved[..., max(dy, 0):48 + min(dy, 0), max(dx, 0):64 + min(dx, 0)] = image[
        ..., max(-dy, 0):48 + min(-dy, 0), max(-dx, 0):64 + min(-dx, 0)]
    assert torch.allclose(rendered.image, moved, atol=1e-5)
    assert rendered.mask.sum() == (64 - abs(dx)) * (48 - abs(dy))


@pytest.mark.parametrize('kernel', KERNELS)
@settings(max_examples=10, deadline=None)
@given(exponent=st.integers(-6, 6))
def test_unit_of_depth_does_not_matter(kernel, exponent):
    image, z = _scene()
    T = se3_exp([0.1, 0.05, -0.3, 0.02, 0.1, 0.])
    scaled = T.copy()
    scaled[:3, 3] *= 4. ** exponent
    a, b = _splat(image, z, T, kernel), _splat(image, z * 4. ** exponent, scaled, kernel)
    _agree(a, type(b)(b.image, b.mask, b.z_depth / 4. ** exponent), most_pixels=0.)


@pytest.mark.parametrize('kernel', KERNELS)
def test_behind_the_camera_never_shows(kernel):
    image, _ = _scene()
    z = torch.full((1, 48, 64), 2.)
    for forward in (2., 2.5, 100.):
        rendered = _splat(image, z, make_pose(translation=[0., 0., -forward]), kernel)
        assert rendered.mask.sum() == 0
        assert (rendered.image == HOLE).all()
        assert torch.isnan(rendered.z_depth).all()


@pytest.mark.parametrize('kernel', KERNELS)
def test_turned_around_nothing_shows(kernel):
    image, z = _scene()
    assert _splat(image, z, se3_exp([0., 0., 0., 0., np.pi, 0.]), kernel).mask.sum() == 0


@pytest.mark.parametrize('kernel', KERNELS)
@pytest.mark.parametrize('unknown', [0., -1., float('nan'), float('inf'), -float('inf')])
def test_unknown_depth_is_no_evidence(kernel, unknown):
    image, z = _scene()
    z[:, 10:30, 10:30] = unknown
    without = z.clone()
    without[:, 10:30, 10:30] = 0.
    recoloured = image.clone()
    recoloured[:, :, 10:30, 10:30] = 1.
    T = se3_exp([0.1, 0.05, 0.1, 0.02, 0.1, 0.])
    a, b = _splat(recoloured, z, T, kernel), _splat(image, without, T, kernel)
    assert torch.equal(a.image, b.image)
    assert torch.equal(a.mask, b.mask)


@pytest.mark.parametrize('kernel', KERNELS)
def test_nothing_known_gives_only_holes(kernel):
    image, z = _scene()
    rendered = _splat(image, torch.full_like(z, torch.nan), np.eye(4), kernel)
    assert rendered.mask.sum() == 0
    assert (rendered.image == HOLE).all()


@pytest.mark.parametrize('kernel', KERNELS)
@settings(max_examples=15, deadline=None)
@given(twist=st.lists(st.floats(-1., 1.), min_size=6, max_size=6))
def test_mask_says_where_depth_and_image_are_known(kernel, twist):
    image, z = _scene()
    rendered = _splat(image, z, se3_exp(twist), kernel)
    known = rendered.mask[:, 0] > 0
    assert torch.equal(known, ~torch.isnan(rendered.z_depth))
    assert set(rendered.mask.unique().tolist()) <= {0., 1.}
    assert (rendered.image.movedim(1, -1)[~known] == HOLE).all()
    assert torch.isfinite(rendered.image).all()
    assert rendered.image.abs().max() <= 1 + 1e-5


@pytest.mark.parametrize('kernel', KERNELS)
def test_a_near_surface_hides_a_far_one(kernel):
    image = torch.full((1, 3, 48, 64), -0.5)
    z = torch.full((1, 48, 64), 4.)
    image[..., 20:30, 20:30], z[:, 20:30, 20:30] = 0.5, 2.
    # Two pixels to the right at depth 2, one at depth 4.
    rendered = _splat(image, z, make_pose(translation=[4. / CAMERA.fx, 0., 0.]), kernel)
    assert torch.allclose(rendered.image[..., 20:30, 22:32], torch.tensor(0.5))
    assert (rendered.mask[0, 0, 20:30, 21] == 0).all()
    assert torch.allclose(rendered.image[0, 0, 20:30, 20], torch.tensor(-0.5))


def test_a_sliver_of_a_pixel_is_not_known():
    image, _ = _scene()
    z = torch.full((1, 48, 64), torch.nan)
    z[0, 20, 20] = 2.
    T = make_pose(translation=[0.01 * 2. / CAMERA.fx, 0.01 * 2. / CAMERA.fy, 0.])
    assert _splat(image, z, T).mask.sum() == 1
    released = splat(image, z.nan_to_num(1e4), CAMERA.K, T[None], CAMERA.K, SIZE, release=True)
    assert released.mask.sum() > 1


def test_size_and_camera_of_the_target_may_differ():
    image, z = _scene()
    target = CAMERA.scaled(128, 96)
    rendered = _splat(image, torch.full_like(z, 2.), np.eye(4), size=(128, 96), camera=target)
    assert rendered.image.shape == (1, 3, 96, 128)
    # Twice the density of the source: no lattice of holes yet but at the border.
    assert rendered.mask[0, 0, 1:-1, 1:-1].mean() == 1


def test_shapes_that_do_not_fit_are_named():
    image, z = _scene(frames=2)
    with pytest.raises(ValueError, match=r'\(2, 3, 48, 64\), \(1, 48, 64\)'):
        splat(image, z[:1], CAMERA.K, np.tile(np.eye(4), (2, 1, 1)), CAMERA.K, SIZE)


def test_fusion_takes_the_first_view_unless_a_later_one_is_nearer():
    image, z = _scene()
    first = _splat(image, torch.full_like(z, 2.), np.eye(4))
    same = _splat(-image, torch.full_like(z, 1.99), np.eye(4))
    near = _splat(-image, torch.full_like(z, 1.5), np.eye(4))
    assert torch.equal(fuse([first, same]).image, first.image)
    assert torch.equal(fuse([first, near]).image, near.image)
    assert torch.equal(fuse([near, first]).image, near.image)
    partial = _splat(image, z, np.eye(4))
    both = fuse([partial, same])
    assert both.mask.min() == 1
    hole = partial.mask[:, 0] == 0
    assert torch.equal(both.image.movedim(1, -1)[hole], same.image.movedim(1, -1)[hole])


# --- against the truth -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize('twist', [[0.1, 0., 0.2, 0., 0.05, 0.], [-0.2, 0.03, 0., 0., 0.06, 0.02],
                                   [0., 0., 0.4, 0., 0., 0.]])
def test_room_rendered_from_elsewhere_is_the_room_seen_from_there(twist):
    camera, scene = PinholeCamera(130., 130., 103.5, 59.5, 208, 120), sample_room()
    T_a = make_pose(np.array([[0., 0., 1.], [-1., 0., 0.], [0., -1., 0.]]) @ se3_exp([0, 0, 0, 0, 2.9, 0])[:3, :3],
                    np.array([2.15, -1.45, 1.12]))
    T_b = T_a @ se3_exp(twist)
    source, truth = raycast(scene, camera, T_a, 0., 2), raycast(scene, camera, T_b, 0., 2)
    image = torch.from_numpy(source.image).movedim(-1, 0)[None] / 127.5 - 1
    psnr = {}
    for shift in (0., -0.5, 0.5):
        K = camera.K
        K[0, 2] += shift
        rendered = splat(image, torch.from_numpy(source.z_depth)[None], camera.K, (invert(T_b) @ T_a)[None], K,
                         (camera.width, camera.height))
        known = rendered.mask[0, 0].numpy() > 0
        error = (rendered.image[0].movedim(0, -1).numpy() + 1) * 127.5 - truth.image
        psnr[shift] = 10 * np.log10(255 ** 2 / np.mean(error[known] ** 2))
        if shift == 0:
            assert known.mean() > 0.8
            near = np.abs(rendered.z_depth[0].numpy()[known] / truth.z_depth[known] - 1) < 0.02
            assert near.mean() > 0.96
    assert psnr[0] > 25.
    # Pixel centres lie at integers throughout: half a pixel to either side is worse.
    assert max(psnr[-0.5], psnr[0.5]) < psnr[0] - 0.5
