# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Measure what the node adds to a frame, and whether frames get lost on the way to another process.

Frames are made once, by the render generator, and shown again and again through the node's own publishers, so that no
figure depends on how fast they were made. The subscribers are another process, `python -m inspatio_ros.ros.bench`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import rclpy
from nav_msgs.msg import Odometry, Path
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile

from inspatio_ros.demo.processes import free_domain
from inspatio_ros.errors import ConfigurationError
from inspatio_ros.ros import tf, transport
from inspatio_ros.ros.node import InspatioNode
from inspatio_ros.ros.publishers import CAMERA_TOPICS
from inspatio_ros.ros.virtual_camera import VirtualCamera
from inspatio_ros.ros.world import Frame

#: Frames that are shown before anything is timed: the first message of a type costs 50 ms.
_WARM_UP = 24
#: Seconds that subscribers may take to appear, and the last messages to arrive.
_PATIENCE = 30.


def all_topics() -> dict[str, type]:
    """Give every topic that the node publishes with a frame, and its type."""
    topics = CAMERA_TOPICS | {'odom': Odometry, 'path': Path}
    return topics | ({'/tf': tf.TFMessage} if tf.TFMessage else {})


def measure_overhead(width: int = 832, height: int = 480, frames: int = 240, rate: float = 24.) -> dict[str, Any]:
    """Time what it takes from a simulator's frame to its published messages, every topic subscribed.

    Milliseconds a frame, at `rate` frames per second: `median` and `p95` of the wall clock, `executor` the processor
    time of the thread that publishes, `cpu` that of all threads of the process, Fast DDS' own among them (both means).
    `received` counts the messages that arrived, by topic.
    """
    topics = all_topics()
    with _shown(width, height, topics) as show:
        _show_paced(show, _WARM_UP, rate)
        cpu, executor = time.process_time(), time.thread_time()
        seconds = _show_paced(show, frames, rate)
        cpu, executor = time.process_time() - cpu, time.thread_time() - executor
        received = show.finish()
    spent = np.array(seconds) * 1e3
    overhead = {'median': float(np.median(spent)), 'p95': float(np.percentile(spent, 95)),
                'executor': executor / frames * 1e3, 'cpu': cpu / frames * 1e3}
    return {'width': width, 'height': height, 'frames': frames, 'rate_hz': rate,
            'overhead_ms': {name: round(value, 3) for name, value in overhead.items()},
            'sent': frames + _WARM_UP, 'received': {topic: len(got) for topic, got in received.items()}}


def measure_delivery(width: int = 832, height: int = 480, rate: float = 24., seconds: float = 20.) -> dict[str, Any]:
    """Count how many images, with their intrinsics, get lost on the way to another process, and how long they take."""
    topics = {name: CAMERA_TOPICS[name] for name in ('camera/image_raw', 'camera/camera_info')}
    frames = round(rate * seconds)
    with _shown(width, height, topics) as show:
        _show_paced(show, frames, rate)
        received = show.finish()
    images = received['camera/image_raw']
    latency = np.array([arrived - stamp for stamp, arrived in images] or [0]) / 1e6
    return {'width': width, 'height': height, 'rate_hz': rate, 'seconds': seconds, 'sent': frames,
            'lost': {topic: frames - len({stamp for stamp, _ in got}) for topic, got in received.items()},
            'in_order': [stamp for stamp, _ in images] == sorted(stamp for stamp, _ in images),
            'latency_ms': {'median': round(float(np.median(latency)), 2),
                           'p95': round(float(np.percentile(latency, 95)), 2)}}


def _show_paced(show: _Show, frames: int, rate: float) -> list[float]:
    """Show frames at a rate; give the seconds that each took."""
    start, spent = time.monotonic(), []
    for i in range(frames):
        time.sleep(max(0., start + i / rate - time.monotonic()))
        begun = time.perf_counter()
        show()
        spent.append(time.perf_counter() - begun)
    return spent


class _Show:
    """Shows the frames of one block in turn, to a process that listens."""

    def __init__(self, camera: VirtualCamera, frames: list[Frame], listener: subprocess.Popen) -> None:
        self._camera, self._frames, self._listener = camera, frames, listener
        self._count = 0

    def __call__(self) -> None:
        self._camera.camera.look()
        self._camera.show(self._next(), time.time_ns())
        self._count += 1
        # As a tick does that finds a frame which is not due yet.
        self._camera.camera.prepare(self._next())

    def _next(self) -> Frame:
        return self._frames[self._count % len(self._frames)]

    def finish(self) -> dict[str, list[list[int]]]:
        """Give [stamp, arrival] of every message that arrived, nanoseconds, by topic."""
        output, _ = self._listener.communicate(str(self._count), timeout=_PATIENCE + 30.)
        return json.loads(output.splitlines()[-1])


@contextmanager
def _shown(width: int, height: int, topics: dict[str, type]) -> Iterator[_Show]:
    transport.prepare()
    os.environ['ROS_DOMAIN_ID'] = str(free_domain())
    os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
    listener = subprocess.Popen([sys.executable, '-m', 'inspatio_ros.ros.bench', *topics], stdin=subprocess.PIPE,
                                stdout=subprocess.PIPE, text=True)
    context = Context()
    rclpy.init(args=[], context=context)
    parameters = {'width': width, 'height': height, 'clearance.enabled': False, 'idle_unheard': False}
    node = InspatioNode(context=context, use_global_arguments=False,
                        parameter_overrides=[Parameter(name, value=value) for name, value in parameters.items()])
    try:
        if node.trigger_configure() != TransitionCallbackReturn.SUCCESS:
            raise ConfigurationError('the node could not be configured; it said why')
        frames = _make_frames(node)
        _wait_for(node, topics)
        yield _Show(node.camera, frames, listener)
    finally:
        listener.kill()
        node.destroy_node()
        rclpy.shutdown(context=context)


def _make_frames(node: InspatioNode) -> list[Frame]:
    """Take one block's frames from the node's own worker, which then rests; nothing but us shows them."""
    if node.trigger_activate() != TransitionCallbackReturn.SUCCESS:
        raise ConfigurationError('the node could not be activated')
    frames: list[Frame] = []
    end = time.monotonic() + _PATIENCE
    while not frames or len(frames) < frames[0].count:
        if time.monotonic() > end:
            raise ConfigurationError(f'no frame was made within {_PATIENCE:.0f} s')
        frame = node.worker.take()
        frames += [] if frame is None else [frame]
        time.sleep(0.01)
    node.camera.deactivate()
    _wait_until_idle()
    return frames


def _wait_until_idle() -> None:
    """Wait until nothing in this process works in the background any more: the sample casts its frames ahead."""
    end = time.monotonic() + 2 * _PATIENCE
    while time.monotonic() < end:
        before = time.process_time()
        time.sleep(0.5)
        if time.process_time() - before < 0.05:
            return


def _wait_for(node: InspatioNode, topics: dict[str, type]) -> None:
    end = time.monotonic() + _PATIENCE
    while not all(node.count_subscribers(topic) for topic in topics):
        if time.monotonic() > end:
            raise ConfigurationError(f'the subscribers did not appear within {_PATIENCE:.0f} s')
        time.sleep(0.05)
    # Both sides must have matched, and this side has only seen that the other exists.
    time.sleep(1.)


def listen(topics: list[str]) -> None:
    """Subscribe until stdin says how many frames there were and they are here, or stay away; print what arrived."""
    import select
    rclpy.init(args=[])
    node = rclpy.create_node('inspatio_bench_listener')
    received: dict[str, list[tuple[int, int]]] = {topic: [] for topic in topics}
    kinds = all_topics()
    for topic in topics:
        # The stamp is what every message begins with, behind how it is laid out and, for lists, how long it is.
        offset = 8 if topic == '/tf' else 4
        node.create_subscription(
            kinds[topic], topic, lambda raw, topic=topic, offset=offset: received[topic].append(_arrival(raw, offset)),
            QoSProfile(depth=50), raw=True)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    while not select.select([sys.stdin], [], [], 0)[0]:
        executor.spin_once(timeout_sec=0.05)
    wanted, end = int(sys.stdin.read()), time.monotonic() + 2.
    while time.monotonic() < end and any(len(got) < wanted for got in received.values()):
        executor.spin_once(timeout_sec=0.05)
    print(json.dumps(received), flush=True)
    node.destroy_node()
    rclpy.shutdown()


def _arrival(raw: bytes, offset: int) -> tuple[int, int]:
    """Give the stamp that lies at `offset` in a message's bytes, and now; nanoseconds."""
    seconds, nanoseconds = np.frombuffer(raw, dtype='<u4', count=2, offset=offset)
    return int(seconds) * 10**9 + int(nanoseconds), time.time_ns()


def main(argv: list[str] | None = None) -> int:
    """Be the process that listens; without topics, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('topics', nargs='*', help='topics to listen to')
    topics = parser.parse_args(argv).topics
    if topics:
        listen(topics)
    else:
        print(json.dumps({'overhead': measure_overhead(), 'delivery': measure_delivery()}, indent=2))
    return 0


if __name__ == '__main__':
    sys.exit(main())
