# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""When a frame is shown and what stamp it carries. Plain numbers: nanoseconds of whatever clock the node has."""

from __future__ import annotations

from inspatio_ros.spatial.odometry import NANOSECONDS


class Pacer:
    """Lays frames that are made to be shown now on an even grid of stamps.

    A frame is due one period after the one before. Stamps rise strictly, are never ahead of the clock, and keep the
    grid while frames come no more than `patience` late (several may then be due at once); beyond, the grid starts anew
    at the clock, and scene time has run slower than the clock.
    """

    def __init__(self, frame_rate: float, patience: float = 0.25) -> None:
        self.period = round(NANOSECONDS / frame_rate)
        self._patience = max(round(patience * NANOSECONDS), 4 * self.period)
        self._last: int | None = None
        self._shown_at = 0
        #: How often frames came too late to keep the grid.
        self.slips = 0

    def next_stamp(self, now: int, periods: int = 1) -> int | None:
        """Give the stamp of the next frame if it is due at `now`, else None; the frame is then taken to be shown.

        `periods`: how many periods after the frame before it is due, more than one where frames were left out.
        """
        stamp = self._stamp(now, periods * self.period)
        if stamp is not None:
            self._last, self._shown_at = stamp, now
        return stamp

    def _stamp(self, now: int, wait: int) -> int | None:
        if self._last is None or now < self._last - self._patience:
            # The first frame, or the clock was set back.
            return now
        due = self._last + wait
        if now > due + self._patience:
            self.slips += 1
            return now
        # A timer fires a little late each time, never early: half a period of tolerance lets the grid move to the
        # earliest time it fires, where waiting for `due` would miss every second shot. Frames that are caught up with
        # in one shot have no such excuse.
        early = self.period // 2 if now > self._shown_at else 0
        return min(due, now) if now >= due - early and now > self._last else None

    def restart(self) -> None:
        """Start the grid anew with the next frame, after a pause."""
        self._last = None


class SimulatedClock:
    """Time that advances with the frames: by one period each, whatever generation takes."""

    def __init__(self) -> None:
        self.now = 0

    def advance(self, period: int) -> int:
        """Go on by one period; give the time."""
        self.now += period
        return self.now
