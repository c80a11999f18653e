# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Turn frames into messages: one stamp for all of a frame's, and nothing built that nobody listens to."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
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
    make_pose_message,
    to_pose,
    to_stamp,
    to_twist,
)
from inspatio_ros.ros.parameters import Settings
from inspatio_ros.spatial.odometry import NANOSECONDS

if TYPE_CHECKING:
    import numpy as np
    from rclpy.lifecycle import LifecycleNode, LifecyclePublisher

    from inspatio_ros.geometry import PinholeCamera
    from inspatio_ros.ros.worker import Frame

#: Topics that show a frame, with their types, the largest first: who receives a message takes processor time from those
#: that follow, on a machine of few cores. Each is reliable, so that RViz shows it without being told, and its history,
#: depth and reliability can be overridden by parameters.
CAMERA_TOPICS = {
    'camera/points': PointCloud2, 'camera/depth/image': Image, 'camera/image_raw': Image, 'camera/condition': Image,
    'camera/mask': Image, 'camera/image_raw/compressed': CompressedImage, 'camera/camera_info': CameraInfo,
    'camera/depth/camera_info': CameraInfo,
}

_POINTS, _JPEG = 'camera/points', 'camera/image_raw/compressed'
#: The images, and what of a block they show.
_PIXELS = {'camera/image_raw': 'image', 'camera/depth/image': 'z_depth', 'camera/mask': 'mask',
           'camera/condition': 'condition'}

#: Frames of a topic that may wait for a slow subscriber.
QUEUE_DEPTH = 5


def overridable(durability: bool = False) -> QoSOverridingOptions:
    """Let parameters (qos_overrides.TOPIC.publisher.reliability and its kin) override a topic's quality of service."""
    kinds = [QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH, QoSPolicyKind.RELIABILITY]
    return QoSOverridingOptions(kinds + ([QoSPolicyKind.DURABILITY] if durability else []))


class _Messages:
    """One message of each camera topic, all with one header: rclpy copies what it publishes at once."""

    def __init__(self, frame_id: str, camera: PinholeCamera) -> None:
        self.header = Header(frame_id=frame_id)
        self.of = {topic: camera_info(camera) if kind is CameraInfo else kind()
                   for topic, kind in CAMERA_TOPICS.items()}
        for message in self.of.values():
            message.header = self.header
        self.filled: set[str] = set()

    def fill(self, frame: Frame, topics: Iterable[str], camera: PinholeCamera, settings: Settings) -> None:
        """Fill the messages of some topics with a frame; intrinsics never change."""
        block, i = frame.block, frame.index
        for topic in topics:
            if topic in _PIXELS:
                fill_image(self.of[topic], getattr(block, _PIXELS[topic])[i])
            elif topic == _POINTS:
                fill_points(self.of[topic], block.z_depth[i], block.image[i], camera, settings.points_stride)
            elif topic == _JPEG:
                fill_jpeg(self.of[topic], block.image[i], settings.jpeg_quality)
            self.filled.add(topic)


class CameraPublisher:
    """Publishes what a camera driver would, and the mask and the condition.

    While one frame's messages are on their way the next one's are filled by another thread: copying, lifting and
    encoding need no Python lock.
    """

    def __init__(self, node: LifecycleNode, settings: Settings, camera: PinholeCamera) -> None:
        """`camera`: the intrinsics of every frame to come."""
        self.settings = settings
        self._camera = camera
        self._publishers: dict[str, LifecyclePublisher] = {
            topic: node.create_lifecycle_publisher(kind, topic, QoSProfile(depth=QUEUE_DEPTH),
                                                   qos_overriding_options=overridable())
            for topic, kind in CAMERA_TOPICS.items()}
        self._ready, self._spare = (_Messages(settings.frame_id('optical'), camera) for _ in range(2))
        self._filler = ThreadPoolExecutor(1, thread_name_prefix='inspatio_messages')
        self._ahead: tuple[Frame, Future] | None = None
        self._wanted: list[str] = []

    def look(self) -> bool:
        """Look who listens; True if anyone does. What is published goes by the last look."""
        self._wanted = [topic for topic, publisher in self._publishers.items() if publisher.get_subscription_count()]
        return bool(self._wanted)

    def prepare(self, frame: Frame) -> None:
        """Begin to fill the messages of the frame that will be published next."""
        if frame.block is None or self._ahead is not None:
            return
        self._spare.filled.clear()
        self._ahead = frame, self._filler.submit(self._spare.fill, frame, self._wanted, self._camera, self.settings)

    def publish(self, frame: Frame, stamp_ns: int) -> None:
        """Publish a frame on every topic that someone listens to."""
        if frame.block is None:
            return
        prepared, filling = self._ahead or (None, None)
        self._ahead = None
        if filling is not None:
            filling.result()
        if prepared is frame:
            self._ready, self._spare = self._spare, self._ready
        else:
            self._ready.filled.clear()
        messages = self._ready
        messages.fill(frame, [topic for topic in self._wanted if topic not in messages.filled], self._camera,
                      self.settings)
        messages.header.stamp = to_stamp(stamp_ns)
        for topic in self._wanted:
            self._publishers[topic].publish(messages.of[topic])

    def destroy(self, node: LifecycleNode) -> None:
        """Take the publishers from the node."""
        self._filler.shutdown()
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
        # Filled again for each frame: most of an Odometry are covariances, which never change.
        self._message = Odometry(child_frame_id=settings.frame_id('base'))
        self._message.header.frame_id = settings.frame_id('odom')
        self._path = node.create_lifecycle_publisher(Path, 'path', 1, qos_overriding_options=overridable(True))
        self._poses: deque[PoseStamped] = deque(maxlen=settings.path_length)
        self._spacing = round(NANOSECONDS / settings.path_rate)
        self._last_path: int | None = None

    def publish(self, frame: Frame, stamp_ns: int, T_base_camera: np.ndarray) -> None:
        """Publish the pose of a frame; the path shows its camera, which is at `T_base_camera` [4, 4] on the robot."""
        if self._odom is not None:
            self._publish_odom(frame, stamp_ns)
        if self._last_path is not None and 0 <= stamp_ns - self._last_path < self._spacing:
            return
        self._last_path = stamp_ns
        pose = PoseStamped(pose=to_pose(frame.T_map_base @ T_base_camera))
        pose.header.stamp, pose.header.frame_id = to_stamp(stamp_ns), self._settings.frame_id('map')
        if not self._poses or self._poses[-1].pose != pose.pose:
            self._poses.append(pose)
        if self._path.get_subscription_count():
            self._path.publish(Path(header=pose.header, poses=list(self._poses)))

    def _publish_odom(self, frame: Frame, stamp_ns: int) -> None:
        message = self._message
        message.header.stamp = to_stamp(stamp_ns)
        message.pose.pose, message.twist.twist = make_pose_message(*frame.odom_pose), to_twist(frame.twist)
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
