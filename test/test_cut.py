# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What is a cut: poses and times that do not go on from those before."""

from __future__ import annotations

import numpy as np

from inspatio_ros.geometry import make_pose, se3_exp
from inspatio_ros.spatial.cut import is_another_time, is_cut


def at(x, yaw=0.):
    return make_pose(translation=np.array([x, 0., 0.])) @ se3_exp(np.array([0., 0., 0., 0., 0., yaw]))


def test_driving_fast_is_no_cut():
    fast = np.array([at(2.5 * i) for i in range(1, 13)])
    assert not is_cut(at(0.)[None], fast) and is_cut(at(-8.)[None], fast)
    # Nor is the end of a path, where the last pose is held for as long as a block takes.
    assert not is_cut(fast, np.array([at(2.5 * 13)] * 12)) and is_cut(fast, np.array([at(40.)] * 12))


def test_elsewhere_is_a_metre_or_sixty_degrees_away():
    here = at(0.)[None]
    assert is_cut(here, np.array([at(0., 1.2)] * 9)) and not is_cut(here, np.array([at(0., 0.9)] * 9))
    assert is_cut(here, at(1.2)[None]) and not is_cut(here, at(0.8)[None])


def test_time_that_goes_back_or_leaps_is_another_one_and_slow_frames_are_not():
    usual = np.arange(12) / 12.
    assert not is_another_time(-1 / 12., usual)
    assert is_another_time(12., usual) and is_another_time(-2., usual)
    assert not is_another_time(-4., 4. * np.arange(12))
