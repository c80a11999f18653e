# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The GPU's splat equals its twin in torch; without a GPU triton's interpreter runs the same kernels, slowly."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch

from inspatio_ros.spatial.render import HOLE, splat
from inspatio_ros.spatial.splat_triton import AVAILABLE, runs_on

pytestmark = pytest.mark.skipif(not AVAILABLE, reason='triton is not installed')
DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'


@pytest.fixture(autouse=True, scope='module')
def interpreter():
    """Let triton interpret its kernels where there is no GPU; it looks when they are imported."""
    if DEVICE == 'cpu':
        os.environ['TRITON_INTERPRET'] = '1'
    yield
    os.environ.pop('TRITON_INTERPRET', None)


def test_equals_its_twin():
    generator = torch.Generator().manual_seed(0)
    frames, height, width, size = 2, 20, 26, (24, 18)
    image = torch.rand(frames, 3, height, width, generator=generator) * 2 - 1
    # Two walls, one before the other, and pixels without depth.
    z_depth = torch.where(torch.rand(frames, height, width, generator=generator) > 0.5, 1., 2.)
    z_depth[torch.rand(frames, height, width, generator=generator) > 0.8] = float('nan')
    z_depth[:, 0] = 0.
    K = np.array([[20., 0., 12.3], [0., 20., 9.1], [0., 0., 1.]])
    T = np.tile(np.eye(4), (frames, 1, 1))
    T[0, :3, 3], T[1, :3, 3] = (0.11, -0.07, 0.2), (-0.3, 0.05, -1.4)
    given = [x.to(DEVICE) for x in (image, z_depth)]
    found = splat(*given, K, T, K, size, kernel='triton')
    expected = splat(*given, K, T, K, size, kernel='torch')
    assert torch.equal(found.mask, expected.mask) and 0.2 < float(found.mask.mean()) < 1.
    torch.testing.assert_close(found.image, expected.image, rtol=0, atol=1e-4)
    torch.testing.assert_close(found.z_depth, expected.z_depth, rtol=0, atol=1e-5, equal_nan=True)
    assert (found.image[found.mask.expand_as(found.image) == 0] == HOLE).all()


def test_is_found_to_run():
    runs_on.cache_clear()
    assert runs_on(torch.device(DEVICE))
