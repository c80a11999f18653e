# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The one thread that owns the simulator and all torch state. It knows nothing of ROS.

The executor's callbacks leave word here (newest command, requests) and never wait; finished frames go to a queue that
is bounded because a block is made only when the queue runs low.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from inspatio_ros.ros.drive import OdometryDrive
from inspatio_ros.ros.world import Frame, World

#: Blocks whose times are remembered.
_REMEMBERED = 50
#: Blocks of late whose slowest says how long the next may take.
_RECENT = 4
#: The next block is begun this much earlier than the slowest of late would have needed.
_HEADROOM = 1.25


@dataclass(frozen=True)
class Report:
    """How the worker does: see Worker.report. Latencies are seconds from the pose to the frames that wait to be shown.

    `first_latencies`: to a block's first frame; `latencies`: to its last.
    """

    blocks: int
    first_latencies: tuple[float, ...]
    latencies: tuple[float, ...]
    timings: dict[str, float]
    queued: int
    stride: int
    left_out: int


class Worker:
    """Runs a World in a thread of its own."""

    def __init__(self, failed: Callable[[BaseException], None]) -> None:
        """`failed` is called, in the worker's thread, with what ended generation."""
        self._failed = failed
        self._wake = threading.Condition()
        self._requests: deque[Callable[[], object]] = deque()
        self._frames: deque[Frame] = deque()
        self._running = self._ending = False
        self._heard = True
        self._world: World | None = None
        self._forgetting = 0
        self._first_latencies: deque[float] = deque(maxlen=_REMEMBERED)
        self._latencies: deque[float] = deque(maxlen=_REMEMBERED)
        self._head_starts: deque[float] = deque(maxlen=_RECENT)
        self._timings: dict[str, float] = {}
        self._blocks = self._left_out = self._block_length = 0
        # A daemon: a generator that hangs must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name='inspatio_worker', daemon=True)
        self._thread.start()

    # --- called by the executor, never waiting for a block ------------------------------------------------------------

    def open(self, build: Callable[[], World]) -> Future:
        """Build the world in the worker's thread; the future holds the world, or the error."""
        future: Future = Future()

        def call() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                self._world = build()
            except Exception as error:  # noqa: BLE001 - it belongs to whoever holds the future
                future.set_exception(error)
            else:
                future.set_result(self._world)
        self._request(call)
        return future

    def run(self, running: bool) -> None:
        """Make blocks, or make no more after the one in the works."""
        with self._wake:
            self._running = running
            self._wake.notify()

    def resume(self) -> None:
        """Go on with the next block as after a pause."""
        if isinstance(self._world.drive, OdometryDrive):
            # At once: poses that come before the thread would get to it belong to the new path. (A robot that is driven
            # by twists is moved by the thread alone.)
            self._world.drive.resume()
        else:
            self._request(lambda: self._world.drive.resume())

    def reset(self) -> None:
        """Go back to the start with the next block; frames that wait, or are still made, are forgotten."""
        self._leave(lambda: self._world.reset())

    def drop(self) -> None:
        """Show no frame that waits, or is still made: its time is over."""
        self._leave(lambda: None)

    def move_to(self, T_map_base: np.ndarray, T_odom_base: np.ndarray | None = None) -> None:
        """Go on from another pose with the next block; frames that wait, or are still made, are forgotten.

        `T_odom_base`: where the last frame that was shown said that odometry is; None if none was.
        """
        self._leave(lambda: self._world.drive.move_to(T_map_base, T_odom_base))

    def recover(self, shown: tuple[np.ndarray, np.ndarray] | None) -> None:
        """Have the generator begin anew after a block that failed.

        A robot that is driven by twists goes on from `shown`, T_map_base and T_odom_base of the last frame that was
        shown, or from its start; one that follows odometry is where that says.
        """
        def begin() -> None:
            world = self._world
            world.simulator.reset()
            if isinstance(world.drive, OdometryDrive):
                return
            if shown is None:
                world.drive.reset()
            else:
                world.drive.move_to(*shown)
        self._leave(begin)

    def listen(self, heard: bool) -> None:
        """Say whether anyone listens, so that images are worth making."""
        if heard != self._heard:
            with self._wake:
                self._heard = heard

    def notify(self) -> None:
        """Say that the drive has something new."""
        with self._wake:
            self._wake.notify()

    def peek(self) -> Frame | None:
        """Look at the next frame to be shown, None if there is none."""
        with self._wake:
            return self._frames[0] if self._frames else None

    def take(self) -> Frame | None:
        """Take the next frame to be shown, None if there is none."""
        with self._wake:
            if not self._frames:
                return None
            self._wake.notify()
            return self._frames.popleft()

    @property
    def queued(self) -> int:
        """Frames that wait to be shown."""
        return len(self._frames)

    def report(self) -> Report:
        """Say how it does: blocks made, seconds of the last ones, stages of the last one, frames that wait."""
        with self._wake:
            return Report(self._blocks, tuple(self._first_latencies), tuple(self._latencies), dict(self._timings),
                          len(self._frames), self._stride(), self._left_out)

    def close(self, timeout: float = 60.) -> bool:
        """End after the block in the works and free the world; False if that took longer than `timeout` seconds."""
        with self._wake:
            self._ending, self._running = True, False
            self._wake.notify()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    # --- the thread ---------------------------------------------------------------------------------------------------

    def _request(self, function: Callable[[], object]) -> None:
        with self._wake:
            self._requests.append(function)
            self._wake.notify()

    def _leave(self, go: Callable[[], object]) -> None:
        """Have the thread go elsewhere after the block in the works; from now on no frame of before is shown."""
        def call() -> None:
            try:
                go()
            finally:
                with self._wake:
                    self._forgetting -= 1
        with self._wake:
            self._frames.clear()
            self._forgetting += 1
            self._request(call)

    def _run(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._ending or self._requests or self._wants_block())
                if self._ending:
                    break
                job = self._requests.popleft() if self._requests else self._make_block
            try:
                job()
            except Exception as error:  # noqa: BLE001 - whatever it is, the node must say so and stay alive
                self.run(False)
                self._failed(error)
        self._free()

    def _free(self) -> None:
        world, self._world = self._world, None
        self._frames.clear()
        if world is not None:
            world.simulator.close()

    def _wants_block(self) -> bool:
        """Say whether the frames that wait will be shown by the time another block is made."""
        return self._running and self._world is not None and len(self._frames) <= self._lead()

    def _lead(self) -> int:
        # As late as is safe, so that a block goes by the newest command; never more than a block ahead.
        if self._block_length and isinstance(self._world.drive, OdometryDrive):
            # The path is known and will not change: nothing is gained by waiting.
            return self._block_length
        if not self._head_starts:
            return 0
        frames = math.ceil(_HEADROOM * max(self._head_starts) * self._world.frame_rate / self._stride()) + 1
        return min(frames, self._block_length)

    def _stride(self) -> int:
        """Give how many periods lie between frames: more than one if frames may be left out and it takes that."""
        if self._world is None or self._world.overload != 'drop' or len(self._latencies) < 3:
            return 1
        if isinstance(self._world.drive, OdometryDrive):
            # The path itself leaves out what it is behind, and counts it.
            return 1
        typical = float(np.median(list(self._latencies)[-10:]))
        return max(1, math.ceil(typical * self._world.frame_rate / self._block_length - 0.05))

    def _make_block(self) -> None:
        heard, stride = self._heard, self._stride()
        start = time.monotonic()
        parts = self._world.make(heard, stride)
        if parts is None:
            # Nothing to go by: sleep until word comes (a pose pushed meanwhile is seen by the next try).
            with self._wake:
                self._wake.wait(0.05)
            return
        handed: list[tuple[float, list[Frame]]] = []
        for frames in parts:
            self._hand_over(frames)
            handed.append((time.monotonic() - start, frames))
        if heard:
            self._note(handed, stride)

    def _hand_over(self, frames: list[Frame]) -> None:
        """Put frames where they wait to be shown, unless the robot is to be elsewhere by now."""
        with self._wake:
            self._block_length = frames[0].count
            if not self._forgetting:
                self._frames.extend(frames)

    def _note(self, handed: list[tuple[float, list[Frame]]], stride: int) -> None:
        """Note how a block was made: its parts, and the seconds after which each was handed over."""
        seconds = [after for after, _ in handed]
        counts = [len(frames) for _, frames in handed]
        with self._wake:
            self._first_latencies.append(seconds[0])
            self._latencies.append(seconds[-1])
            self._head_starts.append(head_start(seconds, counts, stride / self._world.frame_rate))
            self._timings = handed[-1][1][0].block.timings
            self._blocks += 1
            self._left_out += (stride - 1) * sum(counts)


def head_start(seconds: Sequence[float], counts: Sequence[int], period: float) -> float:
    """Give how many seconds before its first frame is due a block must be begun for none of its frames to be late.

    `seconds` after which each part was there, and `counts`, its frames, which are shown one in a `period` of seconds.
    """
    before = accumulate(counts, initial=0)
    return max(after - shown * period for after, shown in zip(seconds, before, strict=False))
