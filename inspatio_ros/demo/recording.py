# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Read a recorded bag back: what arrived when, and frame by frame what the camera showed and where it was.

No ROS is needed, and never more than a few frames are in memory.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from inspatio_ros.demo import topics
from inspatio_ros.errors import RecordingError
from inspatio_ros.geometry import pose_from_quaternion

#: What belongs to one frame, told by equal stamps.
_PARTS = (topics.IMAGE, topics.CONDITION, topics.MASK, topics.ODOM)
#: Frames whose parts may still be under way; what is older lost a part for good.
_PENDING = 64

OPTICAL_FRAME, BASE_FRAME = 'camera_optical_frame', 'base_link'


@dataclass(frozen=True)
class Timeline:
    """When things arrived, nanoseconds: the frames' `stamps` and `receipts` int64 [N], in order of receipt.

    `odom_stamps` int64 [M]: of the odometry, which has one message a frame. `counts`: messages of each topic.
    `driving`: receipt of the first and the last command.
    """

    stamps: np.ndarray
    receipts: np.ndarray
    odom_stamps: np.ndarray
    counts: dict[str, int]
    driving: tuple[int, int]

    @property
    def while_driving(self) -> np.ndarray:
        """Which frames arrived while commands were given, bool [N]."""
        start, end = self.driving
        return (self.receipts >= start) & (self.receipts <= end)

    def index(self, stamp: int) -> int:
        """Count the frames before the one with this stamp since the node became active."""
        return int(np.searchsorted(self.odom_stamps, stamp))


@dataclass(frozen=True)
class RecordedFrame:
    """One frame: image and condition uint8 RGB [H, W, 3], mask uint8 [H, W], pose of base_link in odom [4, 4]."""

    stamp: int
    image: np.ndarray
    condition: np.ndarray
    mask: np.ndarray
    T_odom_base: np.ndarray


class Recording:
    """A bag of the demo, opened to be read; used as a context manager."""

    def __init__(self, bag: Path) -> None:
        from rosbags.rosbag2 import Reader
        from rosbags.typesys import Stores, get_typestore
        self._bag, self._reader = bag, Reader(bag)
        self._decode = get_typestore(Stores.ROS2_JAZZY).deserialize_cdr

    def __enter__(self) -> Recording:
        """Open the bag."""
        self._reader.open()
        return self

    def __exit__(self, *_: object) -> None:
        """Close the bag."""
        self._reader.close()

    def timeline(self) -> Timeline:
        """Read when frames and commands arrived, without decoding them."""
        stamps, receipts, odom_stamps, commands = [], [], [], []
        for connection, receipt, data in self._messages(topics.IMAGE, topics.COMMAND, topics.ODOM):
            if connection.topic == topics.COMMAND:
                commands.append(receipt)
            elif connection.topic == topics.ODOM:
                odom_stamps.append(_stamp_of(data))
            else:
                stamps.append(_stamp_of(data))
                receipts.append(receipt)
        counts = {connection.topic: connection.msgcount for connection in self._reader.connections}
        driving = (min(commands), max(commands)) if commands else (0, 0)
        return Timeline(*(np.array(values, np.int64) for values in (stamps, receipts, odom_stamps)), counts, driving)

    def frames(self) -> Iterator[RecordedFrame]:
        """Give every frame whose parts all arrived, in the order in which they became whole."""
        pending: OrderedDict[int, dict[str, bytes]] = OrderedDict()
        for connection, _, data in self._messages(*_PARTS):
            stamp = _stamp_of(data)
            parts = pending.setdefault(stamp, {})
            parts[connection.topic] = data
            if len(parts) == len(_PARTS):
                yield self._frame(stamp, pending.pop(stamp))
            elif len(pending) > _PENDING:
                pending.popitem(last=False)

    def image_size(self) -> tuple[int, int]:
        """Give width and height of the images."""
        for connection, _, data in self._messages(topics.IMAGE):
            message = self._decode(data, connection.msgtype)
            return message.width, message.height
        raise RecordingError(f'{self._bag} holds no images')

    def diagnostics(self) -> dict[str, list[float]]:
        """Give the numbers that the node said of itself, by name, once a second while it ran."""
        found: dict[str, list[float]] = {}
        for connection, _, data in self._messages('/diagnostics'):
            for status in self._decode(data, connection.msgtype).status:
                for pair in status.values:
                    with suppress(ValueError):
                        found.setdefault(pair.key, []).append(float(pair.value))
        return found

    def T_base_camera(self) -> np.ndarray:
        """Give the pose of the optical frame in base_link, [4, 4], from the static transforms."""
        T_parent_child = {}
        for connection, _, data in self._messages('/tf_static'):
            for item in self._decode(data, connection.msgtype).transforms:
                transform = item.transform
                T_parent_child[item.child_frame_id] = (
                    item.header.frame_id, _pose(transform.translation, transform.rotation))
        frame, T = OPTICAL_FRAME, np.eye(4)
        while frame != BASE_FRAME:
            if frame not in T_parent_child:
                raise RecordingError(f'{self._bag}: /tf_static has no transform to {frame}')
            frame, T_step = T_parent_child[frame]
            T = T_step @ T
        return T

    def _frame(self, stamp: int, parts: dict[str, bytes]) -> RecordedFrame:
        image, condition, mask = (_image(self._decode(parts[name], 'sensor_msgs/msg/Image')) for name in _PARTS[:3])
        pose = self._decode(parts[topics.ODOM], 'nav_msgs/msg/Odometry').pose.pose
        return RecordedFrame(stamp, image, condition, mask, _pose(pose.position, pose.orientation))

    def _messages(self, *names: str) -> Iterator[tuple[Any, int, bytes]]:
        wanted = [connection for connection in self._reader.connections if connection.topic in names]
        return self._reader.messages(connections=wanted) if wanted else iter(())


def _stamp_of(data: bytes) -> int:
    """Read the stamp of a message that starts with a header, from its CDR bytes, in nanoseconds."""
    seconds, nanoseconds = struct.unpack_from('<iI' if data[1] else '>iI', data, 4)
    return seconds * 10**9 + nanoseconds


def _image(message: Any) -> np.ndarray:
    channels = {'rgb8': 3, 'mono8': 1}[message.encoding]
    image = np.asarray(message.data, np.uint8).reshape(message.height, message.step)
    image = image[:, :message.width * channels].reshape(message.height, message.width, channels)
    return image if channels == 3 else image[..., 0]


def _pose(position: Any, rotation: Any) -> np.ndarray:
    return pose_from_quaternion(np.array([position.x, position.y, position.z]),
                                np.array([rotation.x, rotation.y, rotation.z, rotation.w]))
