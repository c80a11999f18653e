# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The node's parameters: checked at start, changed when they may be, described."""

from __future__ import annotations

import pytest

pytest.importorskip('rclpy')

from rcl_interfaces.srv import DescribeParameters, SetParameters  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from ros_graph import private_graph  # noqa: E402

from inspatio_ros.errors import ConfigurationError  # noqa: E402
from inspatio_ros.ros.parameters import CONFIGURE, LIVE, START, specs  # noqa: E402


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
    ('frame_prefix', '/robot1/', "'/robot1/map'.* begins with a slash, .* leave it out of frame_prefix"),
    ('frames.base', '', 'frames.base is empty'),
    ('frames.odom', 'map', "frames.map and frames.odom are both 'map'"),
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
