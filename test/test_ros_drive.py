# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The node driven by twists and by odometry, by this clock and others."""

from __future__ import annotations

import time

import numpy as np
import pytest

pytest.importorskip('rclpy')

from diagnostic_msgs.msg import DiagnosticArray  # noqa: E402
from geometry_msgs.msg import PoseWithCovarianceStamped, Twist, TwistStamped  # noqa: E402
from nav_msgs.msg import Odometry, Path  # noqa: E402
from rclpy.clock import ClockType  # noqa: E402
from rclpy.lifecycle import TransitionCallbackReturn  # noqa: E402
from ros_graph import matrix_of, odometry, private_graph, stamp_of  # noqa: E402
from rosgraph_msgs.msg import Clock  # noqa: E402
from sensor_msgs.msg import Image  # noqa: E402
from std_srvs.srv import Trigger  # noqa: E402

from inspatio_ros.ros import messages, tf  # noqa: E402

SUCCESS = TransitionCallbackReturn.SUCCESS


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


def test_initialpose_while_driving_leaves_odometry_smooth():
    """What was planned and will never be shown is not driven."""
    with private_graph({'frames_per_block': 20, 'cmd_vel_timeout': 60., 'limits.linear_acceleration': 1e6}) as graph:
        odom = graph.listen(Odometry, 'odom')
        graph.up()
        twist, target = Twist(), PoseWithCovarianceStamped()
        twist.linear.x = 0.4
        target.header.frame_id, target.pose.pose.orientation.w = 'map', 1.
        commands, poses = graph.publisher(Twist, 'cmd_vel'), graph.publisher(PoseWithCovarianceStamped, 'initialpose')
        graph.until(lambda: commands.publish(twist) or odom and odom[-1].twist.twist.linear.x > 0.3)
        graph.until(lambda: graph.node.worker.queued > 10)
        ahead = graph.node._world.drive._driver.T_map_base[0, 3] - odom[-1].pose.pose.position.x
        poses.publish(target)
        graph.until(lambda: abs(graph.node._world.drive._T_map_odom[0, 3]) > 0.01)
        count = len(odom)
        graph.until(lambda: len(odom) > count + 10)
        steps = np.abs(np.diff([message.pose.pose.position.x for message in odom]))
        assert ahead > 0.1 and steps.max() < 0.4 / 20 * 1.5


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


def test_own_clock_is_no_faster_than_asked_where_frames_are_left_out():
    with private_graph({'publish_clock': True, 'real_time_factor': 0.5, 'overload': 'drop'}) as graph:
        clock = graph.listen(Clock, '/clock')
        graph.listen(Image, 'camera/image_raw')
        assert graph.node.trigger_configure() == SUCCESS
        slowed(graph, 0.4)
        assert graph.node.trigger_activate() == SUCCESS
        graph.until(lambda: graph.node.worker.report().stride > 1)
        graph.spin(1.)
        start, begun = clock[-1].clock, time.monotonic()
        graph.spin(3.)
        seconds = (messages.to_nanoseconds(clock[-1].clock) - messages.to_nanoseconds(start)) / 1e9
        assert 0. < seconds / (time.monotonic() - begun) < 0.65


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

def test_frames_that_fall_behind_odometry_are_told():
    with private_graph({'drive': 'odometry'}) as graph:
        diagnostics = graph.listen(DiagnosticArray, '/diagnostics')
        graph.listen(Image, 'camera/image_raw')
        assert graph.node.trigger_configure() == SUCCESS
        slowed(graph, 0.5)
        assert graph.node.trigger_activate() == SUCCESS
        publisher = graph.publisher(Odometry, 'odom')
        for i in range(41):
            publisher.publish(odometry(1000. + i * 0.1, 5. + i * 0.01, 'wheel_odom'))
            graph.spin(0.01)
        graph.until(lambda: any('behind odometry' in message.status[0].message for message in diagnostics))
        values = {item.key: item.value for item in diagnostics[-1].status[0].values}
        assert float(values['behind odometry s']) > 1.


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
        said = [stamp_of(message.transforms[0]) for message in moving]
        assert said == sorted(set(said)) and said[0] == expected[0], 'tf2 takes them in order'
        assert said[-1] == round((start + 40 * 0.03) * 1e9), 'up to the newest odometry, which no frame has reached yet'
        assert all(len(message.transforms) == 1 for message in moving), "odom -> base_link is the robot's own"
        link = moving[-1].transforms[0]
        assert (link.header.frame_id, link.child_frame_id) == ('map', 'wheel_odom')
        np.testing.assert_allclose(matrix_of(link.transform)[:3, 3], [-5., 0., 0.], atol=1e-6)


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
        # Far back, as when a simulator starts anew: what waits to be shown is of a time that is over.
        for i in range(7, 27):
            publisher.publish(odometry(2000.35 + i * 0.05, 80.))
        graph.until(lambda: graph.node._worker.queued)
        graph.node.camera._on_odom(odometry(5., 1.))
        graph.spin(0.4)
        assert graph.node.camera._shown is None
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


def test_odometry_in_the_maps_own_frame_is_told_and_makes_no_transform(capfd):
    with private_graph({'drive': 'odometry'}) as graph:
        images = graph.listen(Image, 'camera/image_raw')
        moving = graph.listen(tf.TFMessage, '/tf') if tf.TFMessage else []
        graph.up()
        publisher = graph.publisher(Odometry, 'odom')
        for i in range(12):
            publisher.publish(odometry(1. + i * 0.05, 0., frame='map'))
            graph.spin(0.02)
        graph.until(lambda: len(images) >= 8)
        graph.spin(0.2)
        assert "odometry is given in frame 'map'" in capfd.readouterr().err and not moving
        for i in range(12, 24):
            publisher.publish(odometry(1. + i * 0.05, 0., frame='world'))
            graph.spin(0.02)
        graph.until(lambda: len(images) >= 16)
        if tf.TFMessage:
            graph.until(lambda: moving)
            assert {t.child_frame_id for message in moving for t in message.transforms} == {'world'}


# --- time -----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('sim_time', [False, True])
def test_a_system_clock_that_is_set_back_does_not_stop_the_frames(sim_time, monkeypatch):
    with private_graph({'use_sim_time': sim_time}) as graph:
        images = graph.listen(Image, 'camera/image_raw')
        graph.up()
        camera = graph.node.camera
        kind = camera._timer.clock.clock_type
        assert kind is (ClockType.ROS_TIME if sim_time else ClockType.STEADY_TIME), 'a timer waits by its own clock'
        if sim_time:
            return
        graph.until(lambda: len(images) > 5)
        now = camera.now
        monkeypatch.setattr(camera, 'now', lambda: now() - 3600 * 10**9)
        last = stamp_of(images[-1])
        images.clear()
        graph.until(lambda: len(images) > 10)
        assert stamp_of(images[-1]) < last - 3000 * 10**9
        assert (np.diff([stamp_of(image) for image in images[3:]]) > 0).all()


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
        # A clock that stands still is nobody's fault; one that runs away from the frames is.
        graph.node.camera.meter._started -= 10.
        assert graph.node._judge()[1] == 'running'
        clock.publish(Clock(clock=messages.to_stamp(now + 5 * 10**9)))
        graph.until(lambda: 'slower than /clock' in graph.node._judge()[1])
        # Set back, as when a simulator starts anew: who listens has forgotten what was said, and hears all of it again.
        moving = graph.listen(tf.TFMessage, '/tf') if tf.TFMessage else None
        for i in range(20):
            clock.publish(Clock(clock=messages.to_stamp(2 * 10**9 + i * 25_000_000)))
            graph.spin(0.02)
        if moving is None:
            return
        links = [{t.header.frame_id for t in message.transforms} for message in moving
                 if stamp_of(message.transforms[0]) < 10 * 10**9]
        assert links and all(names == {'map', 'odom'} for names in links)


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
