# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Filling holes: known pixels stay, nearest is nearest, smooth is smooth, and nothing known is no disaster."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_edt

from inspatio_ros.errors import ConfigurationError
from inspatio_ros.spatial.fill import METHODS, fill
from inspatio_ros.spatial.render import HOLE, Condition

KERNELS = ('torch', 'numba')


def _condition(height: int = 37, width: int = 53, seed: int = 0, known: float = 0.4, frames: int = 2) -> Condition:
    """Give frames of noise with about `known` of their pixels known, in patches."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(frames, 1, -(-height // 6), -(-width // 6), generator=generator)
    mask = (coarse.repeat_interleave(6, 2).repeat_interleave(6, 3)[..., :height, :width] < known).float()
    image = torch.rand(frames, 3, height, width, generator=generator) * 2 - 1
    z_depth = torch.where(mask[:, 0] > 0, 2., torch.nan)
    return Condition(torch.where(mask > 0, image, HOLE), mask, z_depth)


@pytest.mark.parametrize('kernel', KERNELS)
@pytest.mark.parametrize('method', METHODS)
@settings(max_examples=10, deadline=None)
@given(height=st.integers(1, 40), width=st.integers(1, 40), known=st.floats(0., 1.), seed=st.integers(0, 99))
def test_known_pixels_stay_and_no_pixel_is_nan(kernel, method, height, width, known, seed):
    condition = _condition(height, width, seed, known)
    before = condition.image.clone()
    filled = fill(condition, method, kernel)
    assert filled.shape == condition.image.shape
    assert torch.isfinite(filled).all()
    kept = (condition.mask > 0).expand_as(filled)
    assert torch.equal(filled[kept], before[kept])
    assert torch.equal(condition.image, before)


@pytest.mark.parametrize('kernel', KERNELS)
@pytest.mark.parametrize('method', ['nearest', 'smooth'])
def test_nothing_known_is_mid_grey(kernel, method):
    condition = _condition(known=0.)
    assert condition.mask.sum() == 0
    assert (fill(condition, method, kernel) == 0).all()


def test_black_leaves_holes_black():
    condition = _condition()
    assert torch.equal(fill(condition, 'black'), condition.image)


@settings(max_examples=20, deadline=None)
@given(height=st.integers(1, 40), width=st.integers(1, 40), known=st.floats(0.05, 0.9), seed=st.integers(0, 99))
def test_nearest_is_exactly_nearest(height, width, known, seed):
    condition = _condition(height, width, seed, known, frames=1)
    mask = condition.mask[0, 0].numpy() > 0
    if not mask.any():
        return
    # Every known pixel has its own colour, so the colour tells which pixel was taken.
    places = np.stack(np.meshgrid(np.arange(width), np.arange(height)))
    image = torch.from_numpy(np.concatenate([places, places[:1]])).float()[None]
    filled = fill(Condition(image, condition.mask, condition.z_depth), 'nearest', 'numba')[0].numpy()
    distance = np.hypot(filled[0] - places[0], filled[1] - places[1])
    assert np.allclose(distance, distance_transform_edt(~mask), atol=1e-5)
    assert mask[filled[1].astype(int), filled[0].astype(int)].all()


def test_nearest_in_torch_is_nearly_always_nearest():
    condition = _condition(61, 83, seed=3, known=0.1)
    exact, flooded = (fill(condition, 'nearest', kernel) for kernel in ('numba', 'torch'))
    # Two known pixels may be equally near; flooding also misses a few.
    assert ((exact - flooded).abs().amax(1) < 1e-6).float().mean() > 0.9


@settings(max_examples=20, deadline=None)
@given(height=st.integers(1, 50), width=st.integers(1, 50), known=st.floats(0., 1.), seed=st.integers(0, 99))
def test_smooth_kernel_equals_its_twin(height, width, known, seed):
    condition = _condition(height, width, seed, known)
    assert torch.allclose(fill(condition, 'smooth', 'numba'), fill(condition, 'smooth', 'torch'), atol=1e-5)


@pytest.mark.parametrize('kernel', KERNELS)
def test_smooth_of_a_ramp_is_near_the_ramp(kernel):
    ramp = torch.linspace(-0.9, 0.9, 64).expand(1, 3, 48, 64)
    mask = torch.ones(1, 1, 48, 64)
    mask[..., 16:32, 24:40] = 0
    condition = Condition(torch.where(mask > 0, ramp, HOLE), mask, mask[:, 0])
    error = {method: (fill(condition, method, kernel) - ramp).abs()[..., 16:32, 24:40].mean()
             for method in METHODS}
    assert error['smooth'] < 0.5 * error['nearest'] < error['black']
    assert error['smooth'] < 0.06


@pytest.mark.parametrize('method', ['nearest', 'smooth'])
def test_constant_colour_is_continued(method):
    mask = torch.zeros(1, 1, 48, 64)
    mask[..., 10, 12] = 1
    condition = Condition(torch.where(mask > 0, 0.3, HOLE).expand(1, 3, 48, 64).contiguous(), mask, mask[:, 0])
    assert torch.allclose(fill(condition, method), torch.tensor(0.3), atol=1e-6)


def test_unknown_method_lists_the_known():
    with pytest.raises(ConfigurationError, match='black, nearest, smooth'):
        fill(_condition(), 'inpaint')
