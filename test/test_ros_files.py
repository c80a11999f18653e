# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The files that ROS tools read: parameters, the RViz view, the launch file; and the executable itself."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

pytest.importorskip('rclpy')

from ros_graph import small_recording  # noqa: E402

from inspatio_ros.ros import transport  # noqa: E402
from inspatio_ros.ros.parameter_files import given_in
from inspatio_ros.ros.parameters import Settings, specs, table  # noqa: E402
from inspatio_ros.ros.publishers import CAMERA_TOPICS  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = sorted((ROOT / 'config').glob('*.yaml'))
SPECS = {spec.name: (field, spec) for field, spec in specs().items()}


def flat(values: dict, prefix: str = '') -> dict:
    """Give dotted names, as ROS reads nested YAML."""
    out = {}
    for name, value in values.items():
        out |= flat(value, f'{prefix}{name}.') if isinstance(value, dict) else {f'{prefix}{name}': value}
    return out


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_example_parameters_are_parameters_of_the_node(path):
    content = yaml.safe_load(path.read_text())
    assert list(content) == ['/**'] and list(content['/**']) == ['ros__parameters']
    values = flat(content['/**']['ros__parameters'])
    assert values
    for name, value in values.items():
        field, spec = SPECS[name]
        assert type(value) is (list if spec.length else type(getattr(Settings, field))), name
        assert spec.problem(value) is None


def test_every_example_says_what_it_is_for():
    assert len(CONFIGS) >= 4
    assert all(path.read_text().startswith('# ') for path in CONFIGS)


def test_table_names_every_parameter():
    for name in SPECS:
        assert f'| `{name}` |' in table()


# --- RViz -----------------------------------------------------------------------------------------------------------

def rviz_displays() -> dict[str, dict]:
    content = yaml.safe_load((ROOT / 'rviz' / 'inspatio.rviz').read_text())
    manager = content['Visualization Manager']
    assert manager['Global Options']['Fixed Frame'] == Settings.frames_map
    assert all(tool['Class'].startswith('rviz_default_plugins/') for tool in manager['Tools'])
    return {display['Name']: display for display in manager['Displays']}


def test_rviz_shows_all_with_the_plugins_that_everyone_has():
    displays = rviz_displays().values()
    assert all(display['Class'].startswith('rviz_default_plugins/') for display in displays)
    shown = {display['Topic']['Value'] for display in displays if 'Topic' in display and display['Enabled']}
    assert shown >= {'camera/image_raw', 'camera/mask', 'camera/depth/image', 'camera/points', 'map_points', 'path'}
    assert any(display['Class'].endswith('/TF') for display in displays)


def test_rviz_asks_for_topics_that_exist_with_qualities_that_match():
    for display in rviz_displays().values():
        if 'Topic' not in display:
            continue
        topic = display['Topic']
        assert topic['Value'] in {*CAMERA_TOPICS, 'map_points', 'path'}, 'relative, so that a namespace applies'
        assert topic['Reliability Policy'] == 'Reliable'
        latched = topic['Value'] == 'map_points'
        assert topic['Durability Policy'] == ('Transient Local' if latched else 'Volatile')


# --- launch ---------------------------------------------------------------------------------------------------------

def launch_file():
    """Import the launch file; skip where ROS' launch is not installed (it has no wheel)."""
    pytest.importorskip('launch_ros', reason='launch comes with an installed ROS 2')
    import importlib.util
    spec = importlib.util.spec_from_file_location('inspatio_launch', ROOT / 'launch' / 'inspatio.launch.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def started(**given: str) -> list:
    """Give the nodes that the launch file starts with these arguments."""
    module = launch_file()
    from launch import LaunchContext
    context = LaunchContext()
    for argument in module.ARGUMENTS:
        argument.execute(context)
    context.launch_configurations.update(given)
    return module.start(context)


def parameters_of(node) -> list:
    from launch_ros.utilities import evaluate_parameters

    from launch import LaunchContext
    return list(evaluate_parameters(LaunchContext(), node._Node__parameters))


def test_launch_overrides_only_what_is_given():
    node, = started()
    assert parameters_of(node) == []
    node, = started(reference='/here', use_sim_time='true')
    assert parameters_of(node) == [{'reference': '/here', 'use_sim_time': True}]
    node, = started(params_file=str(CONFIGS[0]), autostart='false')
    file, overrides = parameters_of(node)
    assert Path(file) == CONFIGS[0] and overrides == {'autostart': False}


def test_launch_refuses_parameters_that_do_not_exist_and_knows_the_examples(monkeypatch):
    module = launch_file()
    monkeypatch.setattr(module, 'get_package_share_directory', lambda _: str(ROOT))
    assert module.parameters_from('sample.yaml') == [str(ROOT / 'config' / 'sample.yaml')]
    assert module.parameters_from('') == []
    with pytest.raises(RuntimeError, match=r'sampel\.yaml is no file'):
        module.parameters_from('sampel.yaml')


@pytest.mark.parametrize(('namespace', 'name'), [
    ('', 'inspatio'), ('robot1', 'robot1.inspatio'), ('/fleet/robot1', 'fleet.robot1.inspatio')])
def test_launch_sets_the_level_of_the_logger_that_the_node_has(namespace, name):
    assert launch_file().logger_name(namespace) == name


def test_launch_starts_rviz_on_demand():
    assert [node._Node__package for node in started(use_rviz='true')] == ['inspatio_ros', 'rviz2']


def test_launch_arguments_are_those_promised():
    tree = ast.parse((ROOT / 'launch' / 'inspatio.launch.py').read_text())
    names = [call.args[0].value for call in ast.walk(tree) if isinstance(call, ast.Call)
             and getattr(call.func, 'id', '') == 'DeclareLaunchArgument']
    assert set(names) == {'reference', 'generator', 'params_file', 'namespace', 'frame_prefix', 'use_sim_time',
                          'use_rviz', 'log_level', 'autostart'}


@pytest.mark.parametrize(('text', 'node', 'given'), [
    ('/**: {ros__parameters: {frame_prefix: robot1/, frames: {map: site}}}', '/inspatio',
     {'frame_prefix': 'robot1/', 'frames.map': 'site'}),
    # The very node's own go first, though they stand before those of all; a name without its namespace is another's.
    ('/robot1/inspatio: {ros__parameters: {frames.map: site}}\n/**: {ros__parameters: {frames.map: hall}}\n'
     'inspatio: {ros__parameters: {frames.map: yard}}', '/robot1/inspatio', {'frames.map': 'site'}),
    ('robot1: {inspatio: {ros__parameters: {use_sim_time: true}}}', '/robot1/inspatio', {'use_sim_time': True}),
    ('inspatio: {ros__parameters: {use_sim_time: true}}', '/inspatio', {'use_sim_time': True}),
    ('inspatio: {ros__parameters: {use_sim_time: true}}', '/robot1/inspatio', {}),
    ('[1, 2]', '/inspatio', {}), ('', '/inspatio', {}), ('/**:', '/inspatio', {}), ('/**: 3', '/inspatio', {}),
    ('/**: {ros__parameters: [', '/inspatio', {})])
def test_what_a_file_gives_a_node_is_known_before_it_runs(tmp_path, text, node, given):
    (tmp_path / 'parameters.yaml').write_text(text)
    assert given_in([tmp_path / 'nowhere.yaml', tmp_path / 'parameters.yaml'], node) == given


def test_rviz_looks_from_the_frame_and_by_the_time_of_the_file(tmp_path):
    file = tmp_path / 'parameters.yaml'
    file.write_text('/**: {ros__parameters: {frame_prefix: robot1/, frames.map: site, use_sim_time: true}}')
    _, rviz = started(use_rviz='true', params_file=str(file))
    assert rviz._Node__arguments[-2:] == ['-f', 'robot1/site'] and parameters_of(rviz) == [{'use_sim_time': True}]
    _, rviz = started(use_rviz='true', params_file=str(file), frame_prefix='other/', use_sim_time='false')
    assert rviz._Node__arguments[-2:] == ['-f', 'other/site'] and parameters_of(rviz) == [{'use_sim_time': False}]


# --- the executable -------------------------------------------------------------------------------------------------

@pytest.fixture
def ros_env(tmp_path):
    return {**os.environ, 'ROS_DOMAIN_ID': str(1 + os.getpid() % 101), 'ROS_LOG_DIR': str(tmp_path / 'log'),
            'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST', 'PYTHONUNBUFFERED': '1'}


@contextmanager
def started_node(env: dict, *parameters: str, cwd: Path = ROOT):
    arguments = [part for parameter in (f'reference:={small_recording()}', *parameters) for part in ('-p', parameter)]
    process = subprocess.Popen([sys.executable, '-m', 'inspatio_ros.ros.main', '--ros-args', *arguments], env=env,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=cwd)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize('sign', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_node_without_a_traceback(ros_env, sign):
    with started_node(ros_env, 'width:=96', 'height:=64', 'idle_unheard:=false') as process:
        said = []
        for line in process.stdout:
            said.append(line)
            if 'ready after' in line:
                break
        time.sleep(1.)
        process.send_signal(sign)
        rest, _ = process.communicate(timeout=60)
    assert process.returncode == 0, ''.join(said) + rest
    assert 'Traceback' not in rest and 'ready after' in said[-1]


def test_ctrl_c_while_loading_ends_the_node(ros_env):
    with started_node(ros_env, 'width:=832', 'height:=480') as process:
        for line in process.stdout:
            if 'loading' in line:
                break
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=60)
    assert process.returncode == 0 and 'Traceback' not in rest, rest


@pytest.mark.parametrize(('parameter', 'message'), [
    ('reference:=/no/such/place', '/no/such/place'), ('generator:=sora', 'choose one of render, nano, 1.3b'),
    ('width:=100', 'try 96 or 112'), ('frame_rate:=24', 'write 1.0, not 1')])
def test_what_keeps_the_node_from_starting_is_one_line_and_exit_code_1(ros_env, parameter, message, tmp_path):
    with started_node(ros_env | {'PYTHONPATH': str(ROOT)}, parameter, cwd=tmp_path) as process:
        said, _ = process.communicate(timeout=60)
    errors = [line for line in said.splitlines() if 'ERROR' in line]
    assert process.returncode == 1 and 'Traceback' not in said
    assert len(errors) == 1 and message in errors[0]
    assert [entry.name for entry in tmp_path.iterdir() if entry.name != 'log'] == [], 'nothing is written'


@pytest.mark.parametrize('argument', [
    ('-r', '__ns:=/robot-1'), ('--params-file', '/no/such.yaml'), ('--log-level', 'verbose')])
def test_what_keeps_ros_from_starting_is_one_line_and_exit_code_1(ros_env, argument):
    command = [sys.executable, '-m', 'inspatio_ros.ros.main', '--ros-args', *argument]
    done = subprocess.run(command, env=ros_env, capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert done.returncode == 1
    # Before it rcl says what it thinks of it.
    said = done.stderr.splitlines()[-1]
    assert 'Traceback' not in done.stderr
    assert said.startswith('inspatio_node: ROS does not start: ') and argument[-1].split(':=')[-1] in said


# --- transport ------------------------------------------------------------------------------------------------------

def test_transport_leaves_transports_that_the_user_chose(monkeypatch):
    for name in ('FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE'):
        monkeypatch.setenv(name, '')
    monkeypatch.setenv('FASTDDS_BUILTIN_TRANSPORTS', 'UDPv4')
    monkeypatch.setenv('RMW_FASTRTPS_PUBLICATION_MODE', 'SYNCHRONOUS')
    assert transport.prepare() is None
    # A profile that says which transports there are would outrank it.
    assert not os.environ['FASTRTPS_DEFAULT_PROFILES_FILE'] and not os.environ['FASTDDS_DEFAULT_PROFILES_FILE']


def test_transport_leaves_what_the_user_set(monkeypatch):
    monkeypatch.setenv('FASTRTPS_DEFAULT_PROFILES_FILE', '/mine.xml')
    monkeypatch.setenv('RMW_FASTRTPS_PUBLICATION_MODE', 'SYNCHRONOUS')
    assert transport.prepare() is None
    assert os.environ['FASTRTPS_DEFAULT_PROFILES_FILE'] == '/mine.xml'
    assert os.environ['RMW_FASTRTPS_PUBLICATION_MODE'] == 'SYNCHRONOUS'


def test_transport_says_when_shared_memory_is_too_small(monkeypatch):
    for name in ('FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE', 'RMW_FASTRTPS_PUBLICATION_MODE'):
        monkeypatch.setenv(name, '')
    monkeypatch.delenv('FASTDDS_BUILTIN_TRANSPORTS', raising=False)
    monkeypatch.setattr(transport, 'NEEDED', 2**60)
    assert '--shm-size' in transport.prepare()
    assert not os.environ['FASTRTPS_DEFAULT_PROFILES_FILE']
    monkeypatch.setattr(transport, 'NEEDED', 1)
    assert transport.prepare() is None
    assert Path(os.environ['FASTRTPS_DEFAULT_PROFILES_FILE']).is_file()
