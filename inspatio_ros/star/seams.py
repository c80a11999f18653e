# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Even out the seams between tokens in made-up regions.

The transformer's last layer gives each token's cells without looking at its neighbours'. Where a picture is known,
the render's latents join them; where nothing is, neighbours guess apart, and squares of a token's size are seen.
"""

from __future__ import annotations

from torch import Tensor


def smooth_seams(latent: Tensor, mask: Tensor, patch: tuple[int, int], share: float) -> Tensor:
    """Move the two cells beside a seam towards each other, as far as they are made up.

    Args:
        latent: [B, F, C, h, w].
        mask: packed as the transformer sees it, [B, F, M, h, w], 1 known and -1 hole.
        patch: rows and columns of cells of a token.
        share: of the step across a seam that each of its two cells takes over: 0 leaves it, 0.5 removes it.

    Returns:
        [B, F, C, h, w].

    """
    if not share:
        return latent
    made_up = ((1 - mask) / 2).clamp(0, 1).mean(dim=2, keepdim=True).to(latent.dtype)
    smooth = latent
    for dim, size in zip((-2, -1), patch, strict=True):
        smooth = _across(smooth.transpose(dim, -1), size, share).transpose(dim, -1)
    return latent + made_up * (smooth - latent)


def _across(latent: Tensor, size: int, share: float) -> Tensor:
    """Even out the seams along the last axis, one behind every `size` cells."""
    smooth = latent.clone()
    before, behind = latent[..., size - 1:-1:size], latent[..., size::size]
    step = share * (behind - before)
    smooth[..., size - 1:-1:size] += step
    smooth[..., size::size] -= step
    return smooth
