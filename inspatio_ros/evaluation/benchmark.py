# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""How fast a simulator is, warm and with everything counted: from camera poses to RGB uint8 on the host."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from inspatio_ros.memory import MIB, resident_mebibytes

if TYPE_CHECKING:
    from inspatio_ros.block import Block
    from inspatio_ros.reference.base import Reference
    from inspatio_ros.simulator import WorldSimulator


def machine(device: str = 'cuda') -> dict[str, Any]:
    """Describe what the figures were measured on; the GPU is that of `device`, None where that is none."""
    import torch
    gpu = torch.cuda.get_device_name(device) if device.startswith('cuda') and torch.cuda.is_available() else None
    return {'cpu': _cpu_model(), 'cores': len(os.sched_getaffinity(0)), 'torch_threads': torch.get_num_threads(),
            'gpu': gpu, 'system': platform.platform(), 'python': platform.python_version(),
            'torch': torch.__version__}


def _cpu_model() -> str:
    for line in Path('/proc/cpuinfo').read_text().splitlines():
        if line.startswith('model name'):
            return line.partition(':')[2].strip()
    return platform.machine()


def drive(reference: Reference, frame_rate: float,
          twist: Callable[[float], tuple[float, float, float]]) -> Iterator[np.ndarray]:
    """Give one `T_world_camera` [4, 4] a frame, without end, of a robot that starts where the recording does.

    `twist` gives m/s ahead, m/s left and rad/s left at a time in seconds.
    """
    from inspatio_ros.spatial.motion import TwistDriver, start_frame
    frame = start_frame(reference.T_world_camera[0], reference.up)
    driver, now = TwistDriver(frame.T_map_base), 0.
    while True:
        ahead, left, turn = twist(now)
        driver.command([ahead, left, 0., 0., 0., turn], now)
        yield frame.camera_poses(driver.advance(now, 1, frame_rate)[0][0])
        now += 1. / frame_rate


def next_poses(path: Iterator[np.ndarray], simulator: WorldSimulator) -> np.ndarray:
    """Take the poses of the next block [F, 4, 4] from a path."""
    return np.stack([next(path) for _ in range(simulator.frames_in_next_block())])


class Driven:
    """A simulator driven along a path, block by block as the node does it, the render of the coming one ahead."""

    def __init__(self, simulator: WorldSimulator, path: Iterator[np.ndarray]) -> None:
        self.simulator, self._path = simulator, path
        self._poses = next_poses(path, simulator)

    def block(self, last: bool = False) -> tuple[Block, float, float]:
        """Make a block: gives it, and the seconds from its poses to its first frame and to its last.

        `last`: others are to be measured next, so nothing is left to run in the background.
        """
        start, first = time.perf_counter(), None
        stream = self.simulator.stream(self._poses)
        self._poses = next_poses(self._path, self.simulator)
        if not last:
            self.simulator.prepare(self._poses)
        for _ in stream:
            first = first or time.perf_counter() - start
        return stream.whole(), first, time.perf_counter() - start


def measure(simulator: WorldSimulator, path: Iterator[np.ndarray], frames: int) -> dict[str, Any]:
    """Time a warm simulator over at least so many frames.

    Frames per second are all frames over all time, so that a slow block counts. `first_frame_ms` is the time from a
    block's poses until its first frame is handed over, while the rest may still be decoded, `block_ms` until the last.
    """
    warm_up = simulator.warm_up()
    for index in range(len(simulator.reference)):
        # The sample is still being cast in the background, and what is read for the first time comes from the disk.
        simulator.reference.frame(index)
    _reset_peaks(simulator.device)
    driven = Driven(simulator, path)
    counts, firsts, walls, stages = [], [], [], {}
    while sum(counts) < frames:
        block, first, wall = driven.block()
        firsts.append(first)
        walls.append(wall)
        counts.append(len(block))
        for stage, seconds in block.timings.items():
            stages.setdefault(stage, []).append(seconds)
    per_frame = {stage: 1e3 * np.array(seconds) / counts for stage, seconds in stages.items()}
    fps = sum(counts) / sum(walls)
    return {'generator': simulator.name, 'reference': simulator.reference.name, 'width': simulator.width,
            'height': simulator.height, 'device': simulator.device, 'frames': sum(counts), 'blocks': len(counts),
            'warm_up_s': round(warm_up, 3), 'frames_per_second': round(fps, 2),
            'frame_rate': simulator.frame_rate, 'real_time_factor': round(fps / simulator.frame_rate, 3),
            'stages_ms_per_frame': {stage: median_p95(values) for stage, values in per_frame.items()},
            'first_frame_ms': median_p95(1e3 * np.array(firsts)), 'block_ms': median_p95(1e3 * np.array(walls)),
            'memory_mib': memory(simulator.device)}


def median_p95(values: np.ndarray) -> dict[str, float]:
    """Give the median and the 95th percentile."""
    return {'median': round(float(np.median(values)), 3), 'p95': round(float(np.percentile(values, 95)), 3)}


def memory(device: str) -> dict[str, float]:
    """Give the peak memory since the last reset, MiB: of this process, and on the GPU if that is what it runs on."""
    peak = {'peak': round(_peak_resident_kib() / 1024, 1)}
    if device.startswith('cuda'):
        import torch
        peak['gpu_peak'] = round(torch.cuda.max_memory_allocated(device) / MIB, 1)
    return peak


def _peak_resident_kib() -> int:
    line = next(line for line in Path('/proc/self/status').read_text().splitlines() if line.startswith('VmHWM'))
    return int(line.split()[1])


def _reset_peaks(device: str) -> None:
    # 5 sets the peak back to what is resident now; what was measured before must not count again.
    Path('/proc/self/clear_refs').write_text('5')
    if device.startswith('cuda'):
        import torch
        torch.cuda.reset_peak_memory_stats(device)


def soak(simulator: WorldSimulator, path: Iterator[np.ndarray], seconds: float,
         tell: Callable[[float, float], None]) -> dict[str, Any]:
    """Run at the frame rate for so long, and compare the resident size after a third of the time with that at the end.

    `tell` is called now and then with the seconds passed and the MiB in use.
    """
    simulator.warm_up()
    samples, frames = [], 0
    start = time.monotonic()
    while (elapsed := time.monotonic() - start) < seconds:
        frames += len(simulator.step(next_poses(path, simulator)))
        if not samples or elapsed - samples[-1][0] >= min(5., seconds / 20):
            samples.append((elapsed, resident_mebibytes()))
            tell(*samples[-1])
        time.sleep(max(0., start + frames / simulator.frame_rate - time.monotonic()))
    return {'generator': simulator.name, 'frames': frames, **growth(samples, seconds)}


def growth(samples: list[tuple[float, float]], seconds: float) -> dict[str, Any]:
    """Compare samples of (seconds, MiB): the one nearest to a third of the time, and the last."""
    early, late = min(samples, key=lambda s: abs(s[0] - seconds / 3)), samples[-1]
    return {'seconds': round(seconds, 1), 'early_s': round(early[0], 1), 'early_mib': round(early[1], 1),
            'late_s': round(late[0], 1), 'late_mib': round(late[1], 1),
            'growth_percent': round(100 * (late[1] / early[1] - 1), 2)}
