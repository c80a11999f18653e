# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What the node publishes: topics of one frame, transforms, the map."""

from __future__ import annotations

import threading

import numpy as np
import pytest

pytest.importorskip('rclpy')

import rclpy  # noqa: E402
from nav_msgs.msg import Odometry  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.lifecycle import TransitionCallbackReturn  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from ros_graph import by_stamp, matrix_of, private_graph, stamp_of  # noqa: E402
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2  # noqa: E402
from std_srvs.srv import Trigger  # noqa: E402

from inspatio_ros.ros import readers, tf  # noqa: E402
from inspatio_ros.ros.world_map import default_map_file  # noqa: E402
from inspatio_ros.spatial.clearance import clearance_of  # noqa: E402

SUCCESS = TransitionCallbackReturn.SUCCESS
CAMERA_TOPICS = {
    'camera/image_raw': Image, 'camera/image_raw/compressed': CompressedImage, 'camera/camera_info': CameraInfo,
    'camera/depth/image': Image, 'camera/depth/camera_info': CameraInfo, 'camera/points': PointCloud2,
    'camera/mask': Image, 'camera/condition': Image}


def test_topics_of_one_frame_belong_together():
    with private_graph() as graph:
        received = {topic: graph.listen(kind, topic) for topic, kind in CAMERA_TOPICS.items()}
        moving = graph.listen(tf.TFMessage, '/tf') if tf.TFMessage else None
        awaited = [*received.values(), *([] if moving is None else [moving])]
        graph.up()
        graph.until(lambda: all(len(got) >= 8 for got in awaited))
        graph.spin(0.2)
        stamps = [stamp_of(message) for message in received['camera/image_raw']]
        assert (np.diff(stamps) > 0).all()
        assert all(message.header.frame_id == 'camera_optical_frame' for got in received.values() for message in got)
        common = set.intersection(*(set(by_stamp(got)) for got in received.values()))
        assert len(common) >= 6
        if moving is not None:
            # Topics are found one by one: frames may come before the first transform that is heard, none after it.
            heard = {stamp_of(transform) for message in moving for transform in message.transforms}
            shown = {stamp for stamp in common if stamp >= min(heard)}
            assert len(shown) >= 6 and shown <= heard
        frame = {topic: by_stamp(got)[max(common)] for topic, got in received.items()}
    _check_frame(frame)


def _check_frame(frame: dict) -> None:
    """Depth, cloud, intrinsics, mask and images of one frame say the same."""
    info = frame['camera/camera_info']
    assert (info.width, info.height) == (96, 64) and frame['camera/depth/camera_info'].p.tolist() == info.p.tolist()
    image = readers.read_image(frame['camera/image_raw'])
    z_depth = readers.read_image(frame['camera/depth/image'])
    mask = readers.read_image(frame['camera/mask'])
    condition = readers.read_image(frame['camera/condition'])
    assert image.shape == (64, 96, 3) and condition.shape == image.shape and mask.shape == (64, 96) == z_depth.shape
    assert set(np.unique(mask)) <= {0, 255} and (mask == 255).mean() > 0.5
    assert not condition[mask == 0].any(), 'holes of the condition are black'
    assert np.isfinite(z_depth[mask == 255]).all(), 'what was seen has a depth'
    xyz, rgb = readers.read_points(frame['camera/points'])
    assert len(xyz) == np.isfinite(z_depth).sum() and np.isfinite(xyz).all()
    pixels = xyz @ np.reshape(info.p, (3, 4))[:, :3].T
    at = np.rint(pixels[:, :2] / pixels[:, 2:]).astype(int)
    np.testing.assert_allclose(at, pixels[:, :2] / pixels[:, 2:], atol=0.01)
    np.testing.assert_array_equal(z_depth[at[:, 1], at[:, 0]], xyz[:, 2])
    np.testing.assert_array_equal(image[at[:, 1], at[:, 0]], rgb)
    jpeg = readers.read_compressed(frame['camera/image_raw/compressed'])
    assert np.abs(jpeg.astype(int) - image).mean() < 12


def test_nothing_is_made_that_nobody_hears():
    with private_graph() as graph:
        odom = graph.listen(Odometry, 'odom')
        graph.up()
        graph.until(lambda: len(odom) > 8)
        assert graph.node.worker.report().blocks == 0
        images = graph.listen(Image, 'camera/image_raw')
        graph.until(lambda: len(images) > 4)
        report = graph.node.worker.report()
        assert report.blocks > 0
        assert graph.node.camera.camera._ready.of['camera/points'].width == 0, 'no cloud was built'


def test_images_can_be_made_though_nobody_hears_them():
    with private_graph({'idle_unheard': False}) as graph:
        graph.up()
        graph.until(lambda: graph.node.worker.report().blocks > 1)


def test_the_sample_is_shown_with_known_geometry_in_the_way():
    with private_graph({'reference': 'sample', 'clearance.enabled': True}) as graph:
        images = graph.listen(Image, 'camera/image_raw')
        graph.up()
        world = graph.node._world
        obstacles = world.drive._driver.clearance.obstacles
        assert len(obstacles) > 50
        np.testing.assert_array_equal(obstacles, clearance_of(
            world.simulator.reference, world.start, graph.node.settings.clearance_radius).obstacles)
        graph.until(lambda: len(images) > 10)
        # Never faster than the rate asked for.
        assert np.median(np.diff([stamp_of(image) for image in images])) >= 0.95 * 50e6


@pytest.mark.skipif(tf.TFMessage is None, reason='tf2_msgs is not built')
@pytest.mark.parametrize('mount', [None, ([0.1, 0.2, 0.5], [0., 0.3, 0.4])], ids=['reference', 'given'])
def test_transforms_lead_from_the_map_to_the_lens(mount):
    given = {} if mount is None else {'mount.source': 'given', 'mount.xyz': mount[0], 'mount.rpy': mount[1]}
    with private_graph(given) as graph:
        moving, static = graph.listen(tf.TFMessage, '/tf'), graph.listen(tf.TFMessage, '/tf_static', latched=True)
        graph.up()
        graph.until(lambda: moving and static)
        links = {(t.header.frame_id, t.child_frame_id): t for message in (moving[0], static[0])
                 for t in message.transforms}
        assert set(links) == {('map', 'odom'), ('odom', 'base_link'), ('base_link', 'camera_link'),
                              ('camera_link', 'camera_optical_frame')}
        T = np.eye(4)
        for link in (('map', 'odom'), ('odom', 'base_link'), ('base_link', 'camera_link'),
                     ('camera_link', 'camera_optical_frame')):
            T = T @ matrix_of(links[link].transform)
        start, first = graph.node._world.start, graph.node._world.simulator.reference.T_world_camera[0]
        if mount is None:
            np.testing.assert_allclose(start.T_world_map @ T, first, atol=1e-6)
            return
        np.testing.assert_allclose((start.T_world_map @ T)[:3, 3], first[:3, 3], atol=1e-6)
        link = matrix_of(links['base_link', 'camera_link'].transform)
        np.testing.assert_allclose(link[:3, 3], mount[0], atol=1e-6)
        # Fixed axes x, y, z as in URDF: pitched by 0.3 downwards, then turned left by 0.4.
        forward = np.array([np.cos(0.3) * np.cos(0.4), np.cos(0.3) * np.sin(0.4), -np.sin(0.3)])
        np.testing.assert_allclose(link[:3, 0], forward, atol=1e-6)
        np.testing.assert_allclose(link[:3, 1], [-np.sin(0.4), np.cos(0.4), 0.], atol=1e-6)


@pytest.mark.skipif(tf.TFMessage is None, reason='tf2_msgs is not built')
def test_names_and_frames_take_namespace_and_prefix():
    with private_graph({'frame_prefix': 'robot1/'}, namespace='/robot1') as graph:
        images = graph.listen(Image, '/robot1/camera/image_raw')
        moving = graph.listen(tf.TFMessage, '/tf')
        graph.up()
        graph.until(lambda: images and moving)
        assert images[0].header.frame_id == 'robot1/camera_optical_frame'
        assert [t.child_frame_id for t in moving[0].transforms] == ['robot1/odom', 'robot1/base_link']
        assert graph.call(Trigger, '/robot1/inspatio/pause').success
        names = [name for name, _ in graph.probe.get_topic_names_and_types()]
        assert not any('robot1/robot1' in name or 'camera/camera/' in name for name in names)


@pytest.mark.skipif(tf.TFMessage is None, reason='tf2_msgs is not built')
def test_transforms_can_be_left_to_others():
    with private_graph({'publish_tf': False}) as graph:
        moving, static = graph.listen(tf.TFMessage, '/tf'), graph.listen(tf.TFMessage, '/tf_static', latched=True)
        odom = graph.listen(Odometry, 'odom')
        graph.up()
        graph.until(lambda: len(odom) > 5 and static)
        assert not moving


@pytest.mark.skipif(tf.TFMessage is None, reason='tf2_msgs is not built')
def test_the_map_can_be_left_to_slam_and_the_mount_to_the_robots_description():
    with private_graph({'publish_map_tf': False, 'publish_mount_tf': False}) as graph:
        moving, static = graph.listen(tf.TFMessage, '/tf'), graph.listen(tf.TFMessage, '/tf_static', latched=True)
        graph.up()
        graph.until(lambda: len(moving) > 5)
        assert {(t.header.frame_id, t.child_frame_id) for message in moving for t in message.transforms} == {
            ('odom', 'base_link')}
        assert not static


def test_map_is_latched_and_saved(tmp_path):
    pytest.importorskip('open3d', exc_type=ImportError)
    path = tmp_path / 'deep' / 'room.ply'
    with private_graph({'map.voxel_size': 0.1, 'map.max_frames': 4, 'map.file': str(path)}) as graph:
        graph.up()
        graph.spin(1.3)
        assert graph.node.camera._map_future is None, 'nobody asked for the map'
        early = graph.listen(PointCloud2, 'map_points', latched=True)
        graph.until(lambda: early, timeout=60.)
        xyz, rgb = readers.read_points(early[0])
        assert early[0].header.frame_id == 'map' and len(xyz) > 500 and rgb.std() > 5
        # The start camera looks along x from a metre above the map's origin, which is 0.2 m above the room's floor.
        assert xyz[:, 0].min() > -0.5 and np.percentile(xyz[:, 2], 1) == pytest.approx(-0.2, abs=0.1)
        late = graph.listen(PointCloud2, '/map_points', latched=True)
        graph.until(lambda: late)
        np.testing.assert_array_equal(readers.read_points(late[0])[0], xyz)
        answer = graph.call(Trigger, 'inspatio/save_map')
        assert answer.success and str(path) in answer.message, answer.message
        assert path.read_bytes().startswith(b'ply') and [entry.name for entry in path.parent.iterdir()] == ['room.ply']
        assert graph.node.set_parameters([Parameter('map.file', value='/proc/no/room.ply')])[0].successful
        answer = graph.call(Trigger, 'inspatio/save_map')
        assert not answer.success and '/proc/no/room.ply' in answer.message


def test_frames_go_on_while_the_map_is_saved(tmp_path):
    """The executor spins as the node's own does: it looks up only when something happens."""
    with private_graph({'map.file': str(tmp_path / 'room.ply'), 'map.voxel_size': 0.05}) as graph:
        images = graph.listen(Image, 'camera/image_raw')
        alone = SingleThreadedExecutor(context=graph.node.context)
        graph.executor.remove_node(graph.node)
        alone.add_node(graph.node)
        assert graph.node.bring_up()
        thread = threading.Thread(target=alone.spin)
        thread.start()
        try:
            graph.until(lambda: images)
            client = graph.probe.create_client(Trigger, 'inspatio/save_map')
            graph.until(client.service_is_ready)
            answer, before = client.call_async(Trigger.Request()), len(images)
            graph.until(lambda: answer.done() and len(images) > before + 5, timeout=60.)
            assert answer.result().success, answer.result().message
        finally:
            alone.shutdown()
            thread.join(10.)


def test_reliability_can_be_overridden():
    with private_graph({'qos_overrides./camera/image_raw.publisher.reliability': 'best_effort',
                        'qos_overrides./camera/image_raw.publisher.depth': 2}) as graph:
        assert graph.node.trigger_configure() == SUCCESS
        def reliability(topic):
            return graph.probe.get_publishers_info_by_topic(topic)[0].qos_profile.reliability
        graph.until(lambda: graph.probe.get_publishers_info_by_topic('/camera/mask'))
        assert reliability('/camera/image_raw') == rclpy.qos.ReliabilityPolicy.BEST_EFFORT
        assert reliability('/camera/mask') == rclpy.qos.ReliabilityPolicy.RELIABLE


def test_overrides_that_no_topic_takes_are_told(capfd):
    names = [f'qos_overrides.{topic}.publisher.reliability' for topic in ('/camera/image_raw', '/robot1/camera/mask')]
    with private_graph(dict.fromkeys(names, 'best_effort'), namespace='/robot1') as graph:
        assert graph.node.trigger_configure() == SUCCESS
        said = capfd.readouterr().err
        assert f'{names[0]} changes nothing' in said and names[1] not in said


def test_robots_on_one_machine_save_their_maps_apart(monkeypatch, tmp_path):
    monkeypatch.setenv('ROS_HOME', str(tmp_path))
    assert [default_map_file(namespace).name for namespace in ('/', '/robot1', '/fleet/robot2')] == [
        'inspatio_map.ply', 'inspatio_map_robot1.ply', 'inspatio_map_fleet_robot2.ply']
    assert default_map_file().parent == tmp_path
