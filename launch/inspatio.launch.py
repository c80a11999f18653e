# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Start the node, which brings itself up to active, and RViz if asked for.

    ros2 launch inspatio_ros inspatio.launch.py reference:=/path/to/recording generator:=nano use_rviz:=true

Arguments are for what differs from one deployment to the next; everything else belongs into `params_file`. An argument
that is not given is not passed on, so that it never beats the file unseen.
"""

from __future__ import annotations

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch.actions import DeclareLaunchArgument, OpaqueFunction, Shutdown
from launch.events.process import ProcessExited
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from inspatio_ros.ros.parameter_files import given_in
from launch import LaunchContext, LaunchDescription

NAME = 'inspatio'

#: Arguments that override a parameter of the node if, and only if, they are given.
OVERRIDES = ('reference', 'generator', 'frame_prefix', 'use_sim_time', 'autostart')
BOOLEANS = {'true': True, 'false': False}

ARGUMENTS = [
    DeclareLaunchArgument('reference', default_value='', description="recording: a folder, or 'sample'; empty: as in "
                          'params_file'),
    DeclareLaunchArgument('generator', default_value='', choices=['', 'render', 'nano', '1.3b'],
                          description="what completes the render; empty: as in params_file, 'render' without one"),
    DeclareLaunchArgument('params_file', default_value='', description="the node's parameters (YAML): a file, or the "
                          "name of an example in this package's config folder, such as sample.yaml"),
    DeclareLaunchArgument('namespace', default_value='', description='namespace of the node, its topics and RViz'),
    DeclareLaunchArgument('frame_prefix', default_value='', description="put before every frame id, such as 'robot1/'; "
                          'empty: as in params_file. Robots that share one /tf need one each'),
    DeclareLaunchArgument('use_sim_time', default_value='', choices=['', *BOOLEANS],
                          description='true: follow /clock; empty: as in params_file'),
    DeclareLaunchArgument('autostart', default_value='', choices=['', *BOOLEANS],
                          description='false: stay unconfigured until a lifecycle manager takes over; empty: as in '
                          'params_file'),
    DeclareLaunchArgument('use_rviz', default_value='false', choices=list(BOOLEANS), description='start RViz too'),
    DeclareLaunchArgument('log_level', default_value='info', choices=['debug', 'info', 'warn', 'error', 'fatal'],
                          description='what the node logs'),
]


def generate_launch_description() -> LaunchDescription:
    """Describe what is started."""
    return LaunchDescription([*ARGUMENTS, OpaqueFunction(function=start)])


def end(event: ProcessExited, _: LaunchContext) -> Shutdown:
    """End with the node; an exception is the one way to give the launch an exit code."""
    if event.returncode:
        raise RuntimeError(f'the node ended with exit code {event.returncode}; its last line says why')
    return Shutdown(reason='the node ended')


def parameters_from(name: str) -> list[str]:
    """Find the file of parameters that was named, if one was; launch itself would go on without it."""
    if not name:
        return []
    if Path(name).expanduser().is_file():
        return [str(Path(name).expanduser())]
    example = Path(get_package_share_directory('inspatio_ros'), 'config', name)
    if not example.is_file():
        raise RuntimeError(f'params_file {name} is no file, and {example.parent} holds no example of that name')
    return [str(example)]


def logger_name(namespace: str) -> str:
    """Give the name that the node's logger has in a namespace."""
    return '.'.join([*names_of(namespace), NAME])


def names_of(namespace: str) -> list[str]:
    """Give the parts of a namespace."""
    return [part for part in namespace.split('/') if part]


def start(context: LaunchContext) -> list[Node]:
    """Start the node with the arguments that were given, and RViz if asked for."""
    def given(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    # A folder called 1 is a name, not a number: launch would guess from the text.
    overrides = {name: BOOLEANS.get(given(name), ParameterValue(given(name), value_type=str)) for name in OVERRIDES
                 if given(name)}
    files = parameters_from(given('params_file'))
    nodes = [Node(
        package='inspatio_ros', executable='inspatio_node', name=NAME, namespace=given('namespace'), output='screen',
        # Whatever keeps the node from running ends the launch.
        on_exit=end,
        parameters=[*files, *([overrides] if overrides else [])],
        arguments=['--ros-args', '--log-level', f'{logger_name(given("namespace"))}:={given("log_level")}'])]
    if given('use_rviz') == 'true':
        view = PathJoinSubstitution([FindPackageShare('inspatio_ros'), 'rviz', 'inspatio.rviz'])
        known = given_in(files, '/'.join(['', *names_of(given('namespace')), NAME]))
        sim_time = overrides.get('use_sim_time', known.get('use_sim_time'))
        frame = f'{given("frame_prefix") or known.get("frame_prefix", "")}{known.get("frames.map", "map")}'
        fixed = ['-f', frame] if frame != 'map' else []
        nodes.append(Node(package='rviz2', executable='rviz2', name='rviz', namespace=given('namespace'),
                          arguments=['-d', view, *fixed], output='log',
                          parameters=[] if sim_time is None else [{'use_sim_time': sim_time}]))
    return nodes
