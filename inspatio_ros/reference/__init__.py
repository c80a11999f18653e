# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Open a recording of a real place as a Reference."""

from __future__ import annotations

from pathlib import Path

from inspatio_ros.reference.base import Reference, ReferenceFrame

__all__ = ['SAMPLE', 'Reference', 'ReferenceFrame', 'open_reference']

#: The name of the built-in recording.
SAMPLE = 'sample'


def open_reference(spec: str | Path) -> Reference:
    """Open a recording: 'sample' for the built-in room, else the path of a folder of RGB-D frames.

    Raises RecordingError with one sentence that says what is wrong with it.
    """
    if str(spec) == SAMPLE:
        from inspatio_ros.reference.sample import SampleRoom
        return SampleRoom()
    from inspatio_ros.reference.rgbd import RgbdFolder
    return RgbdFolder(Path(spec).expanduser())
