# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A ROS graph of a test's own (the node under test and a probe beside it, in one thread), and a small recording."""

from __future__ import annotations

import atexit
import dataclasses
import itertools
import json
import os
import shutil
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
import PIL.Image
import rclpy
from geometry_msgs.msg import Pose
from nav_msgs.msg import Odometry
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSDurabilityPolicy, QoSProfile

from inspatio_ros.geometry import T_BODY_OPTICAL, PinholeCamera, make_pose
from inspatio_ros.ros import messages
from inspatio_ros.ros.node import InspatioNode
from inspatio_ros.scenes.raycast import raycast
from inspatio_ros.scenes.rooms import sample_room
from inspatio_ros.tum import write_tum

#: Small and quick: what is tested is the node, not the simulator. The reference is `small_recording`.
SMALL = {'generator': 'render', 'width': 96, 'height': 64, 'frame_rate': 20., 'frames_per_block': 3,
         'clearance.enabled': False}

# Other test processes on this machine start elsewhere.
_domains = itertools.cycle(range(1 + os.getpid() % 80, 102))


@cache
def small_recording() -> str:
    """Write a recording of a few small frames of the sample's room, once for all tests; give its folder."""
    folder = Path(tempfile.mkdtemp(prefix='inspatio_test_room_'))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for name in ('rgb', 'depth'):
        (folder / name).mkdir()
    scene, camera = sample_room(), PinholeCamera(70., 70., 47.5, 31.5, 96, 64)
    poses = np.stack([make_pose(T_BODY_OPTICAL[:3, :3], np.array([-0.5 + 0.1 * i, 0., 1.2])) for i in range(5)])
    for i, pose in enumerate(poses):
        view = raycast(scene, camera, pose, 0.)
        PIL.Image.fromarray(view.image).save(folder / 'rgb' / f'{i:06d}.png')
        millimetres = np.nan_to_num(view.z_depth * 1000.).astype(np.uint16)
        PIL.Image.fromarray(millimetres).save(folder / 'depth' / f'{i:06d}.png')
    (folder / 'intrinsics.json').write_text(json.dumps(dataclasses.asdict(camera) | {'depth_scale': 1000.}))
    write_tum(folder / 'trajectory.txt', np.arange(5) * 0.1, poses)
    return str(folder)


class Graph:
    """The node under test (`node`), a `probe`, and what the probe received, by topic."""

    def __init__(self, context: Context, parameters: dict, namespace: str = '') -> None:
        self.received = defaultdict(list)
        given = {'reference': small_recording()} | SMALL | parameters
        self.node = InspatioNode(context=context, namespace=namespace, use_global_arguments=False,
                                 parameter_overrides=[Parameter(name, value=value) for name, value in given.items()])
        self.probe = Node('probe', context=context, namespace=namespace, use_global_arguments=False)
        self.executor = SingleThreadedExecutor(context=context)
        for node in (self.node, self.probe):
            self.executor.add_node(node)

    def close(self) -> None:
        self.executor.shutdown()
        self.probe.destroy_node()
        self.node.destroy_node()

    def listen(self, kind: type, topic: str, latched: bool = False) -> list:
        qos = QoSProfile(depth=50)
        if latched:
            qos.durability = QoSDurabilityPolicy.TRANSIENT_LOCAL
        self.probe.create_subscription(kind, topic, self.received[topic].append, qos)
        return self.received[topic]

    def publisher(self, kind: type, topic: str) -> object:
        """Create a publisher and wait until the node hears it: both sides must have found each other."""
        publisher = self.probe.create_publisher(kind, topic, 10)
        self.until(lambda: publisher.get_subscription_count() > 0 and any(
            subscription.get_publisher_count() for subscription in self.node.subscriptions
            if subscription.topic_name == publisher.topic_name))
        return publisher

    def until(self, condition: Callable[[], object], timeout: float = 60.) -> None:
        """Spin until a condition holds; fail if it does not in time."""
        end = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < end, f'not within {timeout} s'
            self.executor.spin_once(timeout_sec=0.05)

    def spin(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.executor.spin_once(timeout_sec=0.02)

    def call(self, kind: type, service: str, request: object = None, timeout: float = 60.) -> object:
        client = self.probe.create_client(kind, service)
        self.until(client.service_is_ready)
        future = client.call_async(request or kind.Request())
        self.until(future.done, timeout)
        return future.result()

    def up(self) -> Graph:
        assert self.node.bring_up()
        return self


@contextmanager
def private_graph(parameters: dict | None = None, namespace: str = ''):
    """Give a Graph in a context and a domain of its own."""
    context = Context()
    rclpy.init(args=[], context=context, domain_id=next(_domains))
    graph = Graph(context, parameters or {}, namespace)
    try:
        yield graph
    finally:
        graph.close()
        rclpy.shutdown(context=context)


def stamp_of(message) -> int:
    """Give a message's stamp in nanoseconds."""
    return messages.to_nanoseconds(message.header.stamp)


def by_stamp(received: list) -> dict:
    """Give messages by their stamps."""
    return {stamp_of(message): message for message in received}


def odometry(seconds: float, x: float, frame: str = 'odom', child: str = 'base_link') -> Odometry:
    """Give odometry of a robot that looks ahead, `x` metres from the origin."""
    message = Odometry(child_frame_id=child)
    message.header.frame_id, message.header.stamp = frame, messages.to_stamp(round(seconds * 1e9))
    message.pose.pose.position.x = x
    message.pose.pose.orientation.w = 1.
    return message


def matrix_of(transform) -> np.ndarray:
    """Give a transform message as a matrix [4, 4]."""
    pose = Pose()
    pose.position.x, pose.position.y, pose.position.z = (
        transform.translation.x, transform.translation.y, transform.translation.z)
    pose.orientation = transform.rotation
    return messages.from_pose(pose)
