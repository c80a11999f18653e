# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The demo's figures: frames, rate, latency, topics, and errors against the truth."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from inspatio_ros.demo.recording import Timeline
from inspatio_ros.demo.topics import TOPICS
from inspatio_ros.evaluation.metrics import ErrorSum, for_json

#: Share of the frames which the rate asks for that must have arrived.
REQUIRED_SHARE = 0.95

#: What is compared with the truth.
CANDIDATES = ('generated', 'black_render', 'filled_render')


def _sums() -> dict[str, ErrorSum]:
    return {name: ErrorSum() for name in CANDIDATES}


@dataclass
class Scores:
    """Errors against the truth, pooled over all frames: of whole images, of seen pixels and of holes."""

    everywhere: dict[str, ErrorSum] = field(default_factory=_sums)
    seen: dict[str, ErrorSum] = field(default_factory=_sums)
    holes: dict[str, ErrorSum] = field(default_factory=_sums)

    def add(self, images: dict[str, np.ndarray], truth: np.ndarray, mask: np.ndarray) -> None:
        """Add one frame's candidates uint8 [H, W, 3]; mask uint8 [H, W]."""
        for name, image in images.items():
            self.everywhere[name].add(image, truth)
            self.seen[name].add(image, truth, mask > 0)
            self.holes[name].add(image, truth, mask == 0)

    def report(self) -> dict[str, dict[str, float | None]] | None:
        """Give the PSNR of each candidate in dB, None where there was nothing to compare."""
        if not any(errors.values for errors in self.everywhere.values()):
            return None
        return {part: {name: for_json(errors[name].psnr, 2) for name in CANDIDATES}
                for part, errors in (('all', self.everywhere), ('seen', self.seen), ('holes', self.holes))}


def timing(timeline: Timeline, frame_rate: float) -> dict[str, Any]:
    """Give frames, rate and latency while the robot was driven, and which topics are missing."""
    driven = timeline.while_driving
    seconds = (timeline.driving[1] - timeline.driving[0]) / 1e9
    latency = (timeline.receipts[driven] - timeline.stamps[driven]) / 1e6
    p50, p95 = np.percentile(latency, (50, 95)) if len(latency) else (np.nan, np.nan)
    return {'driving_s': round(seconds, 3), 'frames': int(driven.sum()), 'frames_in_bag': len(timeline.stamps),
            'frames_expected': int(seconds * frame_rate), 'frame_rate': frame_rate,
            'rate_hz': round(float(driven.sum()) / seconds, 3) if seconds else 0.,
            'latency_ms': {'p50': for_json(p50, 2), 'p95': for_json(p95, 2)},
            'stamps_rising': bool((np.diff(timeline.stamps) > 0).all()),
            'topics': {topic.name: timeline.counts.get(topic.name, 0) for topic in TOPICS},
            'missing_topics': [topic.name for topic in TOPICS if not timeline.counts.get(topic.name)]}


def problems(figures: dict[str, Any]) -> list[str]:
    """Say what of the demo's promise does not hold, one sentence each."""
    found = []
    if figures['missing_topics']:
        found.append(f'no message arrived on {", ".join(figures["missing_topics"])}')
    if figures['frames'] < REQUIRED_SHARE * figures['frames_expected']:
        found.append(f'{figures["frames"]} of the {figures["frames_expected"]} frames arrived that '
                     f'{figures["frame_rate"]:g} per second ask for')
    if not figures['stamps_rising']:
        found.append('the stamps of the frames do not rise strictly')
    return found
