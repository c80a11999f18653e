# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The simulator: camera poses in, blocks of images out. It knows nothing of ROS.

The node, the command line, the benchmarks and the tests all use this one class. Nothing in it grows with the length
of a run: the recording's frames, the reference latents and the generator's cache are bounded, blocks are handed over.
"""

from __future__ import annotations

import gc
import time
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from inspatio_ros.block import Block, BlockStream
from inspatio_ros.errors import ConfigurationError
from inspatio_ros.geometry import is_rigid
from inspatio_ros.reference.base import Reference
from inspatio_ros.spatial.cut import is_another_time, is_cut

if TYPE_CHECKING:
    from torch import Tensor

    from inspatio_ros.generators import Generator
    from inspatio_ros.spatial.host import OnTheWay
    from inspatio_ros.spatial.positions import BlockViews
    from inspatio_ros.spatial.render import Condition


class WorldSimulator:
    """A recording that can be looked at from anywhere.

    Args:
        reference: the recording.
        generator: 'render', 'nano' or '1.3b'; or one that is open already, which then decides size, fill and weights.
        width, height: image size in pixels, multiples of 16; the generator's own size by default.
        seed: same seed, same reference, same poses: same frames; on a GPU but for rounding, as its sums have no order.
        device: a torch device, or 'auto' for the GPU where there is one.
        fill: how the `render` generator fills holes: 'smooth', 'nearest' or 'black'.
        weights: folder of the generator's weights where they are not the packaged ones.
        max_views: frames of a static recording that are fused into one render.
        frames_per_block: frames of a block of the `render` generator.
        speed: one of generators.SPEEDS.
        look_ahead: whether `prepare` renders in the background; by default on a GPU, as on a CPU it would only take
            the cores that generation needs (docs/performance.md).
        texture: whether regions that are made up get texture, by weights that can (nano's).

    Raises:
        ConfigurationError, WeightsError: see open_generator.

    """

    def __init__(self, reference: Reference, generator: str | Generator = 'render', width: int | None = None,
                 height: int | None = None, seed: int = 0, device: str = 'auto', fill: str = 'smooth',
                 weights: str | Path | None = None, max_views: int = 4,
                 frames_per_block: int | None = None, speed: str = 'exact', look_ahead: bool | None = None,
                 texture: bool = False) -> None:
        from inspatio_ros.generators import open_generator
        from inspatio_ros.spatial.constraint import SpatialConstraint
        from inspatio_ros.spatial.host import HostCopies
        from inspatio_ros.spatial.look_ahead import LookAhead
        self.device = resolve_device(device)
        self.reference = reference
        if isinstance(generator, str):
            generator = open_generator(generator, reference.camera, width=width, height=height, device=self.device,
                                       fill=fill, weights=weights, frames_per_block=frames_per_block,
                                       speed=speed, texture=texture)
        self._generator = generator
        self.name = self._generator.name
        self.width, self.height = self._generator.width, self._generator.height
        self.frame_rate = self._generator.frame_rate
        self.camera = reference.camera.fitted(self.width, self.height)
        self._constraint = SpatialConstraint(reference, self.camera, self.device, max_views=max_views)
        self.looks_ahead = self.device.startswith('cuda') if look_ahead is None else look_ahead
        self._ahead = LookAhead(self.device)
        self._copies = HostCopies(self.device)
        self.seed = int(seed)
        self.reset()

    def reset(self, seed: int | None = None) -> None:
        """Start anew, from the seed given or the one before; scene time goes back to the recording's start."""
        self.seed = self.seed if seed is None else int(seed)
        self._ahead.drop()
        self._unfinished = False
        self._blocks = 0
        self._next_time = float(self.reference.times[0])
        self._T_before: np.ndarray | None = None
        self._generator.reset(self.seed)

    def frames_in_next_block(self) -> int:
        """Count the poses that the next step wants."""
        # By our own count: a block that is about to be streamed is not the next any more.
        return self._generator.frames_in_block(self._blocks)

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
        return self.stream(T_world_camera, times).whole()

    def stream(self, T_world_camera: np.ndarray, times: np.ndarray | None = None) -> BlockStream:
        """Make the next block as `step` does, and give its frames in parts, as they are decoded.

        Its render is made, or taken from `prepare`, before this returns; it is generated as its parts are asked for,
        and what is on its way to the host is not waited for while there is more to decode. All parts must be taken
        before the next block, unless `reset` comes first. A block that begins elsewhere than the one before ended, or
        that shows a moving recording at another time, knows nothing of those before (spatial/cut.py). Arguments and
        errors are those of `step`.
        """
        if self._unfinished:
            raise RuntimeError('the block before was not made to its end; take all of its parts, or reset')
        start = time.perf_counter()
        poses, times = self._checked(T_world_camera, times, self.frames_in_next_block())
        self._forget_behind_a_cut(poses, times)
        inputs = self._ahead.take(self._inputs, poses, times)
        timings = {'render': time.perf_counter() - start}
        block, pixels = self._room(poses, times, inputs[0], timings)
        self._unfinished = True
        self._blocks += 1
        self._next_time = float(times[-1]) + 1. / self.frame_rate
        return BlockStream(block, self._parts(block, pixels, inputs, start))

    def prepare(self, T_world_camera: np.ndarray, times: np.ndarray | None = None) -> None:
        """Begin to render the coming block in the background, where that gains anything (`looks_ahead`).

        The next `step` or `stream` takes it if its poses and times are these, and renders anew if not: the frames are
        the same either way. To overlap with a block that is being made, call it between `stream` and its first part.
        What goes wrong in the background is raised by the step that wants it. Arguments are those of `step`.

        Raises:
            ConfigurationError: the poses have another shape, are not rigid, or are not finite.

        """
        if self.looks_ahead:
            self._ahead.start(self._inputs, *self._checked(T_world_camera, times, None))

    def blocks(self, path: Iterable[tuple[np.ndarray, np.ndarray | None]]) -> Iterator[Block]:
        """Make block after block along a path that is known beforehand, the render one ahead.

        `path` gives what `step` takes for each block, and is asked when frames_in_next_block tells of that block.
        """
        coming = iter(path)
        given = next(coming, None)
        while given is not None:
            stream = self.stream(*given)
            given = next(coming, None)
            if given is not None:
                self.prepare(*given)
            yield stream.whole()

    def _forget_behind_a_cut(self, poses: np.ndarray, times: np.ndarray) -> None:
        """Have a block that is seen from elsewhere, or that shows another time, know nothing of those before.

        The camera was put elsewhere, its odometry jumped, it was driven on while nobody looked, or a path has a cut.
        """
        if self._T_before is not None:
            later = not self.reference.is_static and is_another_time(self._next_time, times)
            if later or is_cut(self._T_before, poses):
                self._generator.forget(reference=later)
        self._T_before = poses

    def _room(self, poses: np.ndarray, times: np.ndarray, condition: Condition,
              timings: dict[str, float]) -> tuple[Block, Tensor]:
        """Give the block with its render on the way to the host, and the room for its images [F, H, W, 3]."""
        import torch
        start = time.perf_counter()
        copies = self._copies
        pixels = copies.room((len(poses), self.height, self.width, 3), torch.uint8)
        block = Block(self._blocks, poses, times, pixels.numpy(), copies.start_images(condition.image).place(),
                      copies.start_masks(condition.mask).place(), copies.start(condition.z_depth).place(), self.camera,
                      timings)
        timings['to_host'] = time.perf_counter() - start
        return block, pixels

    def _parts(self, block: Block, pixels: Tensor, inputs: tuple, start: float) -> Iterator[Block]:
        """Generate a block into `pixels`, and give its parts as they arrive there."""
        coming: deque[tuple[OnTheWay, Block]] = deque()
        timings, done = block.timings, 0
        for images in self._generator.stream(*inputs):
            begun, first = time.perf_counter(), done
            done += len(images)
            if done > len(block):
                break
            coming.append((self._copies.start_images(images, pixels[first:done]), block.part(first, done)))
            timings['to_host'] += time.perf_counter() - begun
            while done < len(block) and coming and coming[0][0].is_here():
                yield coming.popleft()[1]
        if done != len(block):
            raise ValueError(f'{self.name} was to make {len(block)} frames, but made {done}')
        while len(coming) > 1:
            coming[0][0].wait()
            yield coming.popleft()[1]
        timings.update(self._generator.stage_seconds())
        begun = time.perf_counter()
        coming[0][0].wait()
        # On a GPU: what of the copies is left when all is decoded.
        timings['to_host'] += time.perf_counter() - begun
        timings['all'] = time.perf_counter() - start
        self._unfinished = False
        yield coming.popleft()[1]

    def _inputs(self, poses: np.ndarray, times: np.ndarray) -> tuple:
        """Give what the generator completes: the render, and the reference's images with their keys."""
        recorded = self.scene_time(times)
        condition = self._constraint.render(poses, recorded)
        return condition, *self._reference_views(condition, poses, recorded)

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

    def _checked(self, T_world_camera: np.ndarray, times: np.ndarray | None,
                 wanted: int | None) -> tuple[np.ndarray, np.ndarray]:
        """Give poses and times of our own; `wanted` frames if the generator wants that many and no other count."""
        poses = np.array(T_world_camera, dtype=np.float64)
        if poses.ndim != 3 or poses.shape[1:] != (4, 4) or not len(poses):
            raise ConfigurationError(f'poses must be [F, 4, 4] with F >= 1, got {poses.shape}')
        if wanted is not None and self.name != 'render' and len(poses) != wanted:
            raise ConfigurationError(f'this block of {self.name} takes {wanted} poses, got {len(poses)}')
        for i, pose in enumerate(poses):
            if not is_rigid(pose):
                raise ConfigurationError(f'pose {i} of the block is not a finite rigid transform')
        if times is None:
            times = self._next_time + np.arange(len(poses)) / self.frame_rate
        times = np.array(times, dtype=np.float64)
        if times.shape != (len(poses),) or not np.isfinite(times).all():
            raise ConfigurationError(f'times must be {len(poses)} finite numbers, got shape {times.shape}')
        return poses, times

    def close(self) -> None:
        """Let go of the networks and the recording's frames."""
        self._ahead.close()
        self._generator = self._constraint = None
        # Networks and recordings hold themselves by methods that they keep; their memory shall not wait for the next
        # collection, which may be hours away.
        gc.collect()
        if self.device.startswith('cuda'):
            import torch
            # Torch keeps what is freed for itself; others on the device could not have it.
            torch.cuda.empty_cache()


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
