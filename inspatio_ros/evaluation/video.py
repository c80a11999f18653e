# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Write videos frame by frame."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import numpy as np

from inspatio_ros.errors import ConfigurationError


class VideoWriter:
    """An mp4 (H.264, yuv420p: what every player and browser shows), written beside its place and renamed when whole.

    Used as a context manager; an exception inside leaves no file behind.

    Args:
        path: the file to be made; its folder must exist.
        width, height: size in pixels, both even.
        frame_rate: frames per second.
        crf: quality, 0 is lossless, 18 looks lossless, 51 is worst.

    """

    def __init__(self, path: str | Path, width: int, height: int, frame_rate: float, crf: int = 18) -> None:
        import av
        if width % 2 or height % 2:
            raise ConfigurationError(f'a video must have an even width and height, got {width}x{height}')
        self.path, self.frames = Path(path), 0
        self._size = (height, width, 3)
        self._partial = self.path.with_name(f'.{self.path.name}.partial')
        try:
            self._partial.touch()  # av opens the file only with the first packet, too late to say what is wrong
            self._container = av.open(str(self._partial), 'w', format='mp4', options={'movflags': 'faststart'})
        except OSError as error:
            raise ConfigurationError(f'cannot write the video {self.path}: {error.strerror or error}') from error
        rate = Fraction(frame_rate).limit_denominator(1001)
        self._stream = self._container.add_stream('libx264', rate=rate,
                                                  options={'crf': str(crf), 'preset': 'veryfast'})
        self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, 'yuv420p'

    def write(self, image: np.ndarray) -> None:
        """Append one frame, uint8 RGB [H, W, 3]."""
        import av
        if image.shape != self._size or image.dtype != np.uint8:
            raise ConfigurationError(f'a frame of this video is uint8 {self._size}, got {image.dtype} {image.shape}')
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format='rgb24')
        self._container.mux(self._stream.encode(frame))
        self.frames += 1

    def __enter__(self) -> VideoWriter:
        """Give the writer."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        """Finish the file and move it to its place, or remove it after an error."""
        try:
            if kind is None:
                self._container.mux(self._stream.encode(None))
            self._container.close()
            if kind is None:
                os.replace(self._partial, self.path)
        finally:
            self._partial.unlink(missing_ok=True)
