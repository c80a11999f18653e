# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What a simulator hands over: frames that were made together, whole or in parts as they are decoded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from inspatio_ros.geometry import PinholeCamera


@dataclass(frozen=True)
class Block:
    """Frames that were made together; all arrays are on the host and belong to the caller.

    Attributes: `T_world_camera` float64 [F, 4, 4]; `times` float64 [F] scene time in seconds; `image` uint8 RGB
    [F, H, W, 3]; `condition` uint8 RGB [F, H, W, 3], the render the generator was given, black in holes; `mask` uint8
    [F, H, W], 255 where geometry was seen and 0 where the picture is made up; `z_depth` float32 metres [F, H, W], NaN
    unknown; `camera` the intrinsics of all of them; `timings` seconds of each stage for the whole block.

    A part of a block (WorldSimulator.stream) is a Block too, of some of its frames: `index` and `timings` are those of
    the whole, and `timings` is complete with the last part.
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

    def part(self, start: int, end: int) -> Block:
        """Give the frames [start, end), without a copy."""
        if (start, end) == (0, len(self)):
            return self
        arrays = ('T_world_camera', 'times', 'image', 'condition', 'mask', 'z_depth')
        return replace(self, **{name: getattr(self, name)[start:end] for name in arrays})


class BlockStream(Iterator[Block]):
    """A block that is being made; an iterator of its parts, each given as soon as its frames are on the host."""

    def __init__(self, block: Block, parts: Iterator[Block]) -> None:
        """`parts` fill the arrays of `block` with what they give."""
        self._block, self._parts = block, parts

    def __next__(self) -> Block:
        """Wait for the next frames and give them."""
        return next(self._parts)

    def whole(self) -> Block:
        """Wait for all frames that are still to come and give the whole block."""
        for _ in self._parts:
            pass
        return self._block
