# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What a package must be: installable by colcon and pip, importable without what it does not need, consistent."""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import inspatio_ros

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / 'inspatio_ros'
NOTICE = ['# Copyright 2026 The inspatio_ros authors', '# SPDX-License-Identifier: Apache-2.0']

#: Import names whose distribution has another name, and the rosdep keys of the distributions (None: there is none).
DISTRIBUTIONS = {'PIL': 'pillow', 'cv2': 'opencv-python-headless', 'yaml': 'pyyaml', 'open3d': 'open3d-cpu'}
ROSDEP = {'av': None, 'safetensors': None, 'opencv-python-headless': 'python3-opencv', 'open3d-cpu': 'python3-open3d',
          'pillow': 'python3-pil', 'pyyaml': 'python3-yaml', 'rosbags': 'python3-rosbags-pip',
          'tensorboard': 'python3-tensorboard-pip'}
#: What is used where it imports, and may be absent: parts of ROS 2, what a caption needs, and what torch's builds for
#: GPUs bring.
OPTIONAL = {'cv_bridge', 'sensor_msgs_py', 'ament_index_python', 'transformers', 'ftfy', 'triton',
            'flash_attn_interface'}


def python_files():
    folders = [PACKAGE, ROOT / 'test', ROOT / 'launch', ROOT / 'scripts']
    found = [path for folder in folders for path in folder.rglob('*.py')]
    return sorted([*found, ROOT / 'setup.py', ROOT / 'scripts' / 'inspatio_node'])


def manifest():
    from catkin_pkg.package import parse_package
    return parse_package(str(ROOT / 'package.xml'))


def third_party_imports():
    """Name every top-level module that the package imports and that is neither Python's nor ours."""
    names = set()
    for path in PACKAGE.rglob('*.py'):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names.update(alias.name.partition('.')[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names.add(node.module.partition('.')[0])
                # A part of torch that needs a package of its own.
                names.update({'tensorboard'} if node.module == 'torch.utils.tensorboard' else ())
    return names - set(sys.stdlib_module_names) - {'inspatio_ros'}


def is_ros(module):
    return module.endswith(('_msgs', '_srvs', '_interfaces')) or module in ('rclpy', 'launch', 'launch_ros')


def run(command, **options):
    done = subprocess.run([str(part) for part in command], text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, check=False, stdin=subprocess.DEVNULL, **options)
    assert done.returncode == 0, f'{command} exited {done.returncode}:\n{done.stdout[-4000:]}'
    return done.stdout


# ---- what is written more than once agrees ----------------------------------------------------------------------

def test_version_is_the_same_everywhere():
    declared = run([sys.executable, 'setup.py', '--version'], cwd=ROOT).split()[-1]
    changelog = re.search(r'^(\d+\.\d+\.\d+) \(\d{4}-\d\d-\d\d\)$', (ROOT / 'CHANGELOG.rst').read_text(), re.M)[1]
    assert {declared, changelog, manifest().version} == {inspatio_ros.__version__}


def test_package_xml_is_valid():
    package = manifest()
    package.validate()
    assert package.package_format == 3
    assert package.get_build_type() == 'ament_python'
    assert [str(name) for name in package.licenses] == ['Apache-2.0']


def test_every_file_has_the_notice():
    without = []
    for path in python_files():
        lines = path.read_text().splitlines()
        if lines[:1] and lines[0].startswith('#!'):
            lines = lines[1:]
        if lines[:2] != NOTICE:
            without.append(str(path.relative_to(ROOT)))
    assert not without


def test_dependencies_are_those_that_the_code_imports():
    egg = run([sys.executable, '-c', 'import sys, setuptools, runpy; kept = {}\n'
               'setuptools.setup = kept.update\nrunpy.run_path("setup.py")\n'
               'print("\\n".join(kept["install_requires"]))'], cwd=ROOT)
    declared = {re.match(r'[\w.-]+', line)[0].lower() for line in egg.splitlines()} - {'open3d'}
    imported = {DISTRIBUTIONS.get(name, name) for name in third_party_imports() - OPTIONAL if not is_ros(name)}
    assert declared == imported


def test_package_xml_names_what_the_code_imports():
    declared = {depend.name for depend in manifest().exec_depends}
    imported = third_party_imports() - OPTIONAL
    messages = {name for name in imported if is_ros(name)}
    libraries = {DISTRIBUTIONS.get(name, name) for name in imported - messages}
    keys = {ROSDEP.get(name, f'python3-{name}') for name in libraries} - {None}
    assert not (messages | keys) - declared
    assert not {name for name in declared if name.startswith('python3-')} - keys


@pytest.mark.parametrize('name', ['runtime', 'ros', 'test', 'tf2_msgs'])
def test_locks_pin_every_version_and_name_no_place(name):
    lines = [line for line in (ROOT / 'requirements' / f'{name}.txt').read_text().splitlines()
             if not line.startswith('#')]
    assert lines
    assert not [line for line in lines if not re.fullmatch(r'[\w.-]+==[\w.]+( ; .+)?', line)]


def test_locks_agree():
    seen = {}
    for path in (ROOT / 'requirements').glob('*.txt'):
        for name, version in re.findall(r'^([\w.-]+)==([\w.]+)', path.read_text(), re.M):
            assert seen.setdefault(name, version) == version, f'{name} in {path.name}'


def test_torch_is_locked_by_version_alone():
    lines = (ROOT / 'requirements' / 'torch.txt').read_text().splitlines()
    assert [line for line in lines if not line.startswith('#')] == ['torch==2.13.0']


def test_code_is_clean():
    run([sys.executable, '-m', 'ruff', 'check', '--no-cache', '--output-format', 'concise', '.'], cwd=ROOT)


# ---- importable without what it does not need ---------------------------------------------------------------------

IMPORT_ALL = """
import importlib, pkgutil, sys
blocked, prefixes, skipped = {blocked!r}, {prefixes!r}, {skipped!r}

class Blocker:
    def find_spec(self, name, path=None, target=None):
        top = name.partition('.')[0]
        if top in blocked or ('_msgs' in blocked and top.endswith(('_msgs', '_srvs', '_interfaces'))):
            raise ImportError(f'{{name}} is blocked')

sys.meta_path.insert(0, Blocker())
import inspatio_ros
names = [item.name for item in pkgutil.walk_packages(inspatio_ros.__path__, 'inspatio_ros.')
         if item.name.startswith(prefixes) and not item.name.startswith(skipped) and '__main__' not in item.name]
for name in names:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        # Kernels for GPUs are imported only where there is one.
        if error.name != 'triton' or not name.endswith('triton_kernel'):
            raise
print(len(names))
"""


def import_without(blocked, prefixes=('inspatio_ros.',), skipped=('-',)):
    code = IMPORT_ALL.format(blocked=blocked, prefixes=tuple(prefixes), skipped=tuple(skipped))
    return int(run([sys.executable, '-c', code]).split()[-1])


def test_all_but_ros_imports_without_ros():
    count = import_without(('rclpy', 'launch', 'launch_ros', '_msgs'), skipped=['inspatio_ros.ros'])
    assert count >= 30


def test_leaves_import_without_torch():
    pytest.importorskip('rclpy')
    modules = ['config', 'geometry', 'errors', 'reference', 'scenes', 'spatial.motion', 'spatial.trajectory', 'ros',
               'cli', 'commands']
    assert import_without(('torch',), [f'inspatio_ros.{name}' for name in modules]) >= len(modules)


def test_help_needs_neither_torch_nor_ros():
    code = ('import sys\nfor name in ("torch", "rclpy", "open3d", "numba"): sys.modules[name] = None\n'
            'from inspatio_ros.cli import main\nsys.exit(main(["--help"]))')
    assert 'demo' in run([sys.executable, '-c', code])


# ---- installs -----------------------------------------------------------------------------------------------------

@pytest.fixture(scope='module')
def source(tmp_path_factory):
    """Copy the checkout as git would hand it over, so that nothing that lies about in it can help."""
    target = tmp_path_factory.mktemp('workspace') / 'src' / 'inspatio_ros'
    ignored = shutil.ignore_patterns('.*', '__pycache__', '*.egg-info', 'build', 'dist', 'install', 'log', 'out',
                                     'shared')
    shutil.copytree(ROOT, target, ignore=ignored)
    return target


def check_share(prefix):
    """Check that what ROS tools look for lies where they look."""
    assert (prefix / 'share/ament_index/resource_index/packages/inspatio_ros').is_file()
    share = prefix / 'share/inspatio_ros'
    assert (share / 'package.xml').is_file()
    for folder in ('launch', 'config', 'rviz'):
        expected = {path.relative_to(ROOT) for path in (ROOT / folder).rglob('*')
                    if path.is_file() and '__pycache__' not in path.parts}
        assert expected, f'{folder}/ is empty'
        assert not {path for path in expected if not (share / path).is_file()}
    node = prefix / 'lib/inspatio_ros/inspatio_node'
    assert os.access(node, os.X_OK)
    assert node.read_text().startswith('#!/usr/bin/env python3\n')


def check_package(prefix):
    """Check that the package's code and its data lie in the site-packages of a prefix."""
    installed, = prefix.glob('lib/python3*/site-packages/inspatio_ros')
    for path in PACKAGE.rglob('*'):
        if path.is_file() and '__pycache__' not in path.parts:
            copy = installed / path.relative_to(PACKAGE)
            assert copy.read_bytes() == path.read_bytes(), copy


@pytest.fixture(scope='module')
def colcon_install(source):
    """Build the package with colcon, as in a workspace."""
    workspace = source.parent.parent
    run([sys.executable, '-c', 'import sys; from colcon_core.command import main; sys.exit(main())', 'build'],
        cwd=workspace, env={**os.environ, 'COLCON_HOME': str(workspace / 'colcon')})
    return workspace / 'install' / 'inspatio_ros'


@pytest.mark.timeout(180)
def test_colcon_installs_what_ros2_looks_for(colcon_install):
    check_share(colcon_install)
    check_package(colcon_install)


@pytest.mark.timeout(180)
def test_colcon_environment_starts_the_installed_node(colcon_install, tmp_path):
    """The executable runs the installed code in the first Python on the PATH, is found by its name, and ends well."""
    rclpy = pytest.importorskip('rclpy')
    domain = 91
    environment = {**os.environ, 'PATH': f'{Path(sys.executable).parent}:{os.environ["PATH"]}',
                   'ROS_DOMAIN_ID': str(domain), 'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST',
                   'ROS_LOG_DIR': str(tmp_path)}
    sourced = f'. "{colcon_install}/share/inspatio_ros/package.sh"'
    prefix = f'COLCON_CURRENT_PREFIX="{colcon_install}" && {sourced}'
    where = run(['bash', '-c', f'{prefix} && python3 -c "import inspatio_ros; print(inspatio_ros.__file__)"'],
                cwd=tmp_path, env=environment)
    assert str(colcon_install) in where
    start = f'{prefix} && exec "{colcon_install}/lib/inspatio_ros/inspatio_node" --ros-args -p autostart:=false'
    node = subprocess.Popen(['bash', '-c', start], cwd=tmp_path, env=environment, text=True, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT)
    try:
        state = ask_state(rclpy, domain, lambda: node.poll() is None)
    finally:
        node.send_signal(signal.SIGINT)
        output, _ = node.communicate(timeout=60)
    assert state == 'unconfigured', output
    assert node.returncode == 0, output
    assert 'Traceback' not in output


def ask_state(rclpy, domain, goes_on):
    """Ask the lifecycle node of another process for its state, as soon as it answers."""
    from lifecycle_msgs.srv import GetState
    from rclpy.executors import SingleThreadedExecutor
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=domain)
    try:
        watcher = rclpy.create_node('watcher', context=context)
        executor = SingleThreadedExecutor(context=context)
        executor.add_node(watcher)
        client = watcher.create_client(GetState, '/inspatio/get_state')
        if not wait_for(lambda: client.wait_for_service(0.2) or not goes_on(), 60) or not goes_on():
            return 'no service'
        answer = client.call_async(GetState.Request())
        executor.spin_until_future_complete(answer, timeout_sec=60)
        return answer.result().current_state.label if answer.done() else 'no answer'
    finally:
        rclpy.shutdown(context=context)


def wait_for(condition, seconds):
    end = time.monotonic() + seconds
    while not (value := condition()) and time.monotonic() < end:
        time.sleep(0.1)
    return value


@pytest.mark.timeout(180)
def test_pip_installs_everything(source, tmp_path):
    run([sys.executable, '-m', 'pip', 'install', '--no-deps', '--no-build-isolation', '--ignore-installed', '--prefix',
         tmp_path, source], cwd=tmp_path)
    check_share(tmp_path)
    check_package(tmp_path)
    assert os.access(tmp_path / 'bin' / 'inspatio', os.X_OK)


@pytest.mark.timeout(180)
def test_source_distribution_is_whole(source, tmp_path):
    """What is packed can be installed again, with its data."""
    run([sys.executable, 'setup.py', '-q', 'sdist', '--dist-dir', tmp_path], cwd=source)
    archive, = tmp_path.glob('*.tar.gz')
    prefix = tmp_path / 'prefix'
    run([sys.executable, '-m', 'pip', 'install', '--no-deps', '--no-build-isolation', '--ignore-installed', '--prefix',
         prefix, archive], cwd=tmp_path)
    check_share(prefix)
    check_package(prefix)


def test_environment_has_the_package():
    """`make setup` installs it so that edits count: the metadata is there, and the code is the checkout's."""
    scripts = importlib.metadata.entry_points(group='console_scripts', name='inspatio')
    assert [script.value for script in scripts] == ['inspatio_ros.cli:main']
    assert Path(inspatio_ros.__file__).resolve() == PACKAGE / '__init__.py'


# ---- tf2_msgs -----------------------------------------------------------------------------------------------------

TF_PUBLISHER = """
import time, rclpy
from geometry_msgs.msg import TransformStamped
from tf2_msgs.msg import TFMessage
context = rclpy.Context()
rclpy.init(context=context, domain_id={domain})
publisher = rclpy.create_node('publisher', context=context).create_publisher(TFMessage, '/tf', 10)
transform = TransformStamped(child_frame_id='base_link')
transform.header.frame_id, transform.transform.translation.x = 'map', 1.25
end = time.monotonic() + 40.
while time.monotonic() < end:
    publisher.publish(TFMessage(transforms=[transform, transform]))
    time.sleep(0.05)
"""


def test_tf_crosses_processes():
    """The message that setup builds has working type support: another process reads what one published."""
    rclpy = pytest.importorskip('rclpy')
    tf2_msgs = pytest.importorskip('tf2_msgs.msg', reason='tf2_msgs could not be built on this machine')
    from rclpy.executors import SingleThreadedExecutor
    domain = 92
    publisher = subprocess.Popen([sys.executable, '-c', TF_PUBLISHER.format(domain=domain)])
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=domain)
    try:
        node = rclpy.create_node('reader', context=context)
        executor = SingleThreadedExecutor(context=context)
        executor.add_node(node)
        received = []
        node.create_subscription(tf2_msgs.TFMessage, '/tf', received.append, 10)
        wait_for(lambda: executor.spin_once(timeout_sec=0.1) or received, 30)
    finally:
        rclpy.shutdown(context=context)
        publisher.kill()
        publisher.wait()
    assert [item.child_frame_id for item in received[0].transforms] == ['base_link', 'base_link']
    assert received[0].transforms[1].transform.translation.x == 1.25
