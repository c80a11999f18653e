# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The executable `inspatio_node`: one node, brought up by itself unless `autostart` is false.

Ctrl-C ends it with exit code 0 and without a traceback; what keeps it from starting is one line and exit code 1.
"""

from __future__ import annotations

import os
import signal
import sys

import rclpy
from rclpy.exceptions import ROSInterruptException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor

from inspatio_ros.errors import ConfigurationError
from inspatio_ros.ros import transport
from inspatio_ros.ros.node import InspatioNode


def main(args: list[str] | None = None) -> int:
    """Run the node until it is told to end."""
    undone = transport.prepare()
    try:
        rclpy.init(args=args)
    except KeyboardInterrupt:
        return 0
    except Exception as error:  # noqa: BLE001 - of many kinds: arguments, a parameter file, a name
        # There is no logger yet.
        print(f'inspatio_node: ROS does not start: {" ".join(str(error).split())}', file=sys.stderr)
        return 1
    node, code = None, 0
    try:
        node = InspatioNode()
        if undone:
            node.get_logger().warning(undone)
        code = _spin(node)
    except (KeyboardInterrupt, ExternalShutdownException, ROSInterruptException):
        pass
    except ConfigurationError as error:
        rclpy.logging.get_logger('inspatio').error(str(error))
        code = error.exit_code
    except Exception:  # noqa: BLE001
        # ROS that ended in the middle of a callback makes whatever that does next fail.
        if rclpy.ok():
            raise
    finally:
        # A second Ctrl-C would end the teardown in the middle of it.
        for sign in (signal.SIGINT, signal.SIGTERM):
            signal.signal(sign, signal.SIG_IGN)
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()
    if node is not None and node.left_behind:
        # A thread that is inside torch would crash the interpreter as that is taken down.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def _spin(node: InspatioNode) -> int:
    if node.settings.autostart and not node.bring_up():
        # ROS that ended while loading is no failure: someone pressed Ctrl-C.
        return 1 if rclpy.ok() else 0
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    executor.spin()
    return 0


if __name__ == '__main__':
    sys.exit(main())
