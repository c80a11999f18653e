# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Blocks of rays or points that lie together, and the solids that matter to each: a list of pairs, kind by kind.

A block is a row of a tensor. What no solid of the pair list can change is never computed, and every pair costs a row.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor


def by_kind(wanted: Tensor, shape: Tensor, most: int) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Go through the pairs of a table bool [blocks, N] as (kind, block [P], solid [P]), at most `most` pairs at once.

    `shape` [N], on the host, is the kind of each solid.
    """
    for kind in shape.unique().tolist():
        solids = torch.nonzero(shape == kind)[:, 0].to(wanted.device)
        block, which = torch.nonzero(wanted[:, solids], as_tuple=True)
        solid = solids[which]
        for start in range(0, len(block), most):
            yield kind, block[start:start + most], solid[start:start + most]


def columns(table: Tensor) -> tuple[Tensor, ...]:
    """Split [P, C] into C columns [P, 1], to be broadcast over the rows of pairs."""
    return tuple(table[:, i:i + 1] for i in range(table.shape[1]))


def bounds(points: tuple[Tensor, Tensor, Tensor], needed: Tensor) -> tuple[Tensor, Tensor]:
    """Give spheres about the needed points of blocks [blocks, P]: centre [blocks, 3], radius [blocks].

    The radius is negative where no point is needed.
    """
    low = torch.stack([torch.where(needed, part, torch.inf).amin(dim=1) for part in points], dim=-1)
    high = torch.stack([torch.where(needed, part, -torch.inf).amax(dim=1) for part in points], dim=-1)
    some = needed.any(dim=1)
    centre = torch.where(some[:, None], (low + high) / 2, 0.)
    radius = torch.where(some, (high - low).norm(dim=1) / 2, -1.)
    return centre, radius
