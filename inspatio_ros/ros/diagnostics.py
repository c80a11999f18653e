# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What the node says about itself once a second."""

from __future__ import annotations

import math
import sys
import time
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

from inspatio_ros.memory import MIB

if TYPE_CHECKING:
    from builtin_interfaces.msg import Time

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR

#: Below this share of real time the node says that it does not keep up.
_KEEPS_UP = 0.95
#: Seconds over which rates are taken.
_WINDOW = 5.


class RateMeter:
    """Frames per second and scene time per second over the last seconds, by the machine's own clock."""

    def __init__(self) -> None:
        self._shown: deque[tuple[float, float]] = deque()
        self._ages: deque[float] = deque(maxlen=100)
        self._late = -math.inf
        self._started = time.monotonic()

    def restart(self) -> None:
        """Begin anew, after a pause."""
        self._shown.clear()
        self._late = -math.inf
        self._started = time.monotonic()

    def count(self, scene_seconds: float, age: float) -> None:
        """Count a frame that stands for `scene_seconds` and whose pose was decided `age` seconds ago."""
        now = time.monotonic()
        self._shown.append((now, scene_seconds))
        self._ages.append(age)
        # Here too: nobody may ever ask for rates.
        self._forget(now)

    def note_late(self) -> None:
        """Note that a frame came too late for the node's clock."""
        self._late = time.monotonic()

    @property
    def late(self) -> bool:
        """Whether a frame came too late for the node's clock in the last seconds."""
        return time.monotonic() - self._late < _WINDOW

    def rates(self) -> tuple[float, float]:
        """Give frames per second and the real-time factor."""
        now = time.monotonic()
        self._forget(now)
        span = min(_WINDOW, max(now - self._started, 1e-3))
        return len(self._shown) / span, sum(seconds for _, seconds in self._shown) / span

    def _forget(self, now: float) -> None:
        while self._shown and self._shown[0][0] < now - _WINDOW:
            self._shown.popleft()

    @property
    def age(self) -> float:
        """Seconds from a frame's pose to its publication, median of the last."""
        return float(np.median(self._ages)) if self._ages else 0.

    def keeps_up(self) -> bool:
        """Say whether scene time runs as fast as the clock; too early to say counts as yes."""
        return time.monotonic() - self._started < _WINDOW or self.rates()[1] >= _KEEPS_UP


def status(name: str, hardware: str, level: bytes, message: str, values: Mapping[str, object],
           stamp: Time) -> DiagnosticArray:
    """Build the message of one status."""
    array = DiagnosticArray()
    array.header.stamp = stamp
    array.status = [DiagnosticStatus(level=level, name=name, message=message, hardware_id=hardware, values=[
        KeyValue(key=key, value=_text(value)) for key, value in values.items()])]
    return array


def _text(value: object) -> str:
    return f'{value:.4g}' if isinstance(value, float) else str(value)


def device_mebibytes(device: str) -> float | None:
    """Give the memory that torch holds on a GPU, None where the device is none."""
    if not device.startswith('cuda') or 'torch' not in sys.modules:
        return None
    import torch
    return torch.cuda.memory_allocated(device) / MIB
