# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Fill the holes of stored renders anew: clips keep one fill, a generator may run with another."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from inspatio_ros.spatial.fill import fill
from inspatio_ros.spatial.render import HOLE, Condition

#: How the holes of the renders that clips keep are filled.
STORED_FILL = 'smooth'


def as_condition(render: Tensor, mask: Tensor) -> Condition:
    """Give a render [F, 3, H, W] in [0, 1] under a mask [F, 1, H, W] as it was before its holes were filled."""
    image = torch.where(mask > 0, render * 2 - 1, HOLE)
    return Condition(image, mask, torch.full_like(image[:, 0], math.nan))


def refilled(render: Tensor, mask: Tensor, method: str) -> Tensor:
    """Fill the holes of renders [..., 3, H, W] in [0, 1] by a method of spatial/fill.py; known pixels stay as they are.

    `mask` [..., 1, H, W] is 1 where known. What is filled are whole pictures: what `nearest` takes may lie far off.
    """
    frames, known = render.flatten(0, -4), mask.flatten(0, -4)
    filled = (fill(as_condition(frames, known), method) + 1) / 2
    return torch.where(mask > 0, render, filled.view_as(render))
