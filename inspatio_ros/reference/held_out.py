# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Which frames of a recording figures are measured on; nothing is trained on those, nor on their neighbours."""

from __future__ import annotations

#: Where in a recording they lie.
SHARES = (0.1, 0.3, 0.5, 0.7, 0.9)
#: Neighbours on either side that show nearly the same; one for every so many frames, fewer in a short recording.
_NEIGHBOURS, _FRAMES_A_NEIGHBOUR = 2, 50


def held_out_frames(total: int) -> list[int]:
    """Give the frames of a recording of `total` frames that figures are measured on."""
    return [round(share * total) for share in SHARES]


def kept_from_training(total: int) -> frozenset[int]:
    """Give those frames and their neighbours."""
    near = min(_NEIGHBOURS, total // _FRAMES_A_NEIGHBOUR)
    return frozenset(frame + offset for frame in held_out_frames(total) for offset in range(-near, near + 1))
