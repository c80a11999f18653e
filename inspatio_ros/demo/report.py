# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""From the bag to what people look at: video, contact sheet and summary, in one pass over the frames."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from inspatio_ros.demo.figures import Scores, problems, timing
from inspatio_ros.demo.recording import RecordedFrame, Recording, Timeline
from inspatio_ros.errors import RecordingError
from inspatio_ros.evaluation.metrics import for_json, psnr
from inspatio_ros.evaluation.pictures import Row, contact_sheet, write_png
from inspatio_ros.evaluation.video import VideoWriter
from inspatio_ros.geometry import invert
from inspatio_ros.simulator import WorldSimulator
from inspatio_ros.spatial.pixels import to_uint8

if TYPE_CHECKING:
    from inspatio_ros.reference.base import Reference

#: What the node says of itself on /diagnostics: its frame rate, and how old a frame's pose is when it is shown.
RATE, AGE = 'frame rate wanted Hz', 'pose age ms'

SHEET_ROWS = 6
SHEET_COLUMNS = ('reference', 'condition', 'mask (white: seen)', 'generated', 'truth')


class Eye:
    """Knows where the camera was and what there was to see: pose, true image, filled render, nearest reference frame.

    Args:
        reference: the recording that was driven through.
        T_base_camera: pose of the optical frame in base_link, [4, 4].
        width, height: size of the images.

    """

    def __init__(self, reference: Reference, T_base_camera: np.ndarray, width: int, height: int) -> None:
        self._reference, self._T_base_camera = reference, T_base_camera
        self._world = WorldSimulator(reference, 'render', width, height)
        # The odometry starts at the identity, where the camera is at the recording's first pose.
        self._T_world_odom = reference.T_world_camera[0] @ invert(T_base_camera)

    def T_world_camera(self, frame: RecordedFrame) -> np.ndarray:
        """Give the camera's pose in the recording's world, [4, 4]."""
        return self._T_world_odom @ frame.T_odom_base @ self._T_base_camera

    def time(self, index: int, frame_rate: float) -> float:
        """Give the time of the recording that a frame shows, by how many came before it."""
        return float(self._world.scene_time(self._reference.times[0] + index / frame_rate))

    def truth(self, frame: RecordedFrame, time: float) -> np.ndarray | None:
        """Give the true image uint8 [H, W, 3] at a time of the recording, None where nobody knows it."""
        found = self._reference.truth(self._world.camera, self.T_world_camera(frame), time)
        return None if found is None else found[0]

    def nearest_image(self, frame: RecordedFrame, time: float) -> np.ndarray:
        """Give the reference image to show beside a frame: of the same time, or from the most similar pose."""
        if self._reference.is_static:
            T_frames_camera = invert(self._reference.T_world_camera) @ self.T_world_camera(frame)
            # Metres and the chord of the angle: a metre off counts as much as 60 degrees.
            turn = np.sqrt(np.maximum(0., 3. - np.trace(T_frames_camera[:, :3, :3], axis1=1, axis2=2)))
            index = int(np.argmin(np.linalg.norm(T_frames_camera[:, :3, 3], axis=1) + turn))
        else:
            index = int(np.argmin(np.abs(self._reference.times - time)))
        return self._reference.frame(index).image


def fill_render(condition: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Fill the holes of a render uint8 RGB [H, W, 3] as the `render` generator does; mask uint8 [H, W]."""
    import torch

    from inspatio_ros.spatial.fill import fill
    from inspatio_ros.spatial.render import Condition
    image = torch.from_numpy(condition.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1.
    known = torch.from_numpy(mask > 0)[None, None].float()
    unknown_depth = torch.full(known.shape[1:], torch.nan)
    return to_uint8(fill(Condition(image, known, unknown_depth), 'smooth'))[0]


def write_report(recording: Recording, folder: Path, reference: Reference, facts: dict[str, Any]) -> dict[str, Any]:
    """Write video.mp4, contact_sheet.png and summary.json of a recording, and give the summary.

    `facts` is what the summary should say beyond what the bag tells. Raises RecordingError where it tells too little.
    """
    timeline, said = recording.timeline(), recording.diagnostics()
    if RATE not in said:
        raise RecordingError(f'the node never said its {RATE!r} on /diagnostics; there is nothing to measure it by')
    frame_rate = said[RATE][-1]
    figures = timing(timeline, frame_rate)
    figures['width'], figures['height'] = recording.image_size()
    figures['pose_age_ms'] = for_json(np.median(said.get(AGE, np.nan)), 2)
    found = problems(figures)
    viewer = Viewer(recording, timeline, reference, frame_rate)
    viewer.watch(folder / 'video.mp4')
    write_png(folder / 'contact_sheet.png', viewer.contact_sheet())
    summary = {'passed': not found, 'problems': found, **facts, **figures, 'seen': for_json(np.mean(viewer.seen)),
               'psnr_db': viewer.scores.report()}
    (folder / 'summary.json').write_text(json.dumps(summary, indent=2) + '\n')
    return summary


class Viewer:
    """Goes through the frames that arrived while driving: films and scores them, and picks some to show."""

    def __init__(self, recording: Recording, timeline: Timeline, reference: Reference, frame_rate: float) -> None:
        self._recording, self._timeline, self._reference = recording, timeline, reference
        self._frame_rate = frame_rate
        self._size = recording.image_size()
        self._eye = Eye(reference, recording.T_base_camera(), *self._size)
        self.scores, self.rows, self.seen = Scores(), [], []

    def watch(self, video_path: Path) -> None:
        """Go through all frames once."""
        stamps = self._timeline.stamps[self._timeline.while_driving]
        shown = set(stamps[np.linspace(0, len(stamps) - 1, SHEET_ROWS).round().astype(int)])
        wanted = set(stamps)
        with VideoWriter(video_path, *self._size, self._frame_rate) as video:
            for frame in self._recording.frames():
                if frame.stamp in wanted:
                    video.write(frame.image)
                    self._judge(frame, frame.stamp in shown)

    def contact_sheet(self) -> np.ndarray:
        """Lay out the frames picked, uint8 [H, W, 3]; without the truth where nobody knows it."""
        known = any(row.images[-1] is not None for row in self.rows)
        columns = len(SHEET_COLUMNS) if known else len(SHEET_COLUMNS) - 1
        return contact_sheet(SHEET_COLUMNS[:columns], [Row(row.label, row.images[:columns]) for row in self.rows])

    def _judge(self, frame: RecordedFrame, show: bool) -> None:
        time = self._eye.time(self._timeline.index(frame.stamp), self._frame_rate)
        truth = self._eye.truth(frame, time)
        images = {'generated': frame.image, 'black_render': frame.condition}
        self.seen.append(float((frame.mask > 0).mean()))
        label = f't = {self._seconds(frame):.1f} s, {100 * self.seen[-1]:.0f} % seen'
        if truth is not None:
            images['filled_render'] = fill_render(frame.condition, frame.mask)
            self.scores.add(images, truth, frame.mask)
            label += '; PSNR in dB: ' + ', '.join(
                f'{name.replace("_", " ")} {psnr(image, truth):.1f}' for name, image in images.items())
        if show:
            reference = self._eye.nearest_image(frame, time)
            self.rows.append(Row(label, (reference, frame.condition, frame.mask, frame.image, truth)))

    def _seconds(self, frame: RecordedFrame) -> float:
        return (frame.stamp - self._timeline.stamps[0]) / 1e9
