# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The demo: its parts on real ROS 2, and the whole of it in its three processes."""

from __future__ import annotations

import time

import numpy as np
import pytest

pytest.importorskip('rclpy')
pytest.importorskip('tf2_msgs')


def publish_frames(domain: int, frames: int) -> None:
    """Publish a latched transform, then images with rising stamps, each of one grey."""
    import rclpy
    from rclpy.qos import DurabilityPolicy, QoSProfile
    from sensor_msgs.msg import Image
    from tf2_msgs.msg import TFMessage
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=domain, args=[])
    node = rclpy.create_node('publisher', context=context)
    latched = node.create_publisher(TFMessage, '/tf_static',
                                    QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL))
    latched.publish(TFMessage())
    publisher = node.create_publisher(Image, '/camera/image_raw', 10)
    end = time.monotonic() + 10
    while not publisher.get_subscription_count() and time.monotonic() < end:
        time.sleep(0.02)
    for i in range(frames):
        image = Image(height=16, width=32, step=96, encoding='rgb8')
        image.header.stamp.sec, image.header.stamp.nanosec = 7, i * 10**7
        image.data.frombytes(np.full(16 * 96, i, np.uint8).tobytes())
        publisher.publish(image)
        time.sleep(0.01)
    assert publisher.wait_for_all_acked(rclpy.duration.Duration(seconds=5))
    time.sleep(0.3)
    node.destroy_node()
    rclpy.shutdown(context=context)


def test_the_recorder_writes_what_came_over_the_wire(tmp_path, monkeypatch) -> None:
    import yaml
    from rosbags.rosbag2 import Reader
    from rosbags.typesys import Stores, get_typestore

    from inspatio_ros.demo.processes import Child, free_domain, private_ros_env
    from inspatio_ros.demo.recording import Recording
    domain = free_domain()
    env = private_ros_env(tmp_path, domain)
    monkeypatch.setenv('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    monkeypatch.setenv('ROS_LOG_DIR', str(tmp_path))
    recorder = Child('recorder', 'inspatio_ros.demo.recorder', ['--bag', str(tmp_path / 'bag')],
                     tmp_path / 'recorder.log', env)
    try:
        recorder.wait_for('ready', 30)
        publish_frames(domain, 40)
    finally:
        code = recorder.stop()
    assert code == 0, recorder.last(20)
    decode = get_typestore(Stores.ROS2_JAZZY).deserialize_cdr
    with Reader(tmp_path / 'bag') as reader:
        images = [decode(data, connection.msgtype) for connection, _, data in reader.messages()
                  if connection.topic == '/camera/image_raw']
        latched = next(c for c in reader.connections if c.topic == '/tf_static')
        assert latched.msgcount == 1 and latched.ext.offered_qos_profiles[0].durability.name == 'TRANSIENT_LOCAL'
    assert [(image.header.stamp.nanosec // 10**7, *np.unique(image.data)) for image in images] == [
        (i, i) for i in range(40)]
    metadata = yaml.safe_load((tmp_path / 'bag' / 'metadata.yaml').read_text())['rosbag2_bagfile_information']
    assert (metadata['storage_identifier'], metadata['message_count']) == ('mcap', 41)
    with Recording(tmp_path / 'bag') as recording:
        assert recording.timeline().stamps.tolist() == [7 * 10**9 + i * 10**7 for i in range(40)]
        assert recording.image_size() == (32, 16)
