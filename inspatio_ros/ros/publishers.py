# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Turn frames into messages: one stamp for all of a frame's, and nothing built that nobody listens to."""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from geometry_msgs.msg import PoseStamped
from nav_msgs.msg import Odometry, Path
from rclpy.qos import QoSDurabilityPolicy, QoSPolicyKind, QoSProfile
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2
from std_msgs.msg import Header

from inspatio_ros.ros.messages import (
    camera_info,
    fill_coloured_points,
    fill_image,
    fill_jpeg,
    fill_points,
    to_pose,
    to_stamp,
    to_twist,
)
from inspatio_ros.ros.parameters import Settings
from inspatio_ros.ros.tf import odom_pose
from inspatio_ros.spatial.odometry import NANOSECONDS

if TYPE_CHECKING:
    import numpy as np
    from rclpy.lifecycle import LifecycleNode, LifecyclePublisher

    from inspatio_ros.geometry import PinholeCamera
    from inspatio_ros.ros.worker import Frame

#: Topics that show a frame, with their types; each is reliable, so that RViz shows it without being told, and each
#: one's history, depth and reliability can be overridden by parameters.
CAMERA_TOPICS = {
    'camera/image_raw': Image, 'camera/image_raw/compressed': CompressedImage, 'camera/camera_info': CameraInfo,
    'camera/depth/image': Image, 'camera/depth/camera_info': CameraInfo, 'camera/points': PointCloud2,
    'camera/mask': Image, 'camera/condition': Image,
}

#: Made beside the others, the one that is done first first.
_POINTS, _JPEG = _LARGE = ('camera/points', 'camera/image_raw/compressed')
#: The images, and what of a block they show.
_PIXELS = {'camera/image_raw': 'image', 'camera/depth/image': 'z_depth', 'camera/mask': 'mask',
           'camera/condition': 'condition'}

#: Frames of a topic that may wait for a slow subscriber.
QUEUE_DEPTH = 5


def overridable(durability: bool = False) -> QoSOverridingOptions:
    """Let parameters (qos_overrides.TOPIC.publisher.reliability and its kin) override a topic's quality of service."""
    kinds = [QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH, QoSPolicyKind.RELIABILITY]
    return QoSOverridingOptions(kinds + ([QoSPolicyKind.DURABILITY] if durability else []))


class CameraPublisher:
    """Publishes what a camera driver would, and the mask and the condition."""

    def __init__(self, node: LifecycleNode, settings: Settings, camera: PinholeCamera) -> None:
        """`camera`: the intrinsics of every frame to come."""
        self.settings = settings
        self._camera = camera
        self._header = Header(frame_id=settings.frame_id('optical'))
        self._publishers: dict[str, LifecyclePublisher] = {}
        self._messages = {}
        for topic, kind in CAMERA_TOPICS.items():
            self._publishers[topic] = node.create_lifecycle_publisher(
                kind, topic, QoSProfile(depth=QUEUE_DEPTH), qos_overriding_options=overridable())
            self._messages[topic] = camera_info(camera) if kind is CameraInfo else kind()
            # One header for all: rclpy copies what it publishes at once.
            self._messages[topic].header = self._header
        self._makers = ThreadPoolExecutor(len(_LARGE), thread_name_prefix='inspatio_messages')

    def heard(self) -> bool:
        """Say whether anyone subscribes to any of the camera's topics."""
        return any(publisher.get_subscription_count() for publisher in self._publishers.values())

    def publish(self, frame: Frame, stamp_ns: int) -> None:
        """Publish a frame on every topic that someone listens to."""
        if frame.block is None:
            return
        self._header.stamp = to_stamp(stamp_ns)
        wanted = [topic for topic, publisher in self._publishers.items() if publisher.get_subscription_count()]
        # The two that take long need no Python lock: they are made while the others are published.
        making = {topic: self._makers.submit(self._fill, topic, frame) for topic in _LARGE if topic in wanted}
        for topic in wanted:
            if topic not in making:
                self._fill(topic, frame)
                self._publishers[topic].publish(self._messages[topic])
        for topic, made in making.items():
            made.result()
            self._publishers[topic].publish(self._messages[topic])

    def _fill(self, topic: str, frame: Frame) -> None:
        """Fill a topic's message with a frame; intrinsics never change."""
        message, block, i = self._messages[topic], frame.block, frame.index
        if topic == _JPEG:
            fill_jpeg(message, block.image[i], self.settings.jpeg_quality)
        elif topic == _POINTS:
            fill_points(message, block.z_depth[i], block.image[i], self._camera, self.settings.points_stride)
        elif topic in _PIXELS:
            fill_image(message, getattr(block, _PIXELS[topic])[i])

    def destroy(self, node: LifecycleNode) -> None:
        """Take the publishers from the node."""
        self._makers.shutdown()
        for publisher in self._publishers.values():
            node.destroy_lifecycle_publisher(publisher)


class MotionPublisher:
    """Publishes where the robot is (odom, where it is moved by us) and where it has been (path)."""

    def __init__(self, node: LifecycleNode, settings: Settings) -> None:
        """Publish odom only where no one else does: in twist mode."""
        self._settings = settings
        self._odom: LifecyclePublisher | None = None
        if settings.drive == 'twist' and settings.publish_odom:
            self._odom = node.create_lifecycle_publisher(Odometry, 'odom', 10, qos_overriding_options=overridable())
        self._path = node.create_lifecycle_publisher(Path, 'path', 1, qos_overriding_options=overridable(True))
        self._poses: deque[PoseStamped] = deque(maxlen=settings.path_length)
        self._spacing = round(NANOSECONDS / settings.path_rate)
        self._last_path: int | None = None

    def publish(self, frame: Frame, stamp_ns: int, T_map_camera: np.ndarray) -> None:
        """Publish the pose of a frame; `T_map_camera` [4, 4] is what the path shows."""
        if self._odom is not None:
            self._publish_odom(frame, stamp_ns)
        if self._last_path is not None and 0 <= stamp_ns - self._last_path < self._spacing:
            return
        self._last_path = stamp_ns
        pose = PoseStamped(pose=to_pose(T_map_camera))
        pose.header.stamp, pose.header.frame_id = to_stamp(stamp_ns), self._settings.frame_id('map')
        if not self._poses or self._poses[-1].pose != pose.pose:
            self._poses.append(pose)
        if self._path.get_subscription_count():
            self._path.publish(Path(header=pose.header, poses=list(self._poses)))

    def _publish_odom(self, frame: Frame, stamp_ns: int) -> None:
        message = Odometry(child_frame_id=self._settings.frame_id('base'))
        message.header.stamp, message.header.frame_id = to_stamp(stamp_ns), self._settings.frame_id('odom')
        message.pose.pose, message.twist.twist = to_pose(odom_pose(frame)), to_twist(frame.twist)
        self._odom.publish(message)

    def forget(self) -> None:
        """Begin the path anew."""
        self._poses.clear()

    def destroy(self, node: LifecycleNode) -> None:
        """Take the publishers from the node."""
        for publisher in (self._odom, self._path):
            if publisher is not None:
                node.destroy_lifecycle_publisher(publisher)


class MapPublisher:
    """Publishes the fused world once; who comes later gets it too."""

    def __init__(self, node: LifecycleNode, settings: Settings) -> None:
        """Publish in the map frame."""
        self._frame_id = settings.frame_id('map')
        self._publisher = node.create_lifecycle_publisher(
            PointCloud2, 'map_points', QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL),
            qos_overriding_options=overridable(True))

    def heard(self) -> bool:
        """Say whether anyone subscribes to the map."""
        return self._publisher.get_subscription_count() > 0

    def publish(self, xyz: np.ndarray, rgb: np.ndarray, stamp_ns: int) -> None:
        """Publish points float [N, 3] with colours uint8 [N, 3]."""
        message = fill_coloured_points(PointCloud2(), xyz, rgb)
        message.header.frame_id, message.header.stamp = self._frame_id, to_stamp(stamp_ns)
        self._publisher.publish(message)

    def destroy(self, node: LifecycleNode) -> None:
        """Take the publisher from the node."""
        node.destroy_lifecycle_publisher(self._publisher)
