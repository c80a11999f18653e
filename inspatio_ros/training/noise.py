# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Noise to train with, drawn where it is needed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

#: Seeds that a generator on the CPU hands on to one on a GPU.
_SEEDS = 2**62


def normal(shape: Sequence[int], generator: torch.Generator, device: torch.device) -> Tensor:
    """Draw standard normal float32 values on a device, settled by a generator on the CPU.

    On the CPU they are the generator's own. For a GPU the generator gives the seed of one there: a batch of roll-outs
    takes millions of values, which one core draws no faster than a GPU takes the step.
    """
    if device.type == 'cpu':
        return torch.randn(*shape, generator=generator)
    seed = int(torch.randint(_SEEDS, (1,), generator=generator))
    return torch.randn(*shape, generator=torch.Generator(device).manual_seed(seed), device=device)
