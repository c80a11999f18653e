# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The explicit spatial constraint: what the recording shows of any view, rendered from its aligned or best frames."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from inspatio_ros.geometry import PinholeCamera, invert
from inspatio_ros.reference.base import Reference
from inspatio_ros.spatial.densify import DenseFrame, densify, grid_of_target, nearest_depth, resample_colour
from inspatio_ros.spatial.exposure import match_exposure
from inspatio_ros.spatial.parallel import run_parallel
from inspatio_ros.spatial.positions import BlockViews, TokenViews, token_inverse_depth
from inspatio_ros.spatial.render import Condition, check_kernel, contradicts, fuse, pixel_motion, splat
from inspatio_ros.spatial.splat_cpu import SourcePixels, View, splat_views
from inspatio_ros.spatial.views import Choice, Magnification, ViewChooser

#: Views of a static recording are chosen once for so many frames (half a second): a choice for every frame would make
#: the picture jump whenever two frames of the recording, differently exposed, are about equally good.
FRAMES_PER_CHOICE = 12
#: Magnification from which a view is splatted at twice the target's density, lest it leave a lattice of holes.
DENSE_FROM = 1.4
#: Bytes of prepared frames that are kept.
CACHE_BYTES = 192 * 2**20
#: Sets of views whose exposures are kept.
GAINS_KEPT = 64


class SpatialConstraint:
    """Renders a reference into a target camera.

    A moving reference is rendered from the frame aligned in time, a static one from up to `max_views` frames that are
    chosen by how much of the view they cover, and fused by nearest depth. `camera` is normally
    `reference.camera.fitted(width, height)`; `device` is where the results lie, and where they are computed; `kernel`
    as in `render.splat`.
    """

    def __init__(self, reference: Reference, camera: PinholeCamera, device: str | torch.device = 'cpu',
                 max_views: int = 4, kernel: str = 'auto') -> None:
        self.reference, self.camera, self.max_views = reference, camera, max_views
        self.device = torch.device(device)
        check_kernel(kernel, self.device)
        self._on_cpu = kernel == 'numba' or (kernel == 'auto' and self.device.type == 'cpu')
        # What runs where the prepared frames lie: the CPU's own kernel is not called frame by frame.
        self._kernel = 'torch' if self.device.type == 'cpu' else kernel
        self._cache = _ByteCache(CACHE_BYTES)
        self._gain_cache: dict[_Views, np.ndarray] = {}
        self._chooser = ViewChooser(reference) if reference.is_static else None
        self._magnification = Magnification(reference)

    def render(self, T_world_camera: np.ndarray, times: np.ndarray | None = None) -> Condition:
        """Render the reference from poses [F, 4, 4], at times [F] in seconds of the recording (only if it moves)."""
        T_world_camera = np.asarray(T_world_camera, dtype=np.float64)
        wanted = self._views(T_world_camera, times)
        sources = self._prepare({view for views in wanted for view in views})
        gains = {views: self._gains(views, sources) for views in set(wanted)}
        frames = [list(zip((sources[view] for view in views), gains[views], strict=True)) for views in wanted]
        if self._on_cpu:
            return self._render_cpu(frames, T_world_camera)
        return self._render_torch(frames, T_world_camera)

    def reference_frames(self, T_world_camera: np.ndarray, times: np.ndarray | None, count: int) -> list[int]:
        """Give the frames that the generator sees as its reference.

        Static: the best `count` for the block, repeated where fewer add anything. Moving: for each of the poses the
        frame aligned in time, `count` not counting.
        """
        if self._chooser is None:
            return self._aligned(times)
        frames = self._choose(np.asarray(T_world_camera), count).frames
        return [frames[i % len(frames)] for i in range(count)]

    def reference_images(self, indices: Sequence[int]) -> Tensor:
        """Give frames resized and cropped to the camera, float32 [len, 3, H, W] in [-1, 1] on the device."""
        grid = grid_of_target(self.reference.camera, self.camera)
        unique = {int(index) for index in indices}
        images = {i: self._cache.get(('image', i), lambda i=i: resample_colour(self.reference.frame(i).image, grid))
                  for i in unique}
        stacked = torch.from_numpy(np.stack([images[int(index)] for index in indices])).to(self.device)
        return stacked.movedim(-1, 1).float().div_(127.5).sub_(1.)

    def block_views(self, condition: Condition, T_world_camera: np.ndarray, indices: Sequence[int],
                    token: int) -> BlockViews:
        """Give where a block's frames and the frames of its reference are seen from, a token for each token pixels.

        `condition` and T_world_camera [F, 4, 4] are the block's; `indices` those of reference_images.
        """
        found = {int(i): self._cache.get(('depth', int(i), token), lambda i=i: self._token_depth(int(i), token))
                 for i in indices}
        reference = TokenViews(torch.from_numpy(self.reference.T_world_camera[list(indices)])[None].to(self.device),
                               torch.stack([found[int(i)] for i in indices])[None])
        block = TokenViews(torch.from_numpy(np.asarray(T_world_camera, np.float64))[None].to(self.device),
                           token_inverse_depth(condition.z_depth, token)[None])
        return BlockViews(torch.from_numpy(self.camera.K)[None].to(self.device), block, reference)

    def _token_depth(self, index: int, token: int) -> Tensor:
        z_depth = nearest_depth(self.reference.frame(index).z_depth, self.reference.camera, self.camera)
        return token_inverse_depth(torch.from_numpy(np.ascontiguousarray(z_depth)), token).to(self.device)

    # --- which views ---------------------------------------------------------------------------------------------

    def _aligned(self, times: np.ndarray | None) -> list[int]:
        """Give the index of the frame nearest in time to each of the times."""
        if times is None:
            raise ValueError('a moving reference is rendered at times; got None')
        recorded = self.reference.times
        after = np.clip(np.searchsorted(recorded, times), 1, max(len(recorded) - 1, 1))
        return [int(i - (t - recorded[i - 1] < recorded[i] - t)) for i, t in zip(after, np.asarray(times), strict=True)]

    def _choose(self, T_world_camera: np.ndarray, most: int) -> Choice:
        """Choose for the first, middle and last pose: what lies between is covered by what covers them."""
        return self._chooser.choose(self.camera, T_world_camera[_ends(T_world_camera)], most)

    def _views(self, T_world_camera: np.ndarray, times: np.ndarray | None) -> list[_Views]:
        """Give for each target frame its views, best first, as (frame, density)."""
        aligned = None if self._chooser is not None else self._aligned(times)
        views = []
        for start in range(0, len(T_world_camera), FRAMES_PER_CHOICE):
            part = slice(start, start + FRAMES_PER_CHOICE)
            views += (self._static_views(T_world_camera[part]) if aligned is None
                      else self._moving_views(T_world_camera[part], aligned[part]))
        return views

    def _static_views(self, T_world_camera: np.ndarray) -> list[_Views]:
        choice = self._choose(T_world_camera, self.max_views)
        return [tuple((frame, _density(magnification)) for frame, magnification
                      in zip(choice.frames, choice.magnification, strict=True))] * len(T_world_camera)

    def _moving_views(self, T_world_camera: np.ndarray, frames: list[int]) -> list[_Views]:
        density = _density(max(self._magnification(frames[i], self.camera, T_world_camera[i])
                               for i in _ends(T_world_camera)))
        return [((frame, density),) for frame in frames]

    # --- sources -------------------------------------------------------------------------------------------------

    def _prepare(self, wanted: set[tuple[int, int]]) -> dict[tuple[int, int], _Source]:
        """Bring frames to the target's density, those that are not at hand in parallel."""
        sources = {view: self._cache.peek(view) for view in wanted}
        missing = [view for view in sorted(wanted) if sources[view] is None]
        frames = {index: self.reference.frame(index) for index, _ in missing}

        def prepare(index: int, density: int) -> None:
            dense = densify(frames[index], self.reference.camera, self.camera, density)
            sources[index, density] = _Source(dense) if self._on_cpu else dense

        run_parallel(prepare, missing)
        for view in missing:
            if not self._on_cpu:
                # By this thread, on its stream: the pool's threads would copy on the one that generation keeps busy.
                sources[view] = _Source(sources[view], self.device)
            self._cache.get(view, lambda view=view: sources[view])
        return sources

    def _gains(self, views: _Views, sources: dict[tuple[int, int], _Source]) -> np.ndarray:
        if views not in self._gain_cache:
            while len(self._gain_cache) >= GAINS_KEPT:
                self._gain_cache.pop(next(iter(self._gain_cache)))
            self._gain_cache[views] = match_exposure([sources[view].dense for view in views])
        return self._gain_cache[views]

    def _render_cpu(self, frames: _Frames, T_world_camera: np.ndarray) -> Condition:
        jobs = [[View(source.pixels, *self._motion(source, T), gain) for source, gain in sources]
                for sources, T in zip(frames, T_world_camera, strict=True)]
        return splat_views(jobs, (self.camera.width, self.camera.height))

    def _motion(self, source: _Source, T_world_camera: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        T_target_source = invert(T_world_camera) @ source.dense.T_world_camera
        return pixel_motion(source.dense.K, T_target_source, self.camera.K)

    def _render_torch(self, frames: _Frames, T_world_camera: np.ndarray) -> Condition:
        rendered = [self._render_frame(sources, T) for sources, T in zip(frames, T_world_camera, strict=True)]
        return Condition(torch.cat([c.image for c in rendered]), torch.cat([c.mask for c in rendered]),
                         torch.cat([c.z_depth for c in rendered]))

    def _render_frame(self, sources: list[tuple[_Source, np.ndarray]], T_world_camera: np.ndarray) -> Condition:
        views = [(source.exposed(gain)[None], source.z_depth[None], source.dense.K,
                  (invert(T_world_camera) @ source.dense.T_world_camera)[None], self.camera.K)
                 for source, gain in sources]
        conditions = [splat(*view, (self.camera.width, self.camera.height), kernel=self._kernel) for view in views]
        contradicted = [torch.zeros_like(conditions[0].z_depth, dtype=torch.bool)]
        for rank, condition in enumerate(conditions[1:], start=1):
            verdicts = [contradicts(condition, *better) for better in views[:rank]]
            contradicted.append(torch.stack(verdicts).any(dim=0))
        return fuse(conditions, contradicted)


def _ends(T_world_camera: np.ndarray) -> list[int]:
    return sorted({0, len(T_world_camera) // 2, len(T_world_camera) - 1})


def _density(magnification: float) -> int:
    """Give how many times the target's density a view is splatted at."""
    return 2 if magnification > DENSE_FROM else 1


#: The views of a target frame, best first: (frame of the recording, density).
_Views = tuple[tuple[int, int], ...]
#: For each target frame its views: the prepared source and its exposure [3].
_Frames = list[list[tuple['_Source', np.ndarray]]]


class _Source:
    """A prepared frame: for the CPU kernel its `pixels`; for torch `image` [3, h, w] and `z_depth` [h, w]."""

    def __init__(self, dense: DenseFrame, device: torch.device | None = None) -> None:
        self.dense = dense
        self.nbytes = dense.colour.nbytes + dense.z_depth.nbytes
        if device is None:
            self.pixels = SourcePixels.of(dense.colour, dense.z_depth)
        else:
            self.image = torch.from_numpy(dense.colour).to(device).movedim(-1, 0).float().div_(127.5).sub_(1.)
            self.z_depth = torch.from_numpy(dense.z_depth).to(device)
            self.nbytes += self.image.nbytes + self.z_depth.nbytes

    def exposed(self, gain: np.ndarray) -> Tensor:
        """Give the image [3, h, w] in [-1, 1] with its exposure multiplied by gain [3]."""
        factor = torch.from_numpy(gain).to(self.image)[:, None, None]
        return ((self.image + 1) * factor - 1).clamp_(max=1.)


class _ByteCache:
    """Keeps what was used last, up to a number of bytes (each value has `nbytes`)."""

    def __init__(self, limit: int) -> None:
        self._limit, self._bytes = limit, 0
        self._values: OrderedDict[Any, Any] = OrderedDict()

    def peek(self, key: Any) -> Any:
        """Give the value of a key, None if it is not at hand."""
        if key in self._values:
            self._values.move_to_end(key)
        return self._values.get(key)

    def get(self, key: Any, make: Any) -> Any:
        """Give the value of a key, made if it is not at hand."""
        value = self.peek(key)
        if value is None:
            value = self._values[key] = make()
            self._bytes += value.nbytes
            while self._bytes > self._limit and len(self._values) > 1:
                self._bytes -= self._values.popitem(last=False)[1].nbytes
        return value
