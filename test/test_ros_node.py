# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The node in a graph of its own: lifecycle, driving, topics, services, parameters."""

from __future__ import annotations

import time

import numpy as np
import pytest

pytest.importorskip('rclpy')

import rclpy  # noqa: E402
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus  # noqa: E402
from faulty_recordings import FAULTS, write_faulty, write_truncated_weights  # noqa: E402
from geometry_msgs.msg import PoseWithCovarianceStamped, Twist, TwistStamped  # noqa: E402
from lifecycle_msgs.srv import ChangeState, GetState  # noqa: E402
from nav_msgs.msg import Odometry, Path  # noqa: E402
from rcl_interfaces.srv import DescribeParameters, SetParameters  # noqa: E402
from rclpy.lifecycle import TransitionCallbackReturn  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from ros_graph import private_graph, small_recording  # noqa: E402
from rosgraph_msgs.msg import Clock  # noqa: E402
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2  # noqa: E402
from std_srvs.srv import Trigger  # noqa: E402

from inspatio_ros.errors import ConfigurationError  # noqa: E402
from inspatio_ros.ros import messages, readers, tf  # noqa: E402
from inspatio_ros.ros.parameters import CONFIGURE, LIVE, START, specs  # noqa: E402

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE

CAMERA_TOPICS = {
    'camera/image_raw': Image, 'camera/image_raw/compressed': CompressedImage, 'camera/camera_info': CameraInfo,
    'camera/depth/image': Image, 'camera/depth/camera_info': CameraInfo, 'camera/points': PointCloud2,
    'camera/mask': Image, 'camera/condition': Image}


@pytest.fixture(autouse=True)
def _quiet_ros(tmp_path_factory, monkeypatch):
    monkeypatch.setenv('ROS_LOG_DIR', str(tmp_path_factory.getbasetemp() / 'ros_log'))
    monkeypatch.setenv('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')


def stamp_of(message) -> int:
    return messages.to_nanoseconds(message.header.stamp)


def by_stamp(received: list) -> dict:
    return {stamp_of(message): message for message in received}


def odometry(seconds: float, x: float, frame: str = 'odom', child: str = 'base_link') -> Odometry:
    message = Odometry(child_frame_id=child)
    message.header.frame_id, message.header.stamp = frame, messages.to_stamp(round(seconds * 1e9))
    message.pose.pose.position.x = x
    message.pose.pose.orientation.w = 1.
    return message


# --- lifecycle ------------------------------------------------------------------------------------------------------

def test_lifecycle_there_and_back_twice():
    with private_graph() as graph:
        images = graph.listen(Image, 'camera/image_raw')
        node = graph.node
        for _ in range(2):
            assert node.trigger_configure() == SUCCESS
            graph.spin(0.2)
            assert not images, 'an inactive node publishes nothing'
            assert node.trigger_activate() == SUCCESS
            graph.until(lambda: len(images) >= 4)
            assert node.trigger_deactivate() == SUCCESS
            graph.spin(0.1)
            count = len(images)
            graph.spin(0.3)
            assert len(images) == count
            assert node.trigger_activate() == SUCCESS
            graph.until(lambda count=count: len(images) >= count + 4)
            assert node.trigger_deactivate() == SUCCESS
            assert node.trigger_cleanup() == SUCCESS
            graph.spin(0.1)
            images.clear()
        topics = {name for name, _ in graph.probe.get_topic_names_and_types()}
        assert node.count_publishers('camera/image_raw') == 0 and '/diagnostics' in topics


def test_lifecycle_by_its_services():
    with private_graph() as graph:
        for transition, state in (('configure', 'inactive'), ('activate', 'active'), ('deactivate', 'inactive'),
                                  ('cleanup', 'unconfigured')):
            request = ChangeState.Request()
            request.transition.label = transition
            assert graph.call(ChangeState, 'inspatio/change_state', request).success
            assert graph.call(GetState, 'inspatio/get_state').current_state.label == state


@pytest.mark.parametrize(('parameters', 'message'), [
    ({'reference': '/no/such/place'}, '/no/such/place'),
    ({'width': 96, 'height': 64, 'device': 'cuda:77'}, 'cuda:77'),
    ({'generator': '1.3b', 'weights': '/no/such/weights'}, '/no/such/weights'),
    ({'publish_clock': True, 'drive': 'odometry'}, 'publish_clock needs drive: twist'),
])
def test_configure_is_refused_with_one_line(parameters, message, capfd):
    with private_graph(parameters) as graph:
        assert graph.node.trigger_configure() == FAILURE
        assert graph.call(GetState, 'inspatio/get_state').current_state.label == 'unconfigured'
        errors = [line for line in capfd.readouterr().err.splitlines() if 'ERROR' in line]
        assert len(errors) == 1 and message in errors[0], errors
        # It can be mended without starting anew.
        good = {'reference': small_recording(), 'generator': 'render', 'weights': '', 'device': 'auto',
                'drive': 'twist', 'publish_clock': False}
        for name, default in good.items():
            assert graph.node.set_parameters([Parameter(name, value=default)])[0].successful
        assert graph.node.trigger_configure() == SUCCESS


def test_configure_names_the_fault_of_any_recording_and_of_weights(tmp_path, capfd):
    def refused(**parameters):
        assert all(result.successful for result in graph.node.set_parameters(
            [Parameter(name, value=str(value)) for name, value in parameters.items()]))
        capfd.readouterr()
        assert graph.node.trigger_configure() == FAILURE
        line, = [line for line in capfd.readouterr().err.splitlines() if 'ERROR' in line]
        return line

    with private_graph() as graph:
        for number, (fault, (_, words)) in enumerate(FAULTS.items()):
            (tmp_path / str(number)).mkdir()
            recording = write_faulty(tmp_path / str(number), fault)
            line = refused(reference=recording)
            assert f'cannot configure: {recording}' in line and words in line
        line = refused(reference=small_recording(), generator='nano', weights=write_truncated_weights(tmp_path))
        assert 'transformer.safetensors is truncated' in line
        assert 'is unknown; choose one of auto, cpu, cuda, cuda:1' in refused(generator='render', device='abacus')
        graph.node.set_parameters([Parameter('device', value='cpu')])
        assert graph.node.trigger_configure() == SUCCESS


# --- what is published ----------------------------------------------------------------------------------------------

def test_topics_of_one_frame_belong_together():
    with private_graph() as graph:
        received = {topic: graph.listen(kind, topic) for topic, kind in CAMERA_TOPICS.items()}
        moving = graph.listen(tf.TFMessage, '/tf') if tf.TFMessage else None
        graph.up()
        graph.until(lambda: all(len(got) >= 8 for got in received.values()))
        graph.spin(0.2)
        stamps = [stamp_of(message) for message in received['camera/image_raw']]
        assert (np.diff(stamps) > 0).all()
        assert all(message.header.frame_id == 'camera_optical_frame' for got in received.values() for message in got)
        common = set.intersection(*(set(by_stamp(got)) for got in received.values()))
        assert len(common) >= 6
        if moving is not None:
            assert {stamp_of(transform) for message in moving for transform in message.transforms} >= common
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


def test_the_sample_is_shown_with_known_geometry_in_the_way():
    with private_graph({'reference': 'sample', 'clearance.enabled': True}) as graph:
        images = graph.listen(Image, 'camera/image_raw')
        graph.up()
        assert len(graph.node._world.drive._driver.clearance.obstacles) > 50
        graph.until(lambda: len(images) > 10)
        # Never faster than the rate asked for.
        assert np.median(np.diff([stamp_of(image) for image in images])) >= 0.95 * 50e6


@pytest.mark.skipif(tf.TFMessage is None, reason='tf2_msgs is not built')
def test_transforms_lead_from_the_map_to_the_lens():
    with private_graph() as graph:
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
            T = T @ _matrix(links[link].transform)
        start = graph.node._world.start
        np.testing.assert_allclose(start.T_world_map @ T, graph.node._world.simulator.reference.T_world_camera[0],
                                   atol=1e-6)


def _matrix(transform) -> np.ndarray:
    pose = PoseWithCovarianceStamped().pose.pose
    pose.position.x, pose.position.y, pose.position.z = (
        transform.translation.x, transform.translation.y, transform.translation.z)
    pose.orientation = transform.rotation
    return messages.from_pose(pose)


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


# --- driven by twists -----------------------------------------------------------------------------------------------

def test_twist_moves_the_robot_until_it_times_out():
    with private_graph({'cmd_vel_timeout': 0.3}) as graph:
        odom, paths = graph.listen(Odometry, 'odom'), graph.listen(Path, 'path')
        graph.up()
        twist = Twist()
        twist.linear.x, twist.angular.z = 0.4, 0.2
        publisher = graph.publisher(Twist, 'cmd_vel')
        for _ in range(10):
            publisher.publish(twist)
            graph.spin(0.05)
        graph.until(lambda: odom[-1].twist.twist.linear.x > 0.3)
        assert odom[-1].child_frame_id == 'base_link' and odom[-1].header.frame_id == 'odom'
        graph.until(lambda: odom[-1].twist.twist.linear.x == 0.)
        x = odom[-1].pose.pose.position.x
        assert x > 0.1 and odom[-1].pose.pose.orientation.z > 0.01
        graph.until(lambda: paths and len(paths[-1].poses) >= 2)
        assert paths[-1].header.frame_id == 'map'
        assert (np.diff([stamp_of(message) for message in odom]) > 0).all()


def test_stamped_twists_drive_too_and_nan_is_ignored_once(capfd):
    with private_graph() as graph:
        odom = graph.listen(Odometry, 'odom')
        graph.up()
        publisher = graph.publisher(TwistStamped, 'cmd_vel_stamped')
        bad = TwistStamped()
        bad.twist.linear.x = float('nan')
        for _ in range(3):
            publisher.publish(bad)
            graph.spin(0.1)
        graph.until(lambda: len(odom) > 5)
        assert odom[-1].pose.pose.position.x == 0.
        assert capfd.readouterr().err.count('NaN or infinity is ignored') == 1
        good = TwistStamped()
        good.twist.linear.x = 0.5
        publisher.publish(good)
        graph.until(lambda: odom[-1].pose.pose.position.x > 0.02)


def test_initialpose_moves_the_robot_and_leaves_its_odometry():
    with private_graph() as graph:
        odom = graph.listen(Odometry, 'odom')
        moving = graph.listen(tf.TFMessage, '/tf') if tf.TFMessage else None
        graph.up()
        publisher = graph.publisher(PoseWithCovarianceStamped, 'initialpose')
        target = PoseWithCovarianceStamped()
        target.header.frame_id = 'elsewhere'
        target.pose.pose.position.x, target.pose.pose.position.y = 0.2, -0.3
        target.pose.pose.orientation.z = target.pose.pose.orientation.w = 0.5**0.5
        publisher.publish(target)
        graph.spin(0.3)
        np.testing.assert_array_equal(graph.node._world.drive.plan(1, 0.).T_map_base[0, :2, 3], [0., 0.])
        target.header.frame_id = 'map'
        publisher.publish(target)
        graph.until(lambda: graph.node._world.drive._driver.T_map_base[0, 3] == pytest.approx(0.2))
        T = graph.node._world.drive._driver.T_map_base
        np.testing.assert_allclose(T[:3, 3], [0.2, -0.3, 0.], atol=1e-9)
        np.testing.assert_allclose(T[:2, 0], [0., 1.], atol=1e-9)
        if moving is not None:
            graph.until(lambda: moving[-1].transforms[0].transform.translation.x == pytest.approx(0.2))
        assert odom[-1].pose.pose.position.x == pytest.approx(0., abs=1e-9)


def slowed(graph, seconds: float) -> None:
    """Have each block take longer, as a large generator does."""
    simulator = graph.node._world.simulator
    stream = simulator.stream

    def slow_stream(*args, **kwargs):
        time.sleep(seconds)
        return stream(*args, **kwargs)

    simulator.stream = slow_stream


@pytest.mark.parametrize(('overload', 'share'), [('slow_down', 0.3), ('drop', 1.)])
def test_generation_slower_than_real_time(overload, share):
    """Blocks of 3 frames at 20 Hz take 0.5 s: scene time runs at 0.3 of the clock's speed, or frames are left out."""
    with private_graph({'overload': overload, 'limits.linear_speed': 0.2, 'cmd_vel_timeout': 60.,
                        'limits.linear_acceleration': 1e6}) as graph:
        odom, images = graph.listen(Odometry, 'odom'), graph.listen(Image, 'camera/image_raw')
        diagnostics = graph.listen(DiagnosticArray, '/diagnostics')
        assert graph.node.trigger_configure() == SUCCESS
        slowed(graph, 0.5)
        assert graph.node.trigger_activate() == SUCCESS
        twist = Twist()
        twist.linear.x = 0.2
        # Said until it is heard: a command that is published before the two know each other is lost.
        commands = graph.publisher(Twist, 'cmd_vel')
        graph.until(lambda: commands.publish(twist) or len(images) >= 12 and odom[-1].pose.pose.position.x > 0.02)
        first = len(odom)
        graph.until(lambda: len(odom) >= first + 9)
        start, end = odom[first - 1], odom[-1]
        seconds = (stamp_of(end) - stamp_of(start)) / 1e9
        speed = (end.pose.pose.position.x - start.pose.pose.position.x) / seconds
        assert speed / 0.2 == pytest.approx(share, rel=0.4)
        assert (graph.node.worker.report().left_out > 0) == (overload == 'drop')
        if overload == 'slow_down':
            graph.until(lambda: any('slower than real time' in message.status[0].message for message in diagnostics))


def test_callbacks_do_not_wait_for_the_worker():
    with private_graph() as graph:
        graph.listen(Image, 'camera/image_raw')
        assert graph.node.trigger_configure() == SUCCESS
        slowed(graph, 3.)
        assert graph.node.trigger_activate() == SUCCESS
        graph.spin(0.5)
        longest = 0.
        for service in ('inspatio/reset', 'inspatio/pause', 'inspatio/resume'):
            begun = time.monotonic()
            assert graph.call(Trigger, service).success
            longest = max(longest, time.monotonic() - begun)
        assert longest < 2., 'a block takes three seconds'
        assert graph.node.worker.report().blocks == 0, 'all that happened while the first block was made'


# --- driven by odometry ---------------------------------------------------------------------------------------------

def test_odometry_gives_a_frame_for_each_sample_with_its_stamp():
    with private_graph({'drive': 'odometry'}) as graph:
        images = graph.listen(Image, 'camera/image_raw')
        moving = graph.listen(tf.TFMessage, '/tf') if tf.TFMessage else None
        graph.up()
        publisher = graph.publisher(Odometry, 'odom')
        start = 1000.
        for i in range(41):
            publisher.publish(odometry(start + i * 0.03, 5. + i * 0.01, 'wheel_odom'))
            graph.spin(0.01)
        # 1.2 s of path at 20 Hz are 25 samples: 8 blocks of 3, and one that waits for its block.
        graph.until(lambda: len(images) >= 24)
        graph.spin(0.2)
        expected = [round(start * 1e9) + i * 50_000_000 for i in range(24)]
        assert [stamp_of(image) for image in images] == expected
        if moving is None:
            return
        assert [stamp_of(message.transforms[0]) for message in moving] == expected
        assert all(len(message.transforms) == 1 for message in moving), "odom -> base_link is the robot's own"
        link = moving[-1].transforms[0]
        assert (link.header.frame_id, link.child_frame_id) == ('map', 'wheel_odom')
        np.testing.assert_allclose(_matrix(link.transform)[:3, 3], [-5., 0., 0.], atol=1e-6)


def test_odometry_that_jumps_or_goes_back_is_told_and_survived(capfd):
    with private_graph({'drive': 'odometry'}) as graph:
        images = graph.listen(Image, 'camera/image_raw')
        graph.up()
        publisher = graph.publisher(Odometry, 'odom')
        steps = [(i * 0.05, 0.) for i in range(7)] + [(0.25, 0.), (0.35, 80.)] + [
            (0.35 + i * 0.05, 80.) for i in range(1, 7)]
        for seconds, x in steps:
            publisher.publish(odometry(2000. + seconds, x))
            graph.spin(0.02)
        publisher.publish(odometry(2001., float('nan')))
        graph.until(lambda: len(images) >= 12)
        graph.spin(0.2)
        assert (np.diff([stamp_of(image) for image in images]) > 0).all()
        said = capfd.readouterr().err
        assert said.count('odometry jumped') == 1 and said.count('went back in time') == 1
        assert said.count('holds NaN') == 1
        # Far back, as when a simulator starts anew.
        images.clear()
        for i in range(7):
            publisher.publish(odometry(5. + i * 0.05, 1.))
            graph.spin(0.02)
        graph.until(lambda: len(images) >= 6)
        assert stamp_of(images[0]) == 5 * 10**9
        assert 'clock was set back' in capfd.readouterr().err


def test_odometry_of_another_base_is_told(capfd):
    with private_graph({'drive': 'odometry'}) as graph:
        graph.up()
        publisher = graph.publisher(Odometry, 'odom')
        publisher.publish(odometry(1., 0., child='base_footprint'))
        graph.spin(0.3)
        said = capfd.readouterr().err
        assert "'base_footprint'" in said and "'base_link'" in said


# --- time -----------------------------------------------------------------------------------------------------------

def test_sim_time_paces_frames_and_stamps():
    with private_graph({'use_sim_time': True}) as graph:
        images = graph.listen(Image, 'camera/image_raw')
        graph.up()
        clock = graph.publisher(Clock, '/clock')
        graph.spin(0.3)
        assert not images, 'time stands still'
        now = 50 * 10**9
        for _ in range(40):
            now += 25_000_000
            clock.publish(Clock(clock=messages.to_stamp(now)))
            graph.spin(0.02)
        graph.until(lambda: len(images) >= 15)
        graph.spin(0.2)
        stamps = np.array([stamp_of(image) for image in images])
        assert len(stamps) <= 21, 'a second of simulated time is 20 frames'
        assert (np.diff(stamps) > 0).all()
        assert stamps[0] >= 50 * 10**9 and stamps[-1] <= now


def test_own_clock_advances_with_the_frames():
    with private_graph({'publish_clock': True, 'real_time_factor': 0.}) as graph:
        images, clocks = graph.listen(Image, 'camera/image_raw'), graph.listen(Clock, '/clock')
        graph.up()
        begun = time.monotonic()
        graph.until(lambda: len(images) >= 60)
        elapsed = time.monotonic() - begun
        stamps = [stamp_of(image) for image in images]
        assert (np.diff(stamps) == 50_000_000).all()
        graph.spin(0.1)
        told = {messages.to_nanoseconds(clock.clock) for clock in clocks}
        assert set(stamps) <= told
        assert elapsed < 60 * 0.05, 'faster than real time, as nothing was to hold it back'


# --- services and parameters ----------------------------------------------------------------------------------------

def test_pause_resume_and_reset():
    with private_graph({'cmd_vel_timeout': 60.}) as graph:
        assert not graph.call(Trigger, 'inspatio/reset').success, 'it is not configured'
        odom, images = graph.listen(Odometry, 'odom'), graph.listen(Image, 'camera/image_raw')
        graph.up()
        graph.until(lambda: images)
        first = readers.read_image(images[0])
        twist = Twist()
        twist.linear.x, twist.angular.z = 0.5, 0.5
        publisher = graph.publisher(Twist, 'cmd_vel')
        publisher.publish(twist)
        graph.until(lambda: odom[-1].pose.pose.position.x > 0.05)
        assert graph.call(Trigger, 'inspatio/pause').success
        assert not graph.call(Trigger, 'inspatio/pause').success
        count = len(images)
        graph.spin(0.4)
        assert len(images) <= count + 1
        assert graph.call(Trigger, 'inspatio/resume').success
        graph.until(lambda: len(images) > count + 5)
        # The command of before the pause is forgotten.
        graph.until(lambda: odom[-1].twist.twist.linear.x == 0., timeout=20.)
        assert graph.call(Trigger, 'inspatio/reset').success
        graph.until(lambda: odom[-1].pose.pose.position.x == 0.)
        graph.until(lambda: np.array_equal(readers.read_image(images[-1]), first)
                    or np.array_equal(readers.read_image(images[-2]), first))
        assert (np.diff([stamp_of(image) for image in images]) > 0).all()


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


def test_diagnostics_say_how_it_does():
    with private_graph() as graph:
        received = graph.listen(DiagnosticArray, '/diagnostics')
        graph.until(lambda: received)
        assert received[-1].status[0].message == 'unconfigured'
        images = graph.listen(Image, 'camera/image_raw')
        graph.up()
        graph.until(lambda: len(images) > 20)
        received.clear()
        graph.until(lambda: received)
        status = received[-1].status[0]
        values = {item.key: item.value for item in status.values}
        assert status.name == 'inspatio: generation' and status.level == DiagnosticStatus.OK
        assert values['generator'] == 'render' and values['size'] == '96x64' and values['device']
        assert values['tf'] == ('on' if tf.TFMessage else 'off')
        assert float(values['frame rate Hz']) > 5 and float(values['block latency ms']) > 0
        assert 0 < float(values['first frame latency ms']) <= float(values['first frame latency max ms'])
        assert float(values['first frame latency ms']) <= float(values['block latency ms'])
        assert float(values['memory MiB']) > 50 and int(values['frames dropped']) == 0
        assert float(values['pose age ms']) > 0 and 0 < float(values['real-time factor']) < 2


def test_generation_that_fails_is_told_and_leaves_the_node_inactive(capfd):
    with private_graph() as graph:
        received = graph.listen(DiagnosticArray, '/diagnostics')
        graph.listen(Image, 'camera/image_raw')
        graph.up()
        graph.until(lambda: graph.node.worker.report().blocks > 1)
        # As when a disk goes away: the recording cannot be read any more.
        graph.node._world.simulator._constraint = None
        graph.until(lambda: graph.node._state_machine.current_state[1] == 'inactive')
        graph.until(lambda: received and received[-1].status[0].level == DiagnosticStatus.ERROR)
        assert capfd.readouterr().err.count('generation ended') == 1
        assert graph.node.trigger_cleanup() == SUCCESS
        assert graph.node.bring_up()


@pytest.mark.parametrize(('name', 'value', 'reason'), [
    ('generator', 'sora', 'choose one of render, nano, 1.3b'),
    ('drive', 'joystick', 'choose one of twist, odometry'),
    ('overload', 'panic', 'choose one of slow_down, drop'),
    ('fill', 'red', 'choose one of'),
    ('mount.source', 'roof', 'choose one of reference, given'),
    ('width', 100, 'try 96 or 112'),
    ('jpeg_quality', 101, 'it may be 1 to 100'),
    ('cmd_vel_timeout', 1, 'write 1.0, not 1'),
    ('cmd_vel_timeout', float('nan'), 'is not a finite number'),
    ('mount.xyz', [0., 1.], 'has 2 numbers; it takes 3'),
])
def test_bad_parameter_at_start_is_refused_with_the_good_ones(name, value, reason):
    with pytest.raises(ConfigurationError, match=reason), private_graph({name: value}):
        pass


def test_parameters_change_when_they_may():
    with private_graph() as graph:
        def put(name, value):
            request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])
            return graph.call(SetParameters, 'inspatio/set_parameters', request).results[0]
        assert put('seed', 3).successful and graph.node.settings.seed == 3
        graph.up()
        refused = put('seed', 4)
        assert not refused.successful and 'clean the node up' in refused.reason
        assert not put('frames.map', 'world').successful
        assert put('limits.linear_speed', 0.25).successful
        assert graph.node._world.drive._driver.limits.linear_speed == 0.25
        assert put('points.stride', 2).successful and graph.node.camera.camera.settings.points_stride == 2
        assert not put('overload', 'panic').successful


def test_every_parameter_is_described():
    names = {spec.name: spec for spec in specs().values()}
    with private_graph() as graph:
        answer = graph.call(DescribeParameters, 'inspatio/describe_parameters',
                            DescribeParameters.Request(names=list(names)))
    for descriptor in answer.descriptors:
        spec = names[descriptor.name]
        assert descriptor.description and spec.when in (LIVE, CONFIGURE, START)
        assert descriptor.read_only == (spec.when == START)
        assert bool(descriptor.integer_range or descriptor.floating_point_range) == bool(
            spec.bounds and not spec.length)


def test_misspelt_parameter_is_told(capfd):
    with private_graph({'frame_rat': 3.}):
        assert 'did you mean frame_rate?' in capfd.readouterr().err


def test_reliability_can_be_overridden():
    with private_graph({'qos_overrides./camera/image_raw.publisher.reliability': 'best_effort',
                        'qos_overrides./camera/image_raw.publisher.depth': 2}) as graph:
        assert graph.node.trigger_configure() == SUCCESS
        def reliability(topic):
            return graph.probe.get_publishers_info_by_topic(topic)[0].qos_profile.reliability
        graph.until(lambda: graph.probe.get_publishers_info_by_topic('/camera/mask'))
        assert reliability('/camera/image_raw') == rclpy.qos.ReliabilityPolicy.BEST_EFFORT
        assert reliability('/camera/mask') == rclpy.qos.ReliabilityPolicy.RELIABLE
