# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Noise that lies on the scene: what made-up detail is shaped from, so that it moves as the scene does.

Noise that is drawn anew for each frame flickers, noise that stays where it is in the picture looks like dirt on the
lens. Here each direction from an anchor, a place that the camera was at, has its own noise, and a pixel takes that of
the direction in which the anchor sees its point. Depth in holes is a guess; near the anchor it hardly matters. A
camera that has moved away gets a new anchor, and the one noise is faded into the other.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from inspatio_ros.spatial.positions import TokenViews

#: Pixels from one independent value to the next: much less would flicker where the camera moves by parts of a pixel.
SPACING = 1.5
#: How far a camera may be from its anchor, as a share of the scene's depth.
REACH = 0.3
#: Frames over which the noise of one anchor is faded into that of the next.
FADE_FRAMES = 12
#: Odd multipliers that mix the three coordinates of a cell, its anchor's number, and then their bits.
_MIX, _ANCHOR, _SCATTER = (73856093, 19349663, 83492791), 39916801, 1274126177
_BITS = 0x7fffffff


class _Anchor(NamedTuple):
    """The number that an anchor's noise is drawn from, the weight of that noise, and the anchor's place float64 [3]."""

    number: Tensor
    weight: Tensor
    place: Tensor

    def weighing(self, weight: float) -> _Anchor:
        """Give the same anchor with another weight."""
        return self._replace(weight=torch.tensor(weight))


class GrainField:
    """Noise on the scene as one moving camera sees it, frame by frame; the same seed and path give the same noise.

    Args:
        seed: another seed, other noise.

    """

    def __init__(self, seed: int = 0) -> None:
        self._count = seed * 1000003
        self.forget()

    def forget(self) -> None:
        """Take another anchor with the next frame, and fade nothing into it."""
        self._anchor: _Anchor | None = None
        self._before: _Anchor | None = None
        self._faded = 0

    def look(self, K: Tensor, views: TokenViews, mask: Tensor) -> Tensor:
        """Give the noise of the next frames: float32 [1, T, 1, H, W] of variance 1 in holes, 0 where pixels are known.

        Args:
            K: float64 [1, 3, 3], of all frames.
            views: where the T frames are seen from, [1, T, ...].
            mask: [1, T, 1, H, W], above 0 where known.

        """
        height, width = mask.shape[-2:]
        frame, row, column = torch.nonzero(mask[0, :, 0] <= 0, as_tuple=True)
        inverse_depth = F.interpolate(views.inverse_depth[0, :, None], (height, width), mode='bilinear',
                                      align_corners=False)[frame, 0, row, column].double()
        pixels = torch.stack([column.double(), row.double(), torch.ones_like(row).double()], dim=-1)
        rays = pixels @ torch.linalg.inv(K[0]).T.to(pixels)
        T = views.T_world_camera[0].to(rays)
        turned, position = torch.einsum('nij,nj->ni', T[frame, :3, :3], rays), T[frame, :3, 3]
        values = torch.zeros(len(frame), device=mask.device)
        for anchors in self._follow(views):
            number, weight, place = (torch.stack(part).to(mask.device)[frame] for part in zip(*anchors, strict=True))
            # The point as the anchor sees it, divided by its depth: finite at infinity too.
            seen = F.normalize(turned + (position - place) * inverse_depth[:, None], dim=-1)
            values += weight * _noise(seen * (K[0, 0, 0] / SPACING), number)
        out = torch.zeros_like(mask, dtype=torch.float32)
        out[0, frame, 0, row, column] = values
        return out

    def _follow(self, views: TokenViews) -> list[list[_Anchor]]:
        """Move on by the frames of views: give one anchor a frame, or two of them where one of the frames has two."""
        positions, nearness = views.T_world_camera[0, :, :3, 3].cpu(), views.inverse_depth[0].mean(dim=(1, 2)).cpu()
        frames = [self._anchors(*frame) for frame in zip(positions, nearness, strict=True)]
        return [[anchors[i] if i < len(anchors) else anchors[0].weighing(0.) for anchors in frames]
                for i in range(max(map(len, frames), default=0))]

    def _anchors(self, position: Tensor, nearness: Tensor) -> list[_Anchor]:
        """Move on by one frame: give the anchors of a camera there; the squares of their weights add up to 1."""
        if self._anchor is None:
            self._anchor = self._next(position)
        elif self._before is None and (position - self._anchor.place).norm() * nearness > REACH:
            self._before, self._anchor, self._faded = self._anchor, self._next(position), 0
        if self._before is None:
            return [self._anchor]
        self._faded += 1
        angle = self._faded / FADE_FRAMES * math.pi / 2
        before = self._before
        if self._faded == FADE_FRAMES:
            self._before = None
        return [before.weighing(math.cos(angle)), self._anchor.weighing(math.sin(angle))]

    def _next(self, position: Tensor) -> _Anchor:
        self._count += 1
        return _Anchor(torch.tensor(self._count), torch.tensor(1.), position.clone())


def _noise(place: Tensor, number: Tensor) -> Tensor:
    """Give smooth noise float32 [N] of variance 1 at places [N, 3], from a lattice of independent values a number."""
    base = place.floor()
    part = (place - base).float()
    cell = base.long()
    total, square = torch.zeros(2, len(place), device=place.device)
    for corner in range(8):
        offset = [corner >> axis & 1 for axis in range(3)]
        weight = torch.ones_like(total)
        mixed = number * _ANCHOR
        for axis, step in enumerate(offset):
            weight = weight * (part[:, axis] if step else 1 - part[:, axis])
            mixed = mixed ^ (cell[:, axis] + step) * _MIX[axis]
        total += weight * _uniform(mixed)
        square += weight.square()
    return total / square.sqrt()


def _uniform(number: Tensor) -> Tensor:
    """Turn numbers int64 into float32 from -sqrt(3) to sqrt(3), of variance 1, independent of each other."""
    for _ in range(2):
        number = number & _BITS
        number = (number ^ number >> 15) * _SCATTER
    return ((number & _BITS).double() / _BITS * 2 - 1).float() * math.sqrt(3)
