# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The recorder process: subscribes to every topic and writes a rosbag2 folder (mcap), message by message.

Messages are taken as the bytes that came over the wire and go to the file as they are, so that nothing is decoded
and nothing is kept. It prints `ready` when it listens, `frames N` every second, `complete` once something arrived on
every topic, and ends on SIGINT.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from inspatio_ros.demo.topics import IMAGE, TOPICS, Topic

if TYPE_CHECKING:
    from rclpy.node import Node
    from rclpy.qos import QoSProfile
    from rosbags.interfaces import Qos


class BagRecorder:
    """Writes what arrives on topics to a bag; the time of each message is that of its receipt."""

    def __init__(self, folder: Path) -> None:
        from rosbags.rosbag2 import StoragePlugin, Writer
        from rosbags.typesys import Stores, get_typestore
        self._writer = Writer(folder, version=9, storage_plugin=StoragePlugin.MCAP)
        self._writer.open()
        self._typestore = get_typestore(Stores.ROS2_JAZZY)

    def add(self, topic: Topic) -> Callable[[bytes], None]:
        """Give what takes the messages of a topic, as bytes."""
        connection = self._writer.add_connection(topic.name, topic.type, typestore=self._typestore,
                                                 offered_qos_profiles=[_bag_qos(topic)])
        return lambda data: self._writer.write(connection, time.time_ns(), data)

    def close(self) -> None:
        """Finish the bag."""
        self._writer.close()


class Listener:
    """Subscribes to topics and counts what arrives."""

    def __init__(self, node: Node, takers: dict[Topic, Callable[[bytes], None]]) -> None:
        """`takers`: what to do with the messages of each topic."""
        self.counts = {topic.name: 0 for topic in takers}
        for topic, taker in takers.items():
            node.create_subscription(topic.message, topic.name, self._counted(topic.name, taker),
                                     _subscription_qos(topic), raw=True)

    def _counted(self, name: str, taker: Callable[[bytes], None]) -> Callable[[bytes], None]:
        def take(data: bytes) -> None:
            taker(data)
            self.counts[name] += 1
        return take


def _subscription_qos(topic: Topic) -> QoSProfile:
    from rclpy.qos import DurabilityPolicy, QoSProfile
    durability = DurabilityPolicy.TRANSIENT_LOCAL if topic.latched else DurabilityPolicy.VOLATILE
    return QoSProfile(depth=topic.depth, durability=durability)


def _bag_qos(topic: Topic) -> Qos:
    """Describe the publisher to the bag, so that playing it latches what was latched."""
    from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
    durability = QosDurability.TRANSIENT_LOCAL if topic.latched else QosDurability.VOLATILE
    forever = QosTime(sec=9223372036, nsec=854775807)
    return Qos(QosHistory.KEEP_LAST, topic.depth, QosReliability.RELIABLE, durability, forever, forever,
               QosLiveliness.AUTOMATIC, forever, avoid_ros_namespace_conventions=False)


def main(argv: list[str] | None = None) -> int:
    """Record until SIGINT or SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--bag', type=Path, help='folder to be made; without it, what arrives is counted and dropped')
    args = parser.parse_args(argv)
    from inspatio_ros.ros import transport
    transport.prepare()
    import rclpy
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.signals import SignalHandlerOptions
    stopped = []
    for sign in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sign, lambda *_: stopped.append(True))
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    node = rclpy.create_node('inspatio_demo_recorder')
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    recorder = BagRecorder(args.bag) if args.bag else None
    listener = Listener(node, {topic: recorder.add(topic) if recorder else len for topic in TOPICS})
    print('ready', flush=True)
    spoken, complete = time.monotonic(), False
    while not stopped:
        executor.spin_once(timeout_sec=0.1)
        if time.monotonic() - spoken > 1.:
            spoken = time.monotonic()
            print(f'frames {listener.counts[IMAGE]}', flush=True)
            if not complete and all(listener.counts.values()):
                complete = True
                print('complete', flush=True)
    if recorder is not None:
        recorder.close()
    executor.shutdown()
    node.destroy_node()
    rclpy.shutdown()
    return 0


if __name__ == '__main__':
    sys.exit(main())
