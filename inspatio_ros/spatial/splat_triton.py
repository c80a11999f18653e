# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The forward splat of `render.py` on a GPU in three kernels, each one pass over the pixels; its twin is in torch.

1. `lower_nearest`: project each source pixel and lower the depth of the (up to) four pixels it falls on;
2. `add`: project again (cheaper than to store it), and add colour, depth and weight where it is not hidden;
3. `resolve`: divide by the weight, or write a hole.

Sums are atomic, so their order, and the last bit of a colour, changes from run to run, as it does in torch's scatter.
On an H100 it took a hundredth of its twin's time (docs/performance.md).
"""

from __future__ import annotations

import importlib.util
import logging
from contextlib import nullcontext
from functools import cache

import numpy as np
import torch
from torch import Tensor

from inspatio_ros.spatial.render import (
    DEPTH_POWER,
    DEPTH_TOLERANCE,
    HOLE,
    MIN_SHARE,
    Condition,
    pixel_motion,
)

log = logging.getLogger(__name__)

AVAILABLE = importlib.util.find_spec('triton') is not None

#: Pixels a program.
_BLOCK = 256
#: Sums a target pixel: red, green, blue, depth, weight.
_SUMS = 5
#: The kernel raises to DEPTH_POWER, a power of two, by squaring.
_SQUARINGS = DEPTH_POWER.bit_length() - 1


@cache
def runs_on(device: torch.device) -> bool:
    """Say whether the kernels run on a GPU: tried once, on one pixel. Why they do not is said once, too."""
    if not AVAILABLE:
        log.warning('Triton is not installed, so views are splatted by torch, which takes many times as long; '
                    'install triton')
        return False
    image = torch.zeros(1, 3, 1, 1, device=device)
    try:
        splat_triton(image, torch.ones(1, 1, 1, device=device), np.eye(3), np.eye(4)[None], np.eye(3), (1, 1))
    # Whatever it is (no compiler, a GPU that Triton does not know): torch does the same, slowly.
    except Exception as error:
        log.warning('Triton cannot compile for %s (%s: %s), so views are splatted by torch, which takes many times as '
                    'long', device, type(error).__name__, error)
        return False
    return True


def splat_triton(image: Tensor, z_depth: Tensor, K_source: np.ndarray, T_target_source: np.ndarray,
                 K_target: np.ndarray, size: tuple[int, int]) -> Condition:
    """Splat source frames into target cameras; arguments and result as in `render.splat`, on a GPU, float32."""
    from inspatio_ros.spatial import splat_triton_kernel as kernel
    frames, (width, height) = len(image), size
    device, count, cells = image.device, z_depth[0].numel(), width * height
    image, z_depth = image.contiguous(), z_depth.contiguous()
    A, b = pixel_motion(K_source, np.asarray(T_target_source), K_target)
    motion = torch.from_numpy(np.concatenate([A, b[..., None]], axis=-1).astype(np.float32).reshape(frames, 12))
    if device.type == 'cuda':
        # Pinned, so that the host does not wait for the GPU to be ready for it.
        motion = motion.pin_memory().to(device, non_blocking=True)
    nearest = torch.full((frames, cells), torch.inf, device=device)
    sums = torch.zeros(frames, cells, _SUMS, device=device)
    out = Condition(torch.empty(frames, 3, height, width, device=device),
                    torch.empty(frames, 1, height, width, device=device),
                    torch.empty(frames, height, width, device=device))
    source, target = (-(-count // _BLOCK), frames), (-(-cells // _BLOCK), frames)
    shape = count, z_depth.shape[2], width, height, MIN_SHARE
    # On the CPU for triton's interpreter alone, by which the tests run these kernels where there is no GPU.
    with torch.cuda.device(device) if device.type == 'cuda' else nullcontext():
        kernel.lower_nearest[source](z_depth, motion, nearest, *shape, BLOCK=_BLOCK)
        kernel.add[source](image, z_depth, motion, nearest, sums, *shape, 1 + DEPTH_TOLERANCE, SQUARINGS=_SQUARINGS,
                           SUMS=_SUMS, BLOCK=_BLOCK)
        kernel.resolve[target](sums, out.image, out.mask, out.z_depth, cells, HOLE, SUMS=_SUMS, BLOCK=_BLOCK)
    return out
