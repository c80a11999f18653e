# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Further holes in the render of clips, of shapes that come about when a camera turns or moves away.

Most of what a render lacks nobody recorded, and a network that is trained on that alone learns to guess. In a hole that
is cut into what the recording does show, the answer lies in the reference: there the network learns to look.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from inspatio_ros.spatial.fill import fill
from inspatio_ros.training.data import Clips, unit
from inspatio_ros.training.refill import STORED_FILL, as_condition

#: Widest strip along a side, and largest radius of a patch, as shares of the picture.
_STRIP, _RADIUS = 0.7, 0.35


def punch(clips: Clips, share: float, generator: torch.Generator) -> Clips:
    """Cut holes into a share of the clips, and fill them as the render's own are filled."""
    chosen = torch.rand(len(clips), generator=generator) < share
    if not bool(chosen.any()):
        return clips
    filled, masks = clips.filled.clone(), clips.mask.clone()
    for index in torch.nonzero(chosen)[:, 0].tolist():
        known = clips.mask[index].float()
        known = known * (1 - _holes(known.shape[0], *known.shape[-2:], generator).to(known))
        condition = as_condition(unit(clips.filled[index]), known)
        filled[index] = ((fill(condition, STORED_FILL) + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
        masks[index] = known.to(torch.uint8)
    return replace(clips, filled=filled, mask=masks)


def _holes(frames: int, height: int, width: int, generator: torch.Generator) -> Tensor:
    """Draw holes bool [F, 1, H, W]: a strip along a side that grows or shrinks, patches that drift, or both."""
    y, x = torch.arange(height)[:, None] / height, torch.arange(width)[None] / width
    time = torch.linspace(0, 1, frames)[:, None, None]

    def draw(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand((), generator=generator)

    kind = float(draw(0, 1))
    holes = torch.zeros(frames, height, width, dtype=torch.bool)
    if kind < 0.7:
        # Three of four on the left or the right: cameras turn about the vertical more than about anything else.
        side = float(draw(0, 1))
        along = (x if side < 0.75 else y).expand(height, width)
        along = 1 - along if float(draw(0, 1)) < 0.5 else along
        first, last = draw(0, _STRIP), draw(0, _STRIP)
        holes |= along < first + (last - first) * time
    if kind > 0.5:
        for _ in range(1 + int(draw(0, 3))):
            drift, radius = (draw(-0.3, 0.3), draw(-0.3, 0.3)), draw(0.08, _RADIUS)
            cy, cx = draw(0, 1) + drift[0] * time, draw(0, 1) + drift[1] * time
            holes |= (y - cy) ** 2 * float(draw(0.3, 3.)) + (x - cx) ** 2 < radius**2
    return holes[:, None]
