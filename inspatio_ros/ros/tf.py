# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Transforms: map -> odom -> base_link, base_link -> camera_link -> optical once.

Where the robot is moved by us, all of it is said with each frame. Where it follows odometry, map -> odom is said for
the newest odometry too: frames come later than that, and what else the robot sees should not have to wait for them.

TFMessage is published directly. It comes from tf2_msgs, which every ROS installation has; where ROS is pip wheels it
has to be built, and without it the node runs on and says that TF is off.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rclpy.qos import QoSDurabilityPolicy, QoSProfile

from inspatio_ros.geometry import T_BODY_OPTICAL
from inspatio_ros.ros.messages import make_transform, to_stamp, to_transform
from inspatio_ros.ros.parameters import Settings

if TYPE_CHECKING:
    import numpy as np
    from builtin_interfaces.msg import Time
    from geometry_msgs.msg import TransformStamped
    from rclpy.lifecycle import LifecycleNode

    from inspatio_ros.ros.worker import Frame
    from inspatio_ros.spatial.motion import StartFrame

try:
    from tf2_msgs.msg import TFMessage
except ImportError:
    TFMessage = None


class TransformPublisher:
    """Publishes a node's transforms on /tf and /tf_static."""

    def __init__(self, node: LifecycleNode, settings: Settings, start: StartFrame) -> None:
        """`start` says how the camera is mounted. Only where TFMessage is not None."""
        self._settings = settings
        self._with_base = settings.drive == 'twist'
        self._moving = node.create_lifecycle_publisher(TFMessage, '/tf', 100)
        latched = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
        self._static = node.create_lifecycle_publisher(TFMessage, '/tf_static', latched)
        self._T_base_camera_link = start.T_base_camera_link
        #: map -> odom as published last: the matrix, the frame and the message. It hardly ever changes.
        self._aligned: tuple[np.ndarray, str, TransformStamped] | None = None
        #: Nanoseconds up to which map -> odom was said.
        self._said = 0

    def publish_static(self, stamp: Time) -> None:
        """Say how the camera is mounted, unless the robot's own description does; who comes later hears it too."""
        if not self._settings.publish_mount_tf:
            return
        names = self._settings.frame_id
        self._static.publish(TFMessage(transforms=[
            to_transform(self._T_base_camera_link, names('base'), names('camera'), stamp),
            to_transform(T_BODY_OPTICAL, names('camera'), names('optical'), stamp)]))

    def publish(self, frame: Frame, stamp_ns: int, odom_frame: str) -> None:
        """Say where the robot is in a frame.

        odom -> base_link is ours only where the robot is moved by us; where it follows odometry, whoever publishes that
        publishes the transform too. map -> odom is ours unless something else finds out where the robot is.
        """
        if not self._settings.publish_tf:
            return
        stamp, names = to_stamp(stamp_ns), self._settings.frame_id
        transforms = []
        if odom_frame == names('map'):
            # Nothing can be said between two frames of one name.
            self.suspend()
        elif self._settings.publish_map_tf:
            anew = self._align(frame.T_map_odom, odom_frame)
            # Beside `keep_up` in order, as tf2 wants it; what odometry was said up to holds between as well.
            if anew or self._with_base or stamp_ns > self._said:
                transforms.append(self._alignment_at(stamp_ns))
        if self._with_base:
            transforms.append(make_transform(*frame.odom_pose, odom_frame, names('base'), stamp))
        if transforms:
            self._moving.publish(TFMessage(transforms=transforms))

    def keep_up(self, stamp_ns: int | None) -> None:
        """Say that map -> odom is still what it was, up to a stamp; nothing if it is not known or was said already."""
        if self._aligned is not None and stamp_ns is not None and stamp_ns > self._said:
            self._moving.publish(TFMessage(transforms=[self._alignment_at(stamp_ns)]))

    def suspend(self) -> None:
        """Say nothing of map -> odom before the next frame, which brings another one."""
        self._aligned = None

    def _align(self, T_map_odom: np.ndarray, odom_frame: str) -> bool:
        """Note map -> odom; say whether it is another one than before."""
        if self._aligned is not None and self._aligned[0] is T_map_odom and self._aligned[1] == odom_frame:
            return False
        self._aligned = (T_map_odom, odom_frame,
                         to_transform(T_map_odom, self._settings.frame_id('map'), odom_frame, to_stamp(0)))
        return True

    def _alignment_at(self, stamp_ns: int) -> TransformStamped:
        self._said = stamp_ns
        alignment = self._aligned[2]
        alignment.header.stamp = to_stamp(stamp_ns)
        return alignment

    def destroy(self, node: LifecycleNode) -> None:
        """Take the publishers from the node."""
        for publisher in (self._moving, self._static):
            node.destroy_lifecycle_publisher(publisher)
