# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The simulator: camera poses in, blocks of images out. It knows nothing of ROS.

The node, the command line, the benchmarks and the tests all use this one class. Nothing in it grows with the length
of a run: the recording's frames, the reference latents and the generator's cache are bounded, blocks are handed over.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from inspatio_ros.errors import ConfigurationError
from inspatio_ros.geometry import PinholeCamera, is_rigid
from inspatio_ros.reference.base import Reference

if TYPE_CHECKING:
    from torch import Tensor

    from inspatio_ros.generators import Generator
    from inspatio_ros.spatial.positions import BlockViews
    from inspatio_ros.spatial.render import Condition


@dataclass(frozen=True)
class Block:
    """Frames that were made together; all arrays are on the host and belong to the caller.

    Attributes: `T_world_camera` float64 [F, 4, 4]; `times` float64 [F] scene time in seconds; `image` uint8 RGB
    [F, H, W, 3]; `condition` uint8 RGB [F, H, W, 3], the render the generator was given, black in holes; `mask` uint8
    [F, H, W], 255 where geometry was seen and 0 where the picture is made up; `z_depth` float32 metres [F, H, W], NaN
    unknown; `camera` the intrinsics of all of them; `timings` seconds of each stage for the whole block.
    """

    index: int
    T_world_camera: np.ndarray
    times: np.ndarray
    image: np.ndarray
    condition: np.ndarray
    mask: np.ndarray
    z_depth: np.ndarray
    camera: PinholeCamera
    timings: dict[str, float]

    def __len__(self) -> int:
        """Count the frames."""
        return len(self.image)


class WorldSimulator:
    """A recording that can be looked at from anywhere.

    Args:
        reference: the recording.
        generator: 'render', 'nano' or '1.3b'; or one that is open already, which then decides size, fill and weights.
        width, height: image size in pixels, multiples of 16; the generator's own size by default.
        seed: same seed, same reference, same poses: same frames.
        device: a torch device, or 'auto' for the GPU where there is one.
        fill: how the `render` generator fills holes: 'smooth', 'nearest' or 'black'.
        weights: folder of the generator's weights where they are not the packaged ones.
        max_views: frames of a static recording that are fused into one render.
        frames_per_block: frames of a block of the `render` generator.
        speed: one of generators.SPEEDS.

    Raises:
        ConfigurationError, WeightsError: see open_generator.

    """

    def __init__(self, reference: Reference, generator: str | Generator = 'render', width: int | None = None,
                 height: int | None = None, seed: int = 0, device: str = 'auto', fill: str = 'smooth',
                 weights: str | Path | None = None, max_views: int = 4,
                 frames_per_block: int | None = None, speed: str = 'exact') -> None:
        from inspatio_ros.generators import open_generator
        from inspatio_ros.spatial.constraint import SpatialConstraint
        self.device = resolve_device(device)
        self.reference = reference
        if isinstance(generator, str):
            generator = open_generator(generator, reference.camera, width=width, height=height, device=self.device,
                                       fill=fill, weights=weights, frames_per_block=frames_per_block,
                                       speed=speed)
        self._generator = generator
        self.name = self._generator.name
        self.width, self.height = self._generator.width, self._generator.height
        self.frame_rate = self._generator.frame_rate
        self.camera = reference.camera.fitted(self.width, self.height)
        self._constraint = SpatialConstraint(reference, self.camera, self.device, max_views=max_views)
        self.seed = int(seed)
        self.reset()

    def reset(self, seed: int | None = None) -> None:
        """Start anew, from the seed given or the one before; scene time goes back to the recording's start."""
        self.seed = self.seed if seed is None else int(seed)
        self._blocks = 0
        self._next_time = float(self.reference.times[0])
        self._generator.reset(self.seed)

    def frames_in_next_block(self) -> int:
        """Count the poses that the next step wants."""
        return self._generator.frames_in_next_block()

    def warm_up(self) -> float:
        """Make two blocks at the recording's start and forget them; give the seconds that took.

        The first block of everything is slow (kernels are compiled, buffers allocated) and the second differs from
        the first in shape.
        """
        start = time.perf_counter()
        for _ in range(2):
            count = self.frames_in_next_block()
            self.step(np.repeat(self.reference.T_world_camera[:1], count, axis=0))
        self.reset()
        return time.perf_counter() - start

    def scene_time(self, times: np.ndarray) -> np.ndarray:
        """Map scene time in seconds to the recording's own time, which is played to and fro without end."""
        first, last = float(self.reference.times[0]), float(self.reference.times[-1])
        length = last - first
        phase = np.mod(np.asarray(times, dtype=np.float64) - first, 2 * length)
        return first + np.minimum(phase, 2 * length - phase)

    def step(self, T_world_camera: np.ndarray, times: np.ndarray | None = None) -> Block:
        """Make the next block.

        Args:
            T_world_camera: float64 [F, 4, 4], optical frames; F is what frames_in_next_block says (the `render`
                generator takes any F >= 1).
            times: float64 [F] scene time in seconds, which a moving recording is shown at (scene_time maps it into
                the recording); goes on at the frame rate by default.

        Raises:
            ConfigurationError: the poses have another shape, are not rigid, or are not finite.

        """
        from inspatio_ros.spatial.pixels import mask_to_uint8, to_uint8
        poses = self._checked_poses(T_world_camera)
        if times is None:
            times = self._next_time + np.arange(len(poses)) / self.frame_rate
        times = np.asarray(times, dtype=np.float64)
        if times.shape != (len(poses),) or not np.isfinite(times).all():
            raise ConfigurationError(f'times must be {len(poses)} finite numbers, got shape {times.shape}')
        start = time.perf_counter()
        recorded = self.scene_time(times)
        condition = self._constraint.render(poses, recorded)
        timings = {'render': time.perf_counter() - start}
        images, stages = self._generator.step(condition, *self._reference_views(condition, poses, recorded))
        timings.update(stages)
        start_copy = time.perf_counter()
        block = Block(self._blocks, poses, times, to_uint8(images), to_uint8(condition.image),
                      mask_to_uint8(condition.mask), condition.z_depth.cpu().numpy(), self.camera, timings)
        timings['to_host'] = time.perf_counter() - start_copy
        timings['all'] = time.perf_counter() - start
        self._blocks += 1
        self._next_time = float(times[-1]) + 1. / self.frame_rate
        return block

    def _reference_views(self, condition: Condition, poses: np.ndarray, recorded: np.ndarray) -> tuple[
            Tensor | None, tuple[int, ...] | None, BlockViews | None]:
        count = self._generator.reference_count
        if not count:
            return None, None, None
        indices = self._constraint.reference_frames(poses, recorded, count)
        # Latents of stills are kept by frame; aligned frames form a stream whose latents depend on what came before.
        keys = tuple(indices) if self.reference.is_static else None
        token = self._generator.token
        views = self._constraint.block_views(condition, poses, indices, token) if token else None
        return self._constraint.reference_images(indices), keys, views

    def _checked_poses(self, T_world_camera: np.ndarray) -> np.ndarray:
        poses = np.array(T_world_camera, dtype=np.float64)
        wanted = self.frames_in_next_block()
        if poses.ndim != 3 or poses.shape[1:] != (4, 4) or not len(poses):
            raise ConfigurationError(f'poses must be [F, 4, 4] with F >= 1, got {poses.shape}')
        if self.name != 'render' and len(poses) != wanted:
            raise ConfigurationError(f'this block of {self.name} takes {wanted} poses, got {len(poses)}')
        for i, pose in enumerate(poses):
            if not is_rigid(pose):
                raise ConfigurationError(f'pose {i} of the block is not a finite rigid transform')
        return poses

    def close(self) -> None:
        """Let go of the networks and the recording's frames."""
        self._generator = self._constraint = None


def resolve_device(device: str) -> str:
    """Turn 'auto' into the device to use, and refuse one that is not there."""
    import torch
    if device == 'auto':
        return 'cuda' if torch.cuda.is_available() else 'cpu'
    kind, _, number = device.partition(':')
    if kind not in ('cpu', 'cuda') or (number and not number.isdigit()):
        raise ConfigurationError(f'device {device!r} is unknown; choose one of auto, cpu, cuda, cuda:1')
    if kind == 'cuda' and not torch.cuda.is_available():
        raise ConfigurationError(f"device {device!r} was asked for, but torch sees no GPU; choose 'auto' or 'cpu'")
    if kind == 'cuda' and number and int(number) >= torch.cuda.device_count():
        raise ConfigurationError(f'device {device!r} was asked for, but torch sees {torch.cuda.device_count()} GPU(s), '
                                 'numbered from 0')
    return device
