# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Which frames of a recording figures are measured on; nothing is trained on those, nor on their neighbours."""

from __future__ import annotations

#: How many they are.
HELD_OUT = 5
#: Neighbours on either side that show nearly the same; one for every so many frames, fewer in a short recording.
_NEIGHBOURS, _FRAMES_A_NEIGHBOUR = 2, 50


def evenly(total: int, count: int) -> list[int]:
    """Choose frames evenly over a recording of `total`: of 250, five are 25, 75, 125, 175 and 225."""
    return [round((i + 0.5) * total / count) for i in range(count)]


def held_out_frames(total: int) -> list[int]:
    """Give the frames of a recording of `total` frames that figures are measured on."""
    return evenly(total, HELD_OUT)


def kept_from_training(total: int) -> frozenset[int]:
    """Give those frames and their neighbours."""
    near = min(_NEIGHBOURS, total // _FRAMES_A_NEIGHBOUR)
    return frozenset(frame + offset for frame in held_out_frames(total) for offset in range(-near, near + 1))
