# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Cuts: where a camera's path, or the time that it shows, does not go on from what was shown before."""

from __future__ import annotations

import numpy as np

#: Metres and degrees from one frame to the next that are a cut, and how many of the usual steps.
_ELSEWHERE, _STEPS = (1., 60.), 3.
#: Seconds of scene time that are a cut, or as many of the usual steps.
_ANOTHER_TIME = 1.


def is_cut(T_before: np.ndarray, T_world_camera: np.ndarray) -> bool:
    """Say whether a block's poses [F, 4, 4] begin elsewhere than those of the block before [P, 4, 4] let one expect.

    Elsewhere is a metre or 60 degrees away, or three of the steps within either block where those are longer.
    """
    T = np.concatenate([T_before, T_world_camera])
    at = len(T_before) - 1
    steps = np.linalg.norm(np.diff(T[:, :3, 3], axis=0), axis=1)
    cosines = ((T[:-1, :3, :3] * T[1:, :3, :3]).sum(axis=(1, 2)) - 1) / 2
    turns = np.degrees(np.arccos(cosines.clip(-1., 1.)))
    return any(way[at] > max(least, _STEPS * float(np.delete(way, at).max(initial=0.)))
               for way, least in zip((steps, turns), _ELSEWHERE, strict=True))


def is_another_time(expected: float, times: np.ndarray) -> bool:
    """Say whether a block's times [F], seconds, begin elsewhere than at `expected`, a frame after the block before."""
    usual = float(np.abs(np.diff(times)).max(initial=0.))
    return abs(float(times[0]) - expected) > max(_ANOTHER_TIME, _STEPS * usual)
