# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Views of small training clips: cameras that stand side by side before a wall."""

import numpy as np
import torch

from inspatio_ros.spatial.positions import BlockViews, TokenViews
from inspatio_ros.training.data import TOKEN


def views_like(frames, references, height=32, width=48, step=0.05, z_depth=2.):
    """Give the views of a clip whose camera moves to the right, `step` metres a frame, looking at a wall."""
    K = torch.tensor([[width, 0., (width - 1) / 2], [0., width, (height - 1) / 2], [0., 0., 1.]], dtype=torch.float64)

    def views(count):
        T = torch.eye(4, dtype=torch.float64).repeat(1, count, 1, 1)
        T[0, :, 0, 3] = step * torch.from_numpy(np.arange(count))
        return TokenViews(T, torch.full((1, count, height // TOKEN, width // TOKEN), 1 / z_depth))

    return BlockViews(K[None], views(frames), views(references))
