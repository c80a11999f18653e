# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Pixels of image messages, sensor_msgs/Image and CompressedImage, with padding and in either byte order.

Messages are anything that has their fields, so that bags are read where there is no ROS.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from inspatio_ros.errors import RecordingError

#: The common encodings: dtype, channels, and the order that turns them into RGB (None: not a colour image).
_LAYOUTS: dict[str, tuple[str, int, list[int] | None]] = {
    'rgb8': ('u1', 3, [0, 1, 2]), 'bgr8': ('u1', 3, [2, 1, 0]), 'rgba8': ('u1', 4, [0, 1, 2]),
    'bgra8': ('u1', 4, [2, 1, 0]), 'mono8': ('u1', 1, None), '8UC1': ('u1', 1, None),
    'mono16': ('u2', 1, None), '16UC1': ('u2', 1, None), '32FC1': ('f4', 1, None),
}
KNOWN_ENCODINGS = frozenset(_LAYOUTS)


def read_common_image(message: Any) -> np.ndarray:
    """Read an image in one of the common encodings: colour becomes uint8 RGB [H, W, 3], others keep their type, [H, W].

    Raises:
        RecordingError: the encoding is not known here, or the message holds too few bytes.

    """
    if message.encoding not in _LAYOUTS:
        raise RecordingError(f'image encoding {message.encoding!r} cannot be read without cv_bridge; install it, or '
                             f'publish one of {", ".join(_LAYOUTS)}')
    kind, channels, order = _LAYOUTS[message.encoding]
    dtype = np.dtype(kind).newbyteorder('>' if message.is_bigendian else '<')
    row = message.width * channels * dtype.itemsize
    data = np.frombuffer(message.data, dtype=np.uint8)
    if message.step < row or data.size < message.step * message.height:
        raise RecordingError(f'an image of {message.width}x{message.height} {message.encoding} needs rows of {row} '
                             f'bytes; the message has a step of {message.step} and {data.size} bytes in all')
    rows = data[:message.step * message.height].reshape(message.height, message.step)[:, :row]
    pixels = np.ascontiguousarray(rows).view(dtype).astype(dtype.newbyteorder('='), copy=False)
    if order is None:
        return pixels.reshape(message.height, message.width)
    return np.ascontiguousarray(pixels.reshape(message.height, message.width, channels)[..., order])


def read_compressed(message: Any) -> np.ndarray:
    """Read a CompressedImage (JPEG or PNG) as uint8 RGB [H, W, 3]."""
    import cv2
    data = np.frombuffer(message.data, dtype=np.uint8)
    # cv2 itself raises where there is not a byte.
    image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    if image is None:
        raise RecordingError(f'a compressed image of format {message.format!r} cannot be decoded')
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
