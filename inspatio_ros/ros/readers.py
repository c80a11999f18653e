# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Read images and clouds that other nodes published.

A small reader takes the common encodings of images, with padding and in either byte order; cv_bridge, where it imports
(it comes with ROS 2, built for the numpy that came with it), takes the others, and where it does not they are refused
by name. Clouds are read by sensor_msgs_py where it imports, and else, or where rows are padded, by a small reader too.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec

import numpy as np
from sensor_msgs.msg import Image, PointCloud2, PointField

from inspatio_ros.errors import RecordingError
from inspatio_ros.image_messages import KNOWN_ENCODINGS, read_common_image, read_compressed

__all__ = ['read_common_image', 'read_compressed', 'read_image', 'read_point_records', 'read_points']

_POINT_TYPES = {PointField.INT8: 'i1', PointField.UINT8: 'u1', PointField.INT16: 'i2', PointField.UINT16: 'u2',
                PointField.INT32: 'i4', PointField.UINT32: 'u4', PointField.FLOAT32: 'f4', PointField.FLOAT64: 'f8'}


def read_image(message: Image) -> np.ndarray:
    """Read an Image: colour becomes uint8 RGB [H, W, 3], other encodings keep their type, [H, W].

    Raises:
        RecordingError: the encoding is not known here, or the message holds too few bytes.

    """
    if message.encoding not in KNOWN_ENCODINGS and find_spec('cv_bridge') is not None:
        return _read_by_cv_bridge(message)
    return read_common_image(message)


def _read_by_cv_bridge(message: Image) -> np.ndarray:
    try:
        from cv_bridge import CvBridge, CvBridgeError
    except Exception as error:  # built for another numpy it fails in ways of its own
        raise RecordingError(f'image encoding {message.encoding!r} needs cv_bridge, which cannot be imported '
                             f'({type(error).__name__}: {error})') from error
    # Encodings named after their storage (8UC1, 32FC1) have no colour that could be turned into RGB.
    has_colour = not message.encoding.startswith(('mono', '8', '16', '32', '64'))
    try:
        return CvBridge().imgmsg_to_cv2(message, 'rgb8' if has_colour else 'passthrough')
    except CvBridgeError as error:
        raise RecordingError(f'cv_bridge cannot read an image with encoding {message.encoding!r}: {error}') from error


def read_points(message: PointCloud2) -> tuple[np.ndarray, np.ndarray | None]:
    """Read a PointCloud2: points float32 [N, 3] and their colours uint8 RGB [N, 3], None where it has none.

    Raises:
        RecordingError: the cloud has no x, y, z, or holds too few bytes.

    """
    names = [field.name for field in message.fields]
    missing = [name for name in ('x', 'y', 'z') if name not in names]
    if missing:
        raise RecordingError(f'a point cloud without field {missing[0]!r} has no positions; it has '
                             f'{", ".join(names) or "no fields"}')
    padded = message.row_step != message.width * message.point_step
    if find_spec('sensor_msgs_py') is not None and not padded:
        from sensor_msgs_py import point_cloud2
        records = point_cloud2.read_points(message, skip_nans=False).ravel()
    else:
        records = read_point_records(message)
    xyz = np.stack([records[name] for name in ('x', 'y', 'z')], axis=-1).astype(np.float32)
    colour = next((name for name in ('rgb', 'rgba') if name in names), None)
    return xyz, None if colour is None else _unpack_colour(records[colour])


def read_point_records(message: PointCloud2) -> np.ndarray:
    """View a PointCloud2 as records [N] with its fields, without sensor_msgs_py."""
    order = '>' if message.is_bigendian else '<'
    formats = [(order + _POINT_TYPES[field.datatype], (field.count,)) if field.count > 1
               else order + _POINT_TYPES[field.datatype] for field in message.fields]
    dtype = np.dtype({'names': [field.name for field in message.fields], 'formats': formats,
                      'offsets': [field.offset for field in message.fields], 'itemsize': message.point_step})
    data = np.frombuffer(message.data, dtype=np.uint8)
    used = message.width * message.point_step
    if message.row_step < used or data.size < message.row_step * message.height:
        raise RecordingError(f'a cloud of {message.width}x{message.height} points of {message.point_step} bytes needs '
                             f'rows of {used} bytes; it has a row_step of {message.row_step} and {data.size} bytes')
    rows = data[:message.row_step * message.height].reshape(message.height, message.row_step)[:, :used]
    return np.ascontiguousarray(rows).view(dtype).ravel()


def _unpack_colour(packed: np.ndarray) -> np.ndarray:
    """Turn packed colours [N], float32 or uint32 of any byte order, into uint8 RGB [N, 3]."""
    native = packed.astype(packed.dtype.newbyteorder('='))
    octets = native.view(np.uint8).reshape(-1, 4)
    return octets[:, [2, 1, 0]] if sys.byteorder == 'little' else octets[:, [1, 2, 3]]
