# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""How well two samples of one clip stand for all that could be there: the energy score, as a loss.

Squared errors are least at the mean of all that could be there, so a network that is trained by nothing else makes
nothing of its noise. The energy score E|X - y| - E|X - X'| / 2 (Gneiting, Raftery 2007, section 4.3) is least where
samples X are distributed as the truth y is. It is taken token by token, over all latent frames of a block at once, so
that a token's noise is judged with the course that it takes in time.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

#: Keeps the gradient of a root finite.
_LEAST = 1e-6


def energy_score(samples: tuple[Tensor, Tensor], truth: Tensor, mask: Tensor, weights: Tensor,
                 patch: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Score two samples of a block where it is made up.

    Args:
        samples: two of them, made of different noise, [B, F, C, h, w] each.
        truth: [B, F, C, h, w].
        mask: packed as the transformer sees it, [B, F, M, h, w], 1 known and -1 hole.
        weights: of channels, [C].
        patch: rows and columns of cells of a token.

    Returns:
        The score [B], a mean over all tokens to which known ones add nothing; and the samples' spread, as a share of
        what they would have if they were as different from each other as from the truth.

    """
    made_up = F.avg_pool2d(((1 - mask.float()) / 2).clamp(0, 1).mean(dim=(1, 2))[:, None], patch)[:, 0]
    first, second, apart = (_length(difference, weights, patch) for difference in (
        samples[0] - truth, samples[1] - truth, samples[0] - samples[1]))
    away = (first + second) / 2
    score = (made_up * (away - apart / 2)).mean(dim=(1, 2))
    with torch.no_grad():
        spread = (made_up * apart).sum() / (made_up * away).sum().clamp_min(_LEAST)
    return score, spread


def _length(difference: Tensor, weights: Tensor, patch: tuple[int, int]) -> Tensor:
    """Give the root mean square of each token over all latent frames, [B, h', w']."""
    square = (difference.float().square() * weights[:, None, None]).mean(dim=(1, 2))
    return (F.avg_pool2d(square[:, None], patch)[:, 0] + _LEAST).sqrt()
