# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The node's lifecycle, its services, and what it says about itself."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('rclpy')

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus  # noqa: E402
from faulty_recordings import FAULTS, write_faulty, write_truncated_weights  # noqa: E402
from geometry_msgs.msg import Twist  # noqa: E402
from lifecycle_msgs.msg import Transition  # noqa: E402
from lifecycle_msgs.srv import ChangeState, GetState  # noqa: E402
from nav_msgs.msg import Odometry  # noqa: E402
from rclpy.lifecycle import TransitionCallbackReturn  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from ros_graph import private_graph, small_recording, stamp_of  # noqa: E402
from sensor_msgs.msg import Image  # noqa: E402
from std_srvs.srv import Trigger  # noqa: E402

from inspatio_ros.ros import readers, tf  # noqa: E402

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


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


@pytest.mark.parametrize('transition', [Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_DEACTIVATE, 77])
def test_a_transition_that_the_state_does_not_have_is_refused(transition, capfd):
    with private_graph() as graph:
        graph.up()
        if transition == Transition.TRANSITION_DEACTIVATE:
            assert graph.node.trigger_deactivate() == SUCCESS
        request = ChangeState.Request()
        request.transition.id = transition
        assert not graph.call(ChangeState, 'inspatio/change_state', request).success
        assert f'transition {transition} is refused: the node is ' in capfd.readouterr().err
        state = 'inactive' if transition == Transition.TRANSITION_DEACTIVATE else 'active'
        assert graph.call(GetState, 'inspatio/get_state').current_state.label == state
        request.transition.id = Transition.TRANSITION_ACTIVE_SHUTDOWN if state == 'active' else (
            Transition.TRANSITION_INACTIVE_SHUTDOWN)
        assert graph.call(ChangeState, 'inspatio/change_state', request).success


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
        graph.until(lambda: received[-1].status[0].message == 'unconfigured')
        assert graph.node._failure is None, 'it holds the block that failed, and so its memory'
        assert graph.node.bring_up()


def test_after_a_failure_in_the_middle_of_a_block_the_node_can_be_activated_again():
    with private_graph() as graph:
        images = graph.listen(Image, 'camera/image_raw')
        graph.up()
        graph.until(lambda: len(images) > 3)
        generator = graph.node._world.simulator._generator
        stream = generator.stream

        def fail(*inputs):
            # As when another process takes the device's memory.
            yield next(iter(stream(*inputs)))[:1]
            raise MemoryError('no room')
        generator.stream = fail
        graph.until(lambda: graph.node._state_machine.current_state[1] == 'inactive')
        generator.stream = stream
        assert graph.node.trigger_activate() == TransitionCallbackReturn.SUCCESS
        images.clear()
        graph.until(lambda: len(images) > 6)
        assert graph.node._state_machine.current_state[1] == 'active'


def test_after_a_failure_while_paused_the_node_can_be_resumed():
    with private_graph() as graph:
        images, said = graph.listen(Image, 'camera/image_raw'), graph.listen(DiagnosticArray, '/diagnostics')
        graph.up()
        graph.until(lambda: len(images) > 3)
        generator = graph.node._world.simulator._generator
        stream, begun, paused = generator.stream, threading.Event(), threading.Event()

        def fail(*inputs):
            yield next(iter(stream(*inputs)))[:1]
            begun.set()
            paused.wait(60.)
            raise MemoryError('no room')
        generator.stream = fail
        graph.until(begun.is_set)
        assert graph.call(Trigger, 'inspatio/pause').success
        paused.set()
        graph.until(lambda: graph.node._failure is not None)
        generator.stream = stream
        graph.spin(0.2)
        assert graph.node._state_machine.current_state[1] == 'active'
        assert graph.call(Trigger, 'inspatio/resume').success
        images.clear()
        graph.until(lambda: len(images) > 6)
        said.clear()
        graph.until(lambda: said)
        assert 'generation ended' not in said[-1].status[0].message


def test_a_recording_without_a_metric_scale_is_warned_of(tmp_path, capfd):
    folder = Path(shutil.copytree(small_recording(), tmp_path / 'room'))
    (folder / 'metadata.json').write_text('{"scale": "relative"}')
    with private_graph({'reference': str(folder)}) as graph:
        assert graph.node.trigger_configure() == TransitionCallbackReturn.SUCCESS
    assert capfd.readouterr().err.count('relative scale') == 1
