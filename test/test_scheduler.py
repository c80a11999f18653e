# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The schedule and the mask packing equal the released ones where asked, and are right where those are not."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from inspatio_ros.config import SchedulerConfig
from inspatio_ros.star.condition import pack_mask
from inspatio_ros.star.scheduler import FlowScheduler, clean, mix
from inspatio_ros.verify import verify_file


@pytest.mark.parametrize('name', ['scheduler', 'mask_latent'])
def test_equals_the_released_code(shared, name):
    result = verify_file(shared / 'golden' / f'{name}.safetensors')
    assert [item for item in result.items if not item.passed] == []
    assert len(result.items) == {'scheduler': 14, 'mask_latent': 5}[name]


def test_denoising_steps_are_the_published_ones():
    scheduler = FlowScheduler()
    torch.testing.assert_close(scheduler.denoising_timesteps, torch.tensor([1000., 937.5, 2500 / 3, 625.]))
    torch.testing.assert_close(scheduler.denoising_sigmas, torch.tensor([1., 0.9375, 5 / 6, 0.625]))


def test_timestep_zero_is_clean_unless_the_release_is_asked_for():
    timestep = torch.tensor([0., 1., 5.])
    assert torch.equal(FlowScheduler().sigma(timestep), timestep / 1000)
    # 0.005 is the last entry of the released grid, and what everything below it becomes there.
    torch.testing.assert_close(FlowScheduler(release_nearest_sigma=True).sigma(timestep),
                               torch.full((3,), 0.005), rtol=1e-2, atol=0)


def test_both_look_ups_agree_on_the_grid():
    exact, nearest = FlowScheduler(), FlowScheduler(release_nearest_sigma=True)
    torch.testing.assert_close(exact.sigma(exact.timesteps), nearest.sigma(exact.timesteps), rtol=1e-6, atol=0)


def test_one_row_at_the_end_does_not_end_the_others_steps():
    flow, x_t, timestep = torch.ones(2, 3), torch.zeros(2, 3), torch.tensor([937.5, 5.])
    ours = FlowScheduler().step(flow, timestep, x_t)
    released = FlowScheduler(release_whole_batch_step=True).step(flow, timestep, x_t)
    assert -0.01 < float(ours[0, 0]) < 0
    assert float(released[0, 0]) == pytest.approx(-0.9375)
    assert torch.equal(ours[1], released[1])


def test_training_weights_have_mean_one_and_their_top_in_the_middle():
    scheduler = FlowScheduler()
    weights = scheduler.training_weights()
    assert float(weights.mean()) == pytest.approx(1., abs=1e-5)
    assert float(scheduler.timesteps[weights.argmax()]) == pytest.approx(500., abs=1.)
    assert float(weights.min()) == 0.


@given(shift=st.floats(1., 12.), steps=st.lists(st.integers(1, 1000), min_size=1, max_size=6, unique=True))
def test_sigmas_fall_from_one_and_stay_above_zero(shift, steps):
    steps = tuple(sorted(steps, reverse=True))
    scheduler = FlowScheduler(SchedulerConfig(shift=shift, denoising_steps=steps))
    assert float(scheduler.sigmas[0]) == pytest.approx(1., abs=1e-6)
    assert bool((scheduler.sigmas.diff() < 0).all())
    assert float(scheduler.sigmas[-1]) > 0
    assert bool((scheduler.denoising_sigmas.diff() < 0).all())


@given(sigma=st.floats(0.01, 1.), seed=st.integers(0, 1000))
def test_noise_then_velocity_leads_back(sigma, seed):
    x0, noise = torch.randn(2, 1, 4, 5, generator=torch.Generator().manual_seed(seed))
    sigma = torch.tensor([sigma])
    x_t = mix(x0, noise, sigma)
    torch.testing.assert_close(clean(x_t, noise - x0, sigma), x0, rtol=0, atol=1e-5)
    scheduler = FlowScheduler()
    torch.testing.assert_close(scheduler.x0_to_flow(x0, x_t, sigma * 1000), noise - x0, rtol=0,
                               atol=1e-5 / float(sigma))


def test_low_precision_is_rounded_once():
    x_t, flow = torch.randn(2, 3, 50, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    sigma = torch.tensor([0.9375, 0.625, 0.005])
    expected = (x_t.double() - sigma.double()[:, None] * flow.double()).to(torch.bfloat16)
    assert torch.equal(clean(x_t, flow, sigma), expected)


# --- mask packing ----------------------------------------------------------------------------------------------------


def test_packed_masks_stream():
    """The first block packs 1 + 4 + 4 frames, later blocks 4 + 4 + 4: together, the whole clip."""
    mask = torch.rand(2, 33, 1, 16, 24, generator=torch.Generator().manual_seed(0)) * 2 - 1
    whole = pack_mask(mask, first=True)
    blocks = [pack_mask(mask[:, :9], first=True), pack_mask(mask[:, 9:21], first=False),
              pack_mask(mask[:, 21:], first=False)]
    assert whole.shape == (2, 9, 4, 2, 3)
    assert torch.equal(torch.cat(blocks, dim=1), whole)


def test_other_factors_than_the_released_ones():
    mask = torch.ones(1, 3, 1, 8, 12)
    packed = pack_mask(mask, first=True, spatial_factor=4, temporal_factor=2)
    assert packed.shape == (1, 2, 2, 2, 3)
    assert bool((packed == 1).all())


def test_a_mask_of_another_shape_is_named():
    with pytest.raises(ValueError, match=r'\[B, T, 1, H, W\], got \(1, 3, 3, 8, 8\)'):
        pack_mask(torch.zeros(1, 3, 3, 8, 8), first=True)
