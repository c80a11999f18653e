# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The spatial constraint at the transformer's resolution."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def pack_mask(mask: Tensor, first: bool, spatial_factor: int = 8, temporal_factor: int = 4) -> Tensor:
    """Pack a mask's frames into channels of latent frames, grouped as the autoencoder groups frames (1 + 4 + 4 ...).

    Args:
        mask: float [B, T, 1, H, W], 1 known and -1 hole.
        first: whether the clip starts here, so that its first latent stands for its first frame alone, repeated.
        spatial_factor: pixels per latent cell along one axis.
        temporal_factor: frames per latent frame, which become channels. Frames that fill no group are dropped.

    Returns:
        float [B, T', temporal_factor, H // spatial_factor, W // spatial_factor], by bilinear interpolation.

    """
    if mask.ndim != 5 or mask.shape[2] != 1:
        raise ValueError(f'the mask must be [B, T, 1, H, W], got {tuple(mask.shape)}')
    batch, frames, _, height, width = mask.shape
    size = (height // spatial_factor, width // spatial_factor)
    small = F.interpolate(mask.flatten(0, 1), size, mode='bilinear', align_corners=False).view(batch, frames, *size)
    if first:
        small = torch.cat([small[:, :1].expand(-1, temporal_factor - 1, -1, -1), small], dim=1)
    whole = small.shape[1] // temporal_factor * temporal_factor
    return small[:, :whole].unflatten(1, (-1, temporal_factor))
