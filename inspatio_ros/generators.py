# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What completes the render: no network at all, or STAR at one of its sizes. All share one interface."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from inspatio_ros.config import check_size
from inspatio_ros.errors import ConfigurationError

if TYPE_CHECKING:
    from torch import Tensor

    from inspatio_ros.geometry import PinholeCamera
    from inspatio_ros.spatial.positions import BlockViews
    from inspatio_ros.spatial.render import Condition

#: Every generator by name, the cheapest first.
GENERATORS = ('render', 'nano', '1.3b')

#: Settings of STAR's speed (star/speed.py), the plainest first. 'exact' is the default everywhere: it gives the numbers
#: of 'plain' but for rounding, on every machine, and starts at once.
SPEEDS = ('plain', 'exact', 'compiled', 'fast', 'float8')

#: Seeds are 31 bits: products with them must not leave those of a tensor.
LARGEST_SEED = 2**31 - 1

#: Ways to fill the holes of the `render` generator.
FILLS = ('smooth', 'nearest', 'black')


class Generator(Protocol):
    """Completes conditions block by block; it owns whatever state runs from one block to the next."""

    name: str
    width: int
    height: int
    frame_rate: float
    #: Frames of the recording that a block of a static reference takes (0: the generator looks at none).
    reference_count: int
    #: Pixels along each side of a token if the generator wants the views of a block, 0 if it has no use for them.
    token: int

    def frames_in_next_block(self) -> int:
        """Count the frames that the next step wants."""

    def frames_in_block(self, index: int) -> int:
        """Count the frames of the block `index` since the reset."""

    def reset(self, seed: int) -> None:
        """Forget every block and draw from this seed."""

    def forget(self, reference: bool = False) -> None:
        """Have the next block know nothing of those before, as behind a cut; noise and counting go on.

        `reference`: the recording's frames, aligned in time, do not go on from those before either.
        """

    def step(self, condition: Condition, reference_images: Tensor | None, reference_keys: tuple[int, ...] | None,
             views: BlockViews | None) -> tuple[Tensor, dict[str, float]]:
        """Complete one block: images float32 [F, 3, H, W] in [-1, 1] and the seconds of each stage."""

    def stream(self, condition: Condition, reference_images: Tensor | None, reference_keys: tuple[int, ...] | None,
               views: BlockViews | None) -> Iterator[Tensor]:
        """Complete one block as `step` does, and give its frames [k, 3, H, W] in parts, as they are made.

        All of it must be taken before the next block.
        """

    def stage_seconds(self) -> dict[str, float]:
        """Give the seconds of each stage of the block made last; on a GPU this waits for its end."""


class RenderGenerator:
    """No network: the render with its holes filled. The baseline, and what runs on anything."""

    name = 'render'
    reference_count = 0
    token = 0
    #: Without a network a block is only a batch: short enough to answer a command soon, long enough for two cores.
    default_frames_per_block = 4
    #: A camera's usual size at most; the recording may be larger than anyone wants to stream.
    largest = (832, 480)

    def __init__(self, camera: PinholeCamera, width: int | None = None, height: int | None = None,
                 fill: str = 'smooth', frame_rate: float = 24., frames_per_block: int | None = None) -> None:
        if fill not in FILLS:
            raise ConfigurationError(f'fill {fill!r} is unknown; choose one of {", ".join(FILLS)}')
        fit_width, fit_height = _size_within(camera, *self.largest)
        self.width, self.height = width or fit_width, height or fit_height
        check_size(self.width, self.height)
        self.frame_rate, self.fill = float(frame_rate), fill
        self._frames_per_block = frames_per_block or self.default_frames_per_block
        self._seconds: dict[str, float] = {}

    def frames_in_next_block(self) -> int:
        """Count the frames that the next step wants; any other count works too."""
        return self._frames_per_block

    def frames_in_block(self, index: int) -> int:
        """Count the frames of any block."""
        return self._frames_per_block

    def reset(self, seed: int) -> None:
        """Do nothing: there is neither state nor randomness."""

    def forget(self, reference: bool = False) -> None:
        """Do nothing: a block knows nothing of those before."""

    def step(self, condition: Condition, reference_images: Tensor | None = None,
             reference_keys: tuple[int, ...] | None = None,
             views: BlockViews | None = None) -> tuple[Tensor, dict[str, float]]:
        """Fill the holes of the render."""
        from inspatio_ros.spatial.fill import fill
        start = time.perf_counter()
        images = fill(condition, self.fill)
        return images, {'fill': time.perf_counter() - start}

    def stream(self, condition: Condition, reference_images: Tensor | None = None,
               reference_keys: tuple[int, ...] | None = None,
               views: BlockViews | None = None) -> Iterator[Tensor]:
        """Fill the holes of the render; a block is one part."""
        images, self._seconds = self.step(condition, reference_images, reference_keys)
        yield images

    def stage_seconds(self) -> dict[str, float]:
        """Give the seconds that the block streamed last took to fill."""
        return self._seconds


def _size_within(camera: PinholeCamera, width: int, height: int, multiple: int = 16) -> tuple[int, int]:
    """Give the camera's size, shrunk to lie within width x height, each side rounded to a multiple of 16."""
    scale = min(1., width / camera.width, height / camera.height)
    return tuple(max(multiple, round(side * scale / multiple) * multiple) for side in (camera.width, camera.height))


def check_name(name: str) -> None:
    """Raise ConfigurationError for a generator that is not known."""
    if name not in GENERATORS:
        raise ConfigurationError(f'generator {name!r} is unknown; choose one of {", ".join(GENERATORS)}')


def open_generator(name: str, camera: PinholeCamera, *, width: int | None = None, height: int | None = None,
                   device: str = 'cpu', fill: str = 'smooth', weights: str | Path | None = None,
                   frames_per_block: int | None = None, speed: str = 'exact', texture: bool = False) -> Generator:
    """Open a generator by name.

    Args:
        name: one of GENERATORS.
        camera: the recording's camera, for the default size of `render`.
        width, height: image size in pixels, multiples of 16; the generator's own by default.
        device: a torch device.
        fill: how `render` fills holes, one of FILLS.
        weights: folder of the weights; by default the packaged ones or INSPATIO_WEIGHTS.
        frames_per_block: for `render` only; STAR's blocks have the size they were trained with.
        speed: one of SPEEDS; `render` has only one.
        texture: whether regions that are made up get texture, by weights that can (nano's).

    Raises:
        ConfigurationError: the name, size, fill or speed is not one that works, or there is nothing to give texture.
        WeightsError: the weights are missing or do not fit.

    """
    check_name(name)
    if speed not in SPEEDS:
        raise ConfigurationError(f'speed {speed!r} is unknown; choose one of {", ".join(SPEEDS)}')
    if name == 'render':
        if texture:
            raise ConfigurationError("the generator 'render' makes nothing up that could get texture; choose nano, or "
                                     'leave texture out')
        return RenderGenerator(camera, width, height, fill, frames_per_block=frames_per_block)
    from inspatio_ros.star.pipeline import StarPipeline
    return StarPipeline.load(name, weights, device=device, width=width, height=height, speed=speed,
                             texture=texture)
