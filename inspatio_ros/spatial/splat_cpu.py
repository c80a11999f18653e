# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The forward splat of `render.py` on the CPU: several source views of one frame, fused by nearest depth.

Work is split by bands of target rows, which share nothing, so any number of threads gives the same picture.

Views come best first. A view changes a pixel only where nothing is known yet, or where it sees a surface clearly
nearer, and only if no better view contradicts it (see `render.contradicts`); its tiles (TILE x TILE source pixels with
their depth range) are left out when they cannot change anything.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from inspatio_ros.spatial import splat_kernel as kernel
from inspatio_ros.spatial.parallel import bands, run_parallel
from inspatio_ros.spatial.render import (
    CONTRADICTION,
    DEPTH_POWER,
    DEPTH_TOLERANCE,
    FUSE_TOLERANCE,
    HOLE,
    MIN_SHARE,
    Condition,
    pixel_motion,
)
from inspatio_ros.spatial.splat_kernel import TILE

_BEHIND = np.float32(1 + DEPTH_TOLERANCE)
_NEARER = np.float32(1 - FUSE_TOLERANCE)
_SHARE = np.float32(MIN_SHARE)
_DIFFERENCE = np.float32(CONTRADICTION)
#: The kernel raises to DEPTH_POWER, a power of two, by squaring.
_SQUARINGS = DEPTH_POWER.bit_length() - 1


@dataclass(frozen=True)
class SourcePixels:
    """What the kernel needs of one source view.

    `colour` uint8 or float32 [h, w, 3]; `z_depth` float32 [h, w], NaN or <= 0 unknown; `tile_range` float32
    [ceil(h / TILE), ceil(w / TILE), 2], the least and the largest known depth of each tile (inf, -inf where none).
    """

    colour: np.ndarray
    z_depth: np.ndarray
    tile_range: np.ndarray

    @classmethod
    def of(cls, colour: np.ndarray, z_depth: np.ndarray) -> SourcePixels:
        """Measure the tiles of a view."""
        colour, z_depth = np.ascontiguousarray(colour), np.ascontiguousarray(z_depth, dtype=np.float32)
        return cls(colour, z_depth, kernel.tile_ranges(z_depth))


@dataclass(frozen=True)
class View:
    """A source view as one target frame sees it: its pixels, and where they land (see `render.pixel_motion`).

    `gain` float32 [3], see `exposure.py`, multiplies the colours; black is 0 of uint8 colours and -1 of float ones.
    """

    pixels: SourcePixels
    A: np.ndarray
    b: np.ndarray
    gain: np.ndarray | None = None


def splat_cpu(image: Tensor, z_depth: Tensor, K_source: np.ndarray, T_target_source: np.ndarray,
              K_target: np.ndarray, size: tuple[int, int]) -> Condition:
    """Splat one source frame into each target camera; arguments as in `render.splat`."""
    A, b = pixel_motion(K_source, np.asarray(T_target_source), K_target)
    colours = image.detach().movedim(1, -1).contiguous().numpy()
    depths = z_depth.detach().contiguous().numpy()
    return splat_views([[View(SourcePixels.of(*pixels), *motion)] for *pixels, motion
                        in zip(colours, depths, zip(A, b, strict=True), strict=True)], size)


def splat_views(frames: Sequence[Sequence[View]], size: tuple[int, int], cull: bool = True) -> Condition:
    """Render frames, each from its views (best first), into a Condition of `size` (width, height) on the CPU.

    Colours of uint8 views are brought to [-1, 1]. `cull=False` visits every tile: the tests' way to see what culling
    leaves out.
    """
    width, height = size
    image = torch.empty(len(frames), 3, height, width)
    mask = torch.empty(len(frames), 1, height, width)
    z_depth = torch.empty(len(frames), height, width)
    cells = -(-height // TILE)
    jobs = [(views, *(plane[..., top * TILE:bottom * TILE, :] for plane in planes), top * TILE, cull)
            for views, *planes in zip(frames, image.numpy(), mask.numpy()[:, 0], z_depth.numpy(), strict=True)
            for top, bottom in bands(len(frames), cells)]
    run_parallel(_render_band, jobs)
    return Condition(image, mask, z_depth)


class _Scratch(threading.local):
    """Buffers of one thread, kept between frames: the page faults of fresh ones cost as much as the splat."""

    def __init__(self) -> None:
        self._buffers: dict[str, np.ndarray] = {}

    def get(self, name: str, size: int, dtype: type = np.float32) -> np.ndarray:
        buffer = self._buffers.get(name)
        if buffer is None or len(buffer) < size:
            buffer = self._buffers[name] = np.empty(size, dtype)
        return buffer[:size]


_scratch = _Scratch()


def _render_band(views: Sequence[View], image: np.ndarray, mask: np.ndarray, z_depth: np.ndarray, top: int,
                 cull: bool) -> None:
    """Render the target rows [top, top + height) of one frame into image [3, height, W], mask and z_depth."""
    if not views:
        image[:], mask[:], z_depth[:] = HOLE, 0., np.nan
        return
    band = _Band.of(*z_depth.shape, top)
    _accumulate(views[0], band, cull=False)
    kernel.resolve_first(band.sums, *_to_signed(views[0]), image, mask, z_depth, band.limit, np.float32(HOLE), _NEARER)
    winners = _scratch.get('winners', z_depth.size, np.int32)
    for rank, view in enumerate(views[1:], start=1):
        touched, shade = _accumulate(view, band, cull), _to_signed(view)
        won = kernel.find_winners(touched, band.sums, band.limit, band.width, band.height, winners)
        for better in views[:rank]:
            won = kernel.veto(won, winners, band.sums, *shade, top, band.width, *_unproject(better),
                              better.pixels.colour, better.pixels.z_depth, *_to_signed(better), _DIFFERENCE, _NEARER)
        kernel.resolve(won, winners, band.sums, *shade, image, mask, z_depth, band.limit, _NEARER)


@dataclass(frozen=True)
class _Band:
    """Rows of a target from `top` on, with buffers that have a border of one pixel, which saves bounds checks.

    `limit` is the depth below which a view can change a pixel; `nearest` and `sums` are those of the view at hand.
    """

    width: int
    height: int
    top: int
    limit: np.ndarray
    nearest: np.ndarray
    sums: np.ndarray

    @classmethod
    def of(cls, height: int, width: int, top: int) -> _Band:
        """Take the buffers of this thread."""
        padded = (height + 2) * (width + 2)
        limit = _scratch.get('limit', padded)
        # Nothing can change the border, as it is not shown; what is inside is set with the first view.
        limit[:] = 0
        return cls(width, height, top, limit, _scratch.get('nearest', padded),
                   _scratch.get('sums', padded * 5).reshape(padded, 5))


def _accumulate(view: View, band: _Band, cull: bool) -> np.ndarray:
    """Splat a view into the band's sums; give the cells touched, outside of which the sums say nothing."""
    pixels, pitch = view.pixels, band.width + 2
    A, b = view.A.astype(np.float32), view.b.astype(np.float32)
    farthest = np.full((-(-band.height // TILE), -(-band.width // TILE)), np.inf, np.float32)
    if cull:
        kernel.farthest_limits(band.limit.reshape(-1, pitch), farthest)
    active, touched = kernel.select_tiles(pixels.tile_range, *pixels.z_depth.shape, A, b, band.top, band.width,
                                          band.height, farthest)
    count = pixels.z_depth.size + 1
    x, y, z = (_scratch.get(name, count) for name in 'xyz')
    index = _scratch.get('index', count, np.int32)
    points = kernel.project(pixels.z_depth, active, A, b, band.top, band.width, band.height, x, y, z, index)
    if cull:
        points = kernel.keep_open(points, x, y, z, index, band.limit, band.top, pitch, touched)
    else:
        touched[:] = True
    kernel.clear(touched, band.nearest, band.sums, band.width, band.height)
    kernel.find_nearest(points, x, y, z, band.nearest, band.top, pitch, _SHARE)
    kernel.accumulate(points, x, y, z, index, pixels.colour.reshape(-1, 3), band.nearest, band.sums, band.top, pitch,
                      _SHARE, _BEHIND, _SQUARINGS)
    return touched


def _unproject(view: View) -> tuple[np.ndarray, np.ndarray]:
    """Give (A, b) float32 that take a pixel of the target and its depth to the source's pixel."""
    A = np.linalg.inv(view.A)
    return A.astype(np.float32), (-A @ view.b).astype(np.float32)


def _to_signed(view: View) -> tuple[np.ndarray, np.ndarray]:
    """Give factor and offset float32 [3] from a view's colours (uint8, or float in [-1, 1]) to the image in [-1, 1]."""
    gain = np.ones(3) if view.gain is None else view.gain
    factor, offset = (gain / 127.5, -np.ones(3)) if view.pixels.colour.dtype == np.uint8 else (gain, gain - 1)
    return factor.astype(np.float32), offset.astype(np.float32)
