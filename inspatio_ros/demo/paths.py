# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Scripted drives: what a person at the joystick would do to look around."""

from __future__ import annotations

import numpy as np

#: Seconds that the drive is made for; a shorter one has shorter legs, a longer one goes back and forth.
PERIOD = 15.

#: The drive, as keys that are joined by straight lines: share of the duration, m/s ahead, m/s to the left, rad/s to
#: the left. It leaves the recording's own path to both sides, so that there is something to make up, and ends at rest.
_KEYS = np.array([
    [0.00, 0.00, 0.00, 0.00],
    [0.03, 0.00, 0.00, 0.00],
    [0.07, 0.40, 0.06, -0.07],
    [0.24, 0.40, 0.06, -0.07],
    [0.30, -0.32, -0.10, 0.09],
    [0.48, -0.32, -0.10, 0.09],
    [0.54, 0.29, 0.10, -0.06],
    [0.76, 0.29, 0.10, -0.06],
    [0.82, -0.38, -0.10, 0.07],
    [0.94, -0.38, -0.10, 0.07],
    [0.98, 0.00, 0.00, 0.00],
    [1.00, 0.00, 0.00, 0.00],
])


def scripted_twist(time: float, duration: float) -> tuple[float, float, float]:
    """Give the command at a time of a drive of `duration` seconds: m/s ahead, m/s left, rad/s left (body axes).

    The same commands backwards, negated, lead back on the same path: so a long drive stays where a short one went.
    """
    if duration <= PERIOD:
        return _command(time / duration)
    phase = time / PERIOD % 2.
    if phase <= 1.:
        return _command(phase)
    ahead, left, turn = _command(2. - phase)
    return -ahead, -left, -turn


def _command(share: float) -> tuple[float, float, float]:
    ahead, left, turn = (float(np.interp(share, _KEYS[:, 0], _KEYS[:, i])) for i in (1, 2, 3))
    return ahead, left, turn
