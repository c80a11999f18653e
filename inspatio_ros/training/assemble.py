# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Make a training clip of a recording and true views of the same place, rendering it as the simulator does."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from inspatio_ros.geometry import PinholeCamera
from inspatio_ros.reference.base import Reference
from inspatio_ros.spatial.constraint import SpatialConstraint
from inspatio_ros.spatial.fill import fill
from inspatio_ros.spatial.positions import BlockViews, TokenViews
from inspatio_ros.training.data import STILLS, TOKEN, Clips
from inspatio_ros.training.refill import STORED_FILL


def assemble_clip(recording: Reference, camera: PinholeCamera, T_world_camera: np.ndarray, truth: Tensor,
                  blocks: Sequence[int], max_views: int = 4, device: str = 'cpu', kernel: str = 'auto') -> Clips:
    """Render a recording block by block from poses [T, 4, 4], whose true images uint8 [1, T, 3, H, W] are known.

    A moving recording has a frame for each pose, at its time. `blocks` are the frames of each block; `max_views`,
    `device` and `kernel` as in SpatialConstraint.
    """
    constraint = SpatialConstraint(recording, camera, device, max_views, kernel)
    filled, masks, references, views = [], [], [], []
    for part in np.split(np.arange(len(T_world_camera)), np.cumsum(blocks)[:-1]):
        poses, times = T_world_camera[part], None if recording.is_static else recording.times[part]
        condition = constraint.render(poses, times)
        indices = constraint.reference_frames(poses, times, STILLS)
        filled.append(fill(condition, STORED_FILL, kernel))
        masks.append(condition.mask)
        references.append(constraint.reference_images(indices))
        views.append(constraint.block_views(condition, poses, indices, TOKEN))
    return Clips(truth, to_bytes(filled), torch.cat(masks)[None].to(torch.uint8), to_bytes(references),
                 recording.is_static, _joined(views))


def to_bytes(images: list[Tensor]) -> Tensor:
    """Turn images [-1, 1] [F, 3, H, W] of several blocks into uint8 [1, T, 3, H, W]."""
    return ((torch.cat(images)[None] + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def _joined(views: list[BlockViews]) -> BlockViews:
    def join(parts: list[TokenViews]) -> TokenViews:
        return TokenViews(torch.cat([part.T_world_camera for part in parts], dim=1),
                          torch.cat([part.inverse_depth for part in parts], dim=1))

    return BlockViews(views[0].K, join([view.block for view in views]), join([view.reference for view in views]))
