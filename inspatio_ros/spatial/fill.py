# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Fill the holes of a render; known pixels stay as they are, bit for bit.

`black` leaves -1, what the released weights expect. `nearest` repeats the colour of the nearest known pixel. `smooth`
interpolates over the hole by an image pyramid (pull-push): down, each pixel is the mean of what is known below it; up,
each level is completed from the coarser one. A frame of which nothing is known becomes mid grey (0), but for `black`.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from inspatio_ros.errors import ConfigurationError
from inspatio_ros.spatial.render import Condition, check_kernel

METHODS = ('black', 'nearest', 'smooth')


def fill(condition: Condition, method: str = 'smooth', kernel: str = 'auto') -> Tensor:
    """Give the image of a condition with its holes filled, float32 [F, 3, H, W] in [-1, 1], on the same device.

    `kernel` 'torch' or 'numba' (CPU only); 'auto' takes numba on the CPU. Raises ConfigurationError for an unknown
    method or kernel.
    """
    if method not in METHODS:
        raise ConfigurationError(f'fill {method!r} is unknown; choose one of {", ".join(METHODS)}')
    check_kernel(kernel, condition.image.device)
    if method == 'black':
        return condition.image
    if kernel == 'numba' or (kernel == 'auto' and condition.image.device.type == 'cpu'):
        from inspatio_ros.spatial import fill_kernel
        return getattr(fill_kernel, f'fill_{method}')(condition.image, condition.mask)
    return {'nearest': _fill_nearest, 'smooth': _fill_smooth}[method](condition.image, condition.mask)


def _fill_smooth(image: Tensor, mask: Tensor) -> Tensor:
    levels = [(image * mask, mask)]
    while max(levels[-1][1].shape[-2:]) > 1:
        colour, weight = levels[-1]
        pad = (0, weight.shape[-1] % 2, 0, weight.shape[-2] % 2)
        sums = functional.avg_pool2d(functional.pad(torch.cat([colour * weight, weight], dim=1), pad), 2) * 4
        total = sums[:, 3:]
        levels.append((torch.where(total > 0, sums[:, :3] / total, 0.), total.clamp(max=1.)))
    colour = levels[-1][0]
    for finer, weight in reversed(levels[:-1]):
        up = functional.interpolate(colour, scale_factor=2, mode='bilinear')[..., :finer.shape[-2], :finer.shape[-1]]
        colour = weight * finer + (1 - weight) * up
    return torch.where(mask > 0, image, colour)


def _fill_nearest(image: Tensor, mask: Tensor) -> Tensor:
    """Find the nearest known pixel by jump flooding: it is passed on in steps of halving length."""
    frames, _, height, width = image.shape
    rows = torch.arange(height, device=image.device)[:, None].expand(height, width)
    columns = torch.arange(width, device=image.device).expand(height, width)
    known = mask[:, 0] > 0
    # The nearest known pixel found so far, as (row, column); far away where there is none.
    far = 4 * (height + width)
    y, x = torch.where(known, rows, -far), torch.where(known, columns, -far)
    best = (y - rows) ** 2 + (x - columns) ** 2
    step = 1 << (max(height, width) - 1).bit_length()
    # A last round of steps 2 and 1 mends most of the few pixels that jump flooding gets wrong.
    steps = []
    while step := step // 2:
        steps.append(step)
    for step in [*steps, 2, 1]:
        for dy in (-step, 0, step):
            for dx in (-step, 0, step):
                r, c = (rows + dy).clamp(0, height - 1), (columns + dx).clamp(0, width - 1)
                y_new, x_new = y[:, r, c], x[:, r, c]
                distance = (y_new - rows) ** 2 + (x_new - columns) ** 2
                nearer = distance < best
                y, x, best = (torch.where(nearer, new, old) for new, old in ((y_new, y), (x_new, x), (distance, best)))
    index = (y.clamp(min=0) * width + x.clamp(min=0)).view(frames, 1, -1).expand(-1, 3, -1)
    filled = image.flatten(2).gather(2, index).view_as(image)
    return torch.where(known.flatten(1).any(1)[:, None, None, None], torch.where(mask > 0, image, filled), 0.)
