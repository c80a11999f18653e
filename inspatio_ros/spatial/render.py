# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Forward splatting: image, depth and poses of a source camera -> image, mask and depth of a target camera.

Each source pixel of known depth is lifted to 3D, moved into the target camera, and shared out bilinearly among the
four pixels around its projection. The released code weights a share by `bilinear / exp(50 ln(1 + z) / M)`, M being
the largest ln(1 + z) of the whole clip. Here the same weight is taken relative to the nearest surface of the pixel,
`bilinear * (z_near / z) ** DEPTH_POWER`, which is that formula with a constant M and without the 1 +:

- M = 50 / DEPTH_POWER = 3.1 (a clip that reaches to 22 m), so a frame looks the same whatever else is in its clip;
- ln z instead of ln(1 + z), so it looks the same in whatever unit the recording measures depth;
- relative to the nearest surface, so that float32 suffices (exp(50) does not fit beside 1);
- a surface more than DEPTH_TOLERANCE behind the nearest one is hidden, and contributes nothing;
- a share below MIN_SHARE of a source pixel is no evidence: it neither makes a pixel known nor hides what lies behind.

The released behaviour, faults included, is `release=True`. The torch code below runs on any device, and is the slow
twin of the kernels in `splat_cpu.py` (CPU) and `splat_triton.py` (GPU).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from inspatio_ros.errors import ConfigurationError

#: Exponent of the depth weight; 50 / 16 = 3.1 is the constant M of the released weight.
DEPTH_POWER = 16
#: Relative depth beyond the nearest surface of a pixel at which another surface counts as hidden behind it.
DEPTH_TOLERANCE = 0.05
#: Relative depth by which another view must be nearer to replace what a better view shows.
FUSE_TOLERANCE = 0.05
#: Difference of colour, in [-1, 1], from which one view contradicts another.
CONTRADICTION = 0.375
#: The least bilinear share of a source pixel that counts.
MIN_SHARE = 1 / 16
#: The value of a hole in the rendered image (black in [-1, 1]).
HOLE = -1.
#: What splats: 'numba' on a CPU alone, 'triton' on a GPU alone, 'torch' anywhere.
KERNELS = ('auto', 'torch', 'numba', 'triton')


@dataclass(frozen=True)
class Condition:
    """The explicit spatial constraint of F frames, on one device.

    `image` float32 [F, 3, H, W] in [-1, 1], exactly -1 in holes; `mask` float32 [F, 1, H, W], 1 known and 0 hole;
    `z_depth` float32 [F, H, W] in the reference's unit, NaN where unknown.
    """

    image: Tensor
    mask: Tensor
    z_depth: Tensor


def splat(image: Tensor, z_depth: Tensor, K_source: np.ndarray, T_target_source: np.ndarray, K_target: np.ndarray,
          size: tuple[int, int], release: bool = False, kernel: str = 'auto') -> Condition:
    """Splat source frames into target cameras.

    `image` float32 [F, 3, h, w] in [-1, 1]; `z_depth` float32 [F, h, w], 0 or NaN unknown; `K_source` and `K_target`
    [3, 3]; `T_target_source` [F, 4, 4]; `size` (width, height) of the target. `release=True` computes what the released
    code computes (golden/forward_warp). `kernel` one of KERNELS; 'auto' takes numba on a CPU, triton on a GPU where it
    runs (splat_triton.runs_on), else torch. Raises ValueError for shapes that do not fit each other.
    """
    _check_shapes(image, z_depth, T_target_source)
    if release:
        return _splat_release(image, z_depth, K_source, T_target_source, K_target, size)
    run = _kernel(_fastest(image) if kernel == 'auto' else kernel)
    return run(image, z_depth, K_source, T_target_source, K_target, size)


def _fastest(image: Tensor) -> str:
    if image.dtype != torch.float32:
        return 'torch'
    if image.device.type == 'cpu':
        return 'numba'
    from inspatio_ros.spatial.splat_triton import runs_on
    return 'triton' if runs_on(image.device) else 'torch'


def check_kernel(name: str, device: torch.device) -> None:
    """Raise ConfigurationError for a kernel that does not exist, or does not run on a device."""
    if name not in KERNELS:
        raise ConfigurationError(f'kernel {name!r} is unknown; choose one of {", ".join(KERNELS)}')
    if (name == 'numba') != (device.type == 'cpu') and name in ('numba', 'triton'):
        raise ConfigurationError(f'kernel {name!r} does not run on {device.type}; choose auto or torch')


def _kernel(name: str) -> Callable[..., Condition]:
    if name == 'numba':
        from inspatio_ros.spatial.splat_cpu import splat_cpu
        return splat_cpu
    if name == 'triton':
        from inspatio_ros.spatial.splat_triton import splat_triton
        return splat_triton
    if name != 'torch':
        raise ValueError(f'kernel {name!r} is unknown; choose one of {", ".join(KERNELS)}')
    return _splat_torch


def fuse(conditions: Sequence[Condition], contradicted: Sequence[Tensor] | None = None) -> Condition:
    """Fuse renders of the same target from several views, best first, by nearest depth.

    A later view shows only where the earlier ones have a hole, or where it is nearer by more than FUSE_TOLERANCE:
    mixing views of one surface would blur it, as poses are never exact. Pixels of view k that are set in
    `contradicted[k]`, bool [F, H, W], are left out.
    """
    best = conditions[0]
    for rank, other in enumerate(conditions[1:], start=1):
        wins = (other.mask[:, 0] > 0) & ~(other.z_depth >= best.z_depth * (1 - FUSE_TOLERANCE))
        if contradicted is not None:
            wins &= ~contradicted[rank]
        best = Condition(torch.where(wins[:, None], other.image, best.image),
                         torch.where(wins[:, None], other.mask, best.mask),
                         torch.where(wins, other.z_depth, best.z_depth))
    return best


def contradicts(condition: Condition, image: Tensor, z_depth: Tensor, K_source: np.ndarray,
                T_target_source: np.ndarray, K_target: np.ndarray) -> Tensor:
    """Say, bool [F, H, W], where a better view contradicts a render: it sees past it, or shows another colour there.

    A surface must not lie where the better view (`image` [F, 3, h, w] and the other arguments as in `splat`) looks
    through to a farther one. And depth sensors do not see black, shiny or transparent things: where the better view has
    no depth, it still has a colour; a surface that the render puts there must have it, or it lies behind such a thing.
    """
    coords, z = project_pixels(condition.z_depth, K_target, np.linalg.inv(T_target_source), K_source)
    height, width = z_depth.shape[1:]
    x, y = (coords + 0.5).unbind(-1)
    inside = (z > 0) & (x >= 0) & (x < width) & (y >= 0) & (y < height)
    index = torch.where(inside, y.floor() * width + x.floor(), 0).long().flatten(1)
    there = image.flatten(2).gather(2, index[:, None].expand(-1, 3, -1)).view_as(condition.image)
    z_there = z_depth.flatten(1).gather(1, index).view_as(z)
    differs = (condition.image - there).abs().amax(1) > CONTRADICTION
    return inside & torch.where(z_there > 0, z < z_there * (1 - FUSE_TOLERANCE), differs)


def _check_shapes(image: Tensor, z_depth: Tensor, T_target_source: np.ndarray) -> None:
    frames, channels, height, width = image.shape if image.ndim == 4 else (0, 0, 0, 0)
    fits = channels == 3 and z_depth.shape == (frames, height, width) and tuple(T_target_source.shape) == (frames, 4, 4)
    if not fits:
        raise ValueError(f'splat wants image [F, 3, h, w], z_depth [F, h, w], T_target_source [F, 4, 4]; got '
                         f'{tuple(image.shape)}, {tuple(z_depth.shape)}, {tuple(T_target_source.shape)}')


def pixel_motion(K_source: np.ndarray, T_target_source: np.ndarray,
                 K_target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give (A [..., 3, 3], b [..., 3]) such that source pixel (x, y) of depth z lands at A (x, y, 1) z + b.

    The third component of the result is the target's z-depth, the first two over it the target pixel. float64.
    """
    T = np.asarray(T_target_source, dtype=np.float64)
    A = K_target @ T[..., :3, :3] @ np.linalg.inv(K_source)
    return A, (K_target @ T[..., :3, 3:])[..., 0]


def project_pixels(z_depth: Tensor, K_source: np.ndarray, T_target_source: np.ndarray,
                   K_target: np.ndarray) -> tuple[Tensor, Tensor]:
    """Give the target pixel (x, y) [F, h, w, 2] and the target depth [F, h, w] of every source pixel.

    Unknown depths and points behind the camera come out as they fall; see `splat` for what is then done with them.
    """
    A, b = (torch.as_tensor(part).to(z_depth) for part in pixel_motion(K_source, np.asarray(T_target_source), K_target))
    height, width = z_depth.shape[1:]
    x = torch.arange(width, device=z_depth.device, dtype=z_depth.dtype)
    y = torch.arange(height, device=z_depth.device, dtype=z_depth.dtype)[:, None]
    rays = torch.stack([x.expand(height, width), y.expand(height, width), torch.ones_like(z_depth[0])])
    points = torch.einsum('fij,jhw->fihw', A, rays) * z_depth[:, None] + b[:, :, None, None]
    return (points[:, :2] / points[:, 2:]).movedim(1, -1), points[:, 2]


# --- ours, in torch ----------------------------------------------------------------------------------------------


def _splat_torch(image: Tensor, z_depth: Tensor, K_source: np.ndarray, T_target_source: np.ndarray,
                 K_target: np.ndarray, size: tuple[int, int]) -> Condition:
    coords, z = project_pixels(z_depth, K_source, T_target_source, K_target)
    z = torch.where((z_depth > 0) & (z > 0) & torch.isfinite(z) & torch.isfinite(coords).all(-1), z, torch.nan)
    share, index = _bilinear_shares(coords, z, size)
    frames, (width, height) = len(image), size
    z_taps = z.flatten(1).repeat(1, 4)
    counts = share >= MIN_SHARE

    # The nearest surface of every pixel; the last cell of each frame collects what does not count.
    z_near = torch.full((frames, width * height + 1), torch.inf, device=z.device, dtype=z.dtype)
    cell = torch.where(counts, index, width * height)
    z_near.scatter_reduce_(1, cell, z_taps.nan_to_num(torch.inf), 'amin')
    nearest = z_near.gather(1, cell)
    counts &= z_taps <= nearest * (1 + DEPTH_TOLERANCE)
    cell = torch.where(counts, index, width * height)
    weight = torch.where(counts, share * (nearest / z_taps) ** DEPTH_POWER, 0.)

    values = torch.cat([image.flatten(2), z.nan_to_num(0.).flatten(1)[:, None]], dim=1).repeat(1, 1, 4)
    return _normalise(*_accumulate(cell, weight, values * weight[:, None], size), size)


def _bilinear_shares(coords: Tensor, z: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Give the share (0 outside the image or where z is NaN) and the pixel index of 4 taps: [F, 4 h w] each."""
    width, height = size
    coords = torch.where(torch.isnan(z)[..., None], -2., coords).clamp(-2, 2 + max(size)).flatten(1, 2)
    corner = coords.floor()
    fx, fy = (coords - corner).unbind(-1)
    x, y = corner.long().unbind(-1)
    shares, indices = [], []
    for dy, wy in ((0, 1 - fy), (1, fy)):
        for dx, wx in ((0, 1 - fx), (1, fx)):
            inside = (x + dx >= 0) & (x + dx < width) & (y + dy >= 0) & (y + dy < height)
            shares.append(torch.where(inside, wx * wy, 0.))
            indices.append(torch.where(inside, (y + dy) * width + x + dx, 0))
    return torch.cat(shares, dim=1), torch.cat(indices, dim=1)


def _accumulate(index: Tensor, weight: Tensor, values: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Sum weights [F, N] and weighted values [F, C, N] per pixel; index width * height is dropped."""
    frames, channels, _ = values.shape
    cells = size[0] * size[1]
    total = weight.new_zeros(frames, cells + 1).scatter_add_(1, index, weight)
    sums = values.new_zeros(frames, channels, cells + 1)
    sums.scatter_add_(2, index[:, None].expand(-1, channels, -1), values)
    return total[:, :cells], sums[..., :cells]


def _normalise(total: Tensor, sums: Tensor, size: tuple[int, int]) -> Condition:
    frames, (width, height) = len(total), size
    known = total > 0
    mean = (sums / total[:, None]).masked_fill(~known[:, None], HOLE).view(frames, 4, height, width)
    known = known.view(frames, 1, height, width)
    return Condition(mean[:, :3].contiguous(), known.to(sums), mean[:, 3].masked_fill(~known[:, 0], torch.nan))


# --- what the released code computes -----------------------------------------------------------------------------

_RELEASE_DEPTH_RANGE = (1e-4, 1e4)
_RELEASE_SHARPNESS = 50.
_RELEASE_MAX_Z = 1000.


def _splat_release(image: Tensor, z_depth: Tensor, K_source: np.ndarray, T_target_source: np.ndarray,
                   K_target: np.ndarray, size: tuple[int, int]) -> Condition:
    """Splat as the released code does: unknown depth is near, whole positions count 4 times, any weight is known."""
    coords, z = project_pixels(z_depth.clamp(*_RELEASE_DEPTH_RANGE), K_source, T_target_source, K_target)
    log_z = torch.log1p(z.clamp(0, _RELEASE_MAX_Z))
    depth_weight = torch.where(z < 0, 0., torch.exp(-_RELEASE_SHARPNESS * log_z / log_z.max())).flatten(1)
    width, height = size
    limit = torch.tensor([width, height], device=z.device, dtype=z.dtype)
    position = coords.flatten(1, 2).clamp(min=-torch.ones_like(limit), max=limit)
    shares, indices = [], []
    for corner_y in (position[..., 1].floor(), position[..., 1].ceil()):
        for corner_x in (position[..., 0].floor(), position[..., 0].ceil()):
            shares.append((1 - (position[..., 0] - corner_x).abs()) * (1 - (position[..., 1] - corner_y).abs()))
            inside = (corner_x >= 0) & (corner_x < width) & (corner_y >= 0) & (corner_y < height)
            indices.append(torch.where(inside, corner_y * width + corner_x, width * height).long())
    weight = torch.cat(shares, dim=1) * depth_weight.repeat(1, 4)
    values = torch.cat([image.flatten(2), z.flatten(1)[:, None]], dim=1).repeat(1, 1, 4) * weight[:, None]
    return _normalise(*_accumulate(torch.cat(indices, dim=1), weight, values, size), size)
