# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The topics that the demo records: every one of the node's interface."""

from __future__ import annotations

import importlib
from dataclasses import dataclass


@dataclass(frozen=True)
class Topic:
    """A topic: its name, its type as ROS spells it, whether latecomers get the last message, how many may wait."""

    name: str
    type: str
    latched: bool = False
    depth: int = 100

    @property
    def message(self) -> type:
        """The message's class; importing it needs ROS."""
        package, _, name = self.type.split('/')
        return getattr(importlib.import_module(f'{package}.msg'), name)


#: Large messages wait in a short queue, so that a slow disk costs frames that are counted, not memory.
LARGE = 24

IMAGE, CONDITION, MASK, INFO = '/camera/image_raw', '/camera/condition', '/camera/mask', '/camera/camera_info'
COMMAND, INITIAL_POSE, ODOM = '/cmd_vel', '/initialpose', '/odom'

TOPICS = (
    Topic(COMMAND, 'geometry_msgs/msg/Twist'),
    Topic(INITIAL_POSE, 'geometry_msgs/msg/PoseWithCovarianceStamped'),
    Topic(IMAGE, 'sensor_msgs/msg/Image', depth=LARGE),
    Topic('/camera/image_raw/compressed', 'sensor_msgs/msg/CompressedImage', depth=LARGE),
    Topic(INFO, 'sensor_msgs/msg/CameraInfo'),
    Topic('/camera/depth/image', 'sensor_msgs/msg/Image', depth=LARGE),
    Topic('/camera/depth/camera_info', 'sensor_msgs/msg/CameraInfo'),
    Topic('/camera/points', 'sensor_msgs/msg/PointCloud2', depth=LARGE),
    Topic(MASK, 'sensor_msgs/msg/Image', depth=LARGE),
    Topic(CONDITION, 'sensor_msgs/msg/Image', depth=LARGE),
    Topic('/map_points', 'sensor_msgs/msg/PointCloud2', latched=True, depth=1),
    Topic('/path', 'nav_msgs/msg/Path', depth=LARGE),
    Topic(ODOM, 'nav_msgs/msg/Odometry'),
    Topic('/tf', 'tf2_msgs/msg/TFMessage'),
    Topic('/tf_static', 'tf2_msgs/msg/TFMessage', latched=True),
    Topic('/diagnostics', 'diagnostic_msgs/msg/DiagnosticArray'),
)
