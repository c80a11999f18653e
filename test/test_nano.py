# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The weights that ship, seen at work: on clips where there is something to know they know it.

Two clips tell whether the weights are still those that were trained, not how good they are: docs/nano.md does.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from inspatio_ros.evaluation.candidates import open_candidates
from inspatio_ros.evaluation.protocol import Setting, evaluate
from inspatio_ros.evaluation.suites import open_suite

KNOWABLE = (2, 4)


@pytest.fixture(scope='module')
def figures():
    """Figures of two clips of the suite `scenes` in which other frames, or the block before, show much of the holes."""
    scenes = open_suite('scenes')
    suite = replace(scenes, count=2, clip=lambda index, *size: scenes.clip(KNOWABLE[index], *size))
    candidates = open_candidates('nano', texture=True)
    return evaluate(suite, candidates, Setting(device='cpu', tell=lambda line: None)).figures['candidates']


@pytest.mark.parametrize(('fill', 'margin'), [('nearest', 2.), ('smooth', 1.)])
def test_holes_of_unseen_scenes_are_nearer_to_the_truth_than_filled(figures, fill, margin):
    assert figures['nano']['psnr']['holes'] > figures[fill]['psnr']['holes'] + margin


def test_known_pixels_are_no_worse_than_the_render(figures):
    assert figures['nano']['psnr']['known'] > figures['smooth']['psnr']['known'] - 0.1


def test_texture_is_as_rough_as_the_truth_where_nano_alone_is_smooth(figures):
    assert figures['nano']['gradient_energy_in_holes'] < 0.4
    assert 0.4 < figures['nano texture']['gradient_energy_in_holes'] < 1.6


def test_pictures_show_the_camera_that_was_asked_for(figures):
    assert figures['nano']['camera']['rotation_degrees'] < 0.5
    assert figures['nano']['camera']['translation_percent_of_depth'] < 2.
