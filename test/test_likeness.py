# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Made-up patches are pulled to where optimal transport to true ones takes them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_training import LOSS, TINY, make_clip

from inspatio_ros.errors import ConfigurationError
from inspatio_ros.evaluation.frechet import GaussianFit, frechet_distance
from inspatio_ros.training import likeness
from inspatio_ros.training.data import ClipFolder, save_clip
from inspatio_ros.training.decoding import FinishStage
from inspatio_ros.training.likeness import Moments, PatchLikeness, transport
from inspatio_ros.training.networks import Networks


def gaussian(count, seed, scale=1., shift=0.):
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(6, 6, generator=torch.Generator().manual_seed(9))
    return scale * torch.randn(count, 6, generator=generator).double() @ mixing.double() + shift


def moments(vectors):
    found = Moments()
    found.add(vectors)
    return found


def distance(a, b):
    fits = GaussianFit(), GaussianFit()
    for fit, vectors in zip(fits, (a, b), strict=True):
        fit.add(vectors.detach().numpy())
    return frechet_distance(*fits)


@pytest.fixture
def exact(monkeypatch):
    monkeypatch.setattr(likeness, '_LEAST_VARIANCE', 0.)


@pytest.mark.usefixtures('exact')
def test_transport_gives_vectors_the_other_mean_and_covariance():
    made, true = gaussian(500, 0, 0.5), gaussian(400, 1, 2., 3.)
    moved = transport(made, moments(made), moments(true))
    for found, wanted in zip(moments(moved).get(), moments(true).get(), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-6)
    assert distance(moved, true) < 1e-3 * distance(made, true)


@pytest.mark.usefixtures('exact')
def test_the_way_to_go_is_half_the_gradient_of_the_squared_frechet_distance():
    made, true = gaussian(300, 0, 0.6, 1.), gaussian(300, 1)
    way = made - transport(made, moments(made), moments(true))
    direction = torch.randn(made.shape, generator=torch.Generator().manual_seed(3)).double()
    step = 1e-4
    slope = (distance(made + step * direction, true) - distance(made - step * direction, true)) / (2 * step)
    # The fit divides by N - 1 where the moments divide by N.
    assert slope == pytest.approx(float(2 * (way * direction).sum() / len(made)), rel=2e-2)


def test_moments_forget_old_batches():
    found = Moments()
    found.add(gaussian(100, 0, shift=50.))
    for seed in range(200):
        found.add(gaussian(100, seed))
    mean, covariance = found.get()
    wanted = torch.from_numpy(np.cov(gaussian(20000, 1).numpy().T))
    assert float(mean.abs().max()) < 1. and torch.allclose(covariance.diag(), wanted.diag(), rtol=0.2)


def test_pale_patches_are_given_contrast_in_holes_alone():
    networks = Networks(TINY)
    generator = torch.Generator().manual_seed(0)
    found = PatchLikeness(networks.autoencoder, networks.config.size_multiple)
    truth = torch.rand(2, 9, 3, 32, 48, generator=generator)
    pale = (0.5 + 0.5 * (truth - 0.5)).requires_grad_(True)
    mask = torch.ones(2, 9, 1, 32, 48)
    mask[..., 20:] = 0
    for _ in range(20):
        found.measure(pale, truth, mask, generator)
    total = sum(found(pale, truth, mask, generator) for _ in range(len(likeness.OFFSETS) * 2))
    total.backward()
    assert float(total.detach()) > 1e-3 and not pale.grad[..., :20].any()
    # A step against the gradient moves pixels away from grey, as those of the truth are.
    assert float((pale.grad * (truth - 0.5))[..., 20:].sum()) < 0
    same = PatchLikeness(networks.autoencoder, networks.config.size_multiple)
    assert float(same(truth, truth, mask, generator).detach()) < 1e-6 * float(total.detach())


def test_without_a_hole_there_is_nothing_to_pull():
    networks = Networks(TINY)
    found = PatchLikeness(networks.autoencoder, networks.config.size_multiple)
    image = torch.rand(1, 9, 3, 32, 48, requires_grad=True)
    loss = found(image, torch.rand(1, 9, 3, 32, 48), torch.ones(1, 9, 1, 32, 48), torch.Generator())
    loss.backward()
    assert float(loss.detach()) == 0 and not image.grad.any()


def test_the_last_stage_of_the_decoder_takes_it_up(tmp_path):
    save_clip(tmp_path / 'clip_0000000.safetensors', make_clip(0), {})
    clips, generator = ClipFolder(tmp_path), torch.Generator().manual_seed(0)
    config = replace(LOSS, rolled_out=1, own_latents=1., crop=(32, 48))
    plain = FinishStage(Networks(TINY), clips, clips, config).loss(1, torch.Generator().manual_seed(0))
    loss, figures = FinishStage(Networks(TINY), clips, clips, replace(config, likeness=4.)).loss(1, generator)
    assert figures['unlike'] > 0
    assert float(loss.detach()) == pytest.approx(float(plain[0].detach()) + 4 * figures['unlike'], rel=1e-5)
    # Windows of true latents count as well, unless they are left out.
    for left_out, counts in ((False, True), (True, False)):
        true = replace(config, likeness=4., own_latents=0., likeness_of_own=left_out)
        figures = FinishStage(Networks(TINY), clips, clips, true).loss(1, torch.Generator().manual_seed(0))[1]
        assert (figures['unlike'] > 0) == counts
    with pytest.raises(ConfigurationError, match='28 pixels'):
        FinishStage(Networks(TINY), clips, clips, replace(config, likeness=4., crop=(16, 48)))
