# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The driver process: waits until the node is active and its camera shows, then drives it along a scripted path.

It prints `driving` with the first command. After the last it puts the robot back at the start by `initialpose`, as one
does in RViz, and prints `done`.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from typing import TYPE_CHECKING

from inspatio_ros.demo.paths import scripted_twist
from inspatio_ros.demo.topics import COMMAND, INFO, INITIAL_POSE

if TYPE_CHECKING:
    from rclpy.node import Node
    from rclpy.publisher import Publisher

#: Commands per second, as of a usual teleoperation.
COMMAND_RATE = 20.

MAP_FRAME = 'map'
#: Seconds to wait until the node and the recorder both listen.
MATCHING_TIMEOUT = 5.
#: Seconds in which the robot can be seen back at the start.
LINGER = 1.


def main(argv: list[str] | None = None) -> int:
    """Run the driver until its script is done."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--node', required=True, help='name of the node to be driven')
    parser.add_argument('--duration', type=float, required=True, help='seconds of driving')
    args = parser.parse_args(argv)
    import rclpy
    from rclpy.signals import SignalHandlerOptions
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    signal.signal(signal.SIGINT, lambda *_: sys.exit(0))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    node = rclpy.create_node('inspatio_demo_driver')
    wait_until_active(node, args.node)
    wait_for_frame(node)
    print('driving', flush=True)
    drive(node, args.duration)
    go_home(node)
    print('done', flush=True)
    node.destroy_node()
    rclpy.shutdown()
    return 0


def wait_until_active(node: Node, name: str) -> None:
    """Block until the lifecycle node `name` is active; whoever started us sets the time limit."""
    import rclpy
    from lifecycle_msgs.msg import State
    from lifecycle_msgs.srv import GetState
    client = node.create_client(GetState, f'{name}/get_state')
    while True:
        if client.wait_for_service(timeout_sec=0.5):
            future = client.call_async(GetState.Request())
            rclpy.spin_until_future_complete(node, future, timeout_sec=2.)
            answer = future.result()
            if answer is not None and answer.current_state.id == State.PRIMARY_STATE_ACTIVE:
                return
        time.sleep(0.1)


def wait_for_frame(node: Node) -> None:
    """Block until the camera shows something: the first block takes as long as any, and nobody drives blind."""
    import rclpy
    from sensor_msgs.msg import CameraInfo
    seen = []
    subscription = node.create_subscription(CameraInfo, INFO, seen.append, 1)
    while not seen:
        rclpy.spin_once(node, timeout_sec=0.1)
    node.destroy_subscription(subscription)


def drive(node: Node, duration: float) -> None:
    """Publish the scripted commands for `duration` seconds."""
    from geometry_msgs.msg import Twist
    publisher = node.create_publisher(Twist, COMMAND, 10)
    await_listeners(publisher)
    start = time.monotonic()
    while (elapsed := time.monotonic() - start) <= duration:
        twist = Twist()
        twist.linear.x, twist.linear.y, twist.angular.z = scripted_twist(elapsed, duration)
        publisher.publish(twist)
        time.sleep(1. / COMMAND_RATE)


def await_listeners(publisher: Publisher) -> None:
    """Block until the node and the recorder both listen: what is said before is lost."""
    end = time.monotonic() + MATCHING_TIMEOUT
    while publisher.get_subscription_count() < 2 and time.monotonic() < end:
        time.sleep(0.02)


def go_home(node: Node) -> None:
    """Put the robot back where it started."""
    from geometry_msgs.msg import PoseWithCovarianceStamped
    publisher = node.create_publisher(PoseWithCovarianceStamped, INITIAL_POSE, 10)
    pose = PoseWithCovarianceStamped()
    pose.header.frame_id = MAP_FRAME
    await_listeners(publisher)
    publisher.publish(pose)
    time.sleep(LINGER)


if __name__ == '__main__':
    sys.exit(main())
