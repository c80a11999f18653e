# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Settings of speed side by side in one process, block by block in turn, so that both see the same machine."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from inspatio_ros.evaluation.benchmark import Driven, median_p95

if TYPE_CHECKING:
    from inspatio_ros.simulator import WorldSimulator


def compare_speeds(simulators: dict[str, WorldSimulator], path: Callable[[float], Iterator[np.ndarray]],
                   frames: int, turn: int = 1) -> dict[str, dict[str, Any]]:
    """Measure simulators that differ in speed alone on the same path, warm, over at least so many frames.

    `turn`: blocks that each makes before it is another's turn. Within a turn the coming block is rendered ahead, where
    the simulator does that; across turns it is not, as it would run in another's time.

    Gives by name: `frames_per_second`, all frames over all time; `first_frame_ms` and `block_ms`, from the poses of a
    block to its first frame and to its last; `cpu_ms_per_block`, the time of all threads, which other programs on the
    machine disturb less; `stages_ms_per_frame`; and `psnr_db`, how near the images are to those of the first.
    """
    for simulator in simulators.values():
        # A recording may be cast or decoded in the background, which would count as someone's time.
        for index in range(len(simulator.reference)):
            simulator.reference.frame(index)
    runs = {name: _Run(simulator, path(simulator.frame_rate)) for name, simulator in simulators.items()}
    for run in runs.values():
        run.warm_up()
    first = next(iter(runs.values()))
    while first.frames < frames:
        images = [run.turn(turn) for run in runs.values()]
        for run, image in zip(runs.values(), images, strict=True):
            run.differ(images[0], image)
    return {name: run.figures() for name, run in runs.items()}


class _Run:
    def __init__(self, simulator: WorldSimulator, path: Iterator[np.ndarray]) -> None:
        self.simulator, self.path = simulator, path
        self.frames, self.firsts, self.walls, self.cpu, self.squares = 0, [], [], [], []
        self.stages: dict[str, list[float]] = {}
        self.warm_up_s = 0.

    def warm_up(self) -> None:
        self.warm_up_s = self.simulator.warm_up()
        # The first block has a shape of its own, and frames are read for the first time.
        self.driven = Driven(self.simulator, self.path)
        self.driven.block(last=True)

    def turn(self, blocks: int) -> np.ndarray:
        return np.concatenate([self._block(last=i == blocks - 1) for i in range(blocks)])

    def _block(self, last: bool) -> np.ndarray:
        cpu = time.process_time()
        block, first, wall = self.driven.block(last)
        self.firsts.append(first)
        self.walls.append(wall)
        self.cpu.append(time.process_time() - cpu)
        self.frames += len(block)
        for stage, seconds in block.timings.items():
            self.stages.setdefault(stage, []).append(1e3 * seconds / len(block))
        return block.image

    def differ(self, exact: np.ndarray, image: np.ndarray) -> None:
        self.squares.append(float(np.square(exact.astype(np.float32) - image).mean()))

    def figures(self) -> dict[str, Any]:
        error = float(np.mean(self.squares))
        return {'generator': self.simulator.name, 'width': self.simulator.width, 'height': self.simulator.height,
                'device': self.simulator.device, 'frames': self.frames, 'warm_up_s': round(self.warm_up_s, 2),
                'frames_per_second': round(self.frames / sum(self.walls), 3),
                'first_frame_ms': median_p95(1e3 * np.array(self.firsts)),
                'block_ms': median_p95(1e3 * np.array(self.walls)),
                'cpu_ms_per_block': median_p95(1e3 * np.array(self.cpu)),
                'stages_ms_per_frame': {stage: median_p95(np.array(ms)) for stage, ms in self.stages.items()},
                'psnr_db': round(10 * math.log10(255**2 / error), 2) if error else None}
