# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What `make setup` does when a machine is not as one hopes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parent.parent / 'scripts'


@pytest.fixture
def setup(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import setup_environment
    return setup_environment


@pytest.fixture
def system(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import system_packages
    return system_packages


def test_a_step_is_repeated_only_when_its_input_changes(setup, tmp_path, monkeypatch):
    monkeypatch.setattr(setup, 'STAMPS', tmp_path)
    done = []
    assert [setup.step('x', 'title', made_from, lambda: done.append(1)) for made_from in 'aab'] == [True, False, True]
    assert len(done) == 2


def test_a_step_that_failed_is_tried_again(setup, tmp_path, monkeypatch):
    monkeypatch.setattr(setup, 'STAMPS', tmp_path)

    def fail():
        raise setup.SetupError('no')

    assert setup.step('x', 'title', 'a', lambda: None)
    for _ in range(2):
        with pytest.raises(setup.SetupError):
            setup.step('x', 'title', 'b', fail)
    assert setup.step('x', 'title', 'a', lambda: None)


def test_an_environment_made_by_hand_is_used_but_never_removed(setup, tmp_path, monkeypatch):
    venv = tmp_path / 'venv'
    (venv / 'bin').mkdir(parents=True)
    (venv / 'bin' / 'python').touch()
    work = venv / 'work'
    work.touch()
    monkeypatch.setattr(setup, 'VENV', venv)
    monkeypatch.setattr(setup, 'STAMPS', venv / 'stamps')
    monkeypatch.setattr(setup, '_adoptable', lambda sourced: True)
    setup.make_venv('wheels', 'one Python')
    setup.make_venv('wheels', 'one Python')
    with pytest.raises(setup.SetupError, match='move it away first'):
        setup.make_venv('wheels', 'another Python')
    assert work.exists()


def test_setup_in_its_own_active_environment_goes_on_outside_of_it(setup, tmp_path, monkeypatch):
    assert setup.python_outside() == '' or Path(sys.prefix).resolve() == setup.VENV.resolve()
    (tmp_path / 'pyvenv.cfg').write_text(
        f'home = /usr/bin\nversion = 3.12.3\ncommand = /usr/bin/python3 -m venv {tmp_path}\n')
    monkeypatch.setattr(setup, 'VENV', tmp_path)
    assert setup.python_outside() == ''
    monkeypatch.setattr(sys, 'prefix', str(tmp_path))
    started = []
    monkeypatch.setattr(os, 'execv', lambda path, arguments: started.append((path, arguments)) or sys.exit(0))
    monkeypatch.setattr(sys, 'argv', ['setup_environment.py'])
    with pytest.raises(SystemExit):
        setup.main()
    assert started == [('/usr/bin/python3', ['/usr/bin/python3', 'setup_environment.py'])]


def test_a_sourced_ros_of_another_python_is_an_error_that_says_what_to_do(setup, monkeypatch):
    monkeypatch.setenv('ROS_DISTRO', 'jazzy')
    monkeypatch.setenv('AMENT_PREFIX_PATH', '/opt/ros/jazzy')
    monkeypatch.setattr(setup, 'imports', lambda python, module: False)
    with pytest.raises(setup.SetupError, match='PYTHON=/usr/bin/python3'):
        setup.find_ros()


def test_a_sourced_ros_is_used_and_its_wheels_are_not_installed(setup, monkeypatch):
    monkeypatch.setenv('ROS_DISTRO', 'jazzy')
    monkeypatch.setenv('AMENT_PREFIX_PATH', '/opt/ros/jazzy')
    monkeypatch.setattr(setup, 'imports', lambda python, module: True)
    ros = setup.find_ros()
    assert ros == 'sourced jazzy'
    assert 'ros.txt' not in [path.name for path in setup.locks(ros)]
    assert 'ros.txt' in [path.name for path in setup.locks('wheels')]


@pytest.mark.parametrize(('machine', 'expected'), [('x86_64', 'wheels'), ('aarch64', 'none')])
def test_wheels_are_for_one_kind_of_machine(setup, monkeypatch, machine, expected):
    monkeypatch.delenv('ROS_DISTRO', raising=False)
    monkeypatch.setattr(setup.platform, 'machine', lambda: machine)
    assert setup.find_ros() == expected


def test_missing_system_packages_are_named_with_the_line_that_installs_them(system, monkeypatch, capsys):
    monkeypatch.setattr(system.os, 'geteuid', lambda: 1000)
    monkeypatch.setitem(system.LIBRARIES, 'libnothing-of-that-name.so.1', 'libnothing1')
    system.provide(build_tools=False)
    said = capsys.readouterr().out
    assert 'apt-get install -y --no-install-recommends' in said
    assert 'libnothing1' in said


def test_setup_stops_without_venv_when_it_cannot_install_it(system, monkeypatch):
    monkeypatch.setattr(system.os, 'geteuid', lambda: 1000)
    monkeypatch.setattr(system.importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(RuntimeError, match='everything needs'):
        system.provide(build_tools=False)


def test_pip_failure_shows_its_last_words(setup, tmp_path):
    with pytest.raises(setup.pip_progress.PipError, match='no-such-requirements.txt'):
        setup.pip_progress.run_pip(Path(sys.executable), ['install', '-r', tmp_path / 'no-such-requirements.txt'], 1,
                                   tmp_path / 'log', dict(os.environ))


def test_a_build_of_tf2_msgs_that_fails_says_so_in_the_first_line(tmp_path):
    done = subprocess.run([sys.executable, SCRIPTS / 'build_tf2_msgs.py', '--venv', tmp_path / 'none', '--build',
                           tmp_path / 'build'], text=True, capture_output=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith('tf2_msgs was not built: ')
    assert 'Traceback' not in done.stderr


def test_the_executable_in_a_python_without_the_package_says_what_to_do():
    done = subprocess.run([sys.executable, '-I', '-S', SCRIPTS / 'inspatio_node'], text=True, capture_output=True,
                          check=False)
    assert done.returncode == 1
    assert re.fullmatch(r"inspatio_node: .* has no module 'inspatio_ros'\. Activate .*\n", done.stderr)


def test_the_message_of_tf_is_built_where_it_can_be(setup):
    rclpy = pytest.importorskip('rclpy')
    if Path(sys.prefix).resolve() not in Path(rclpy.__file__).resolve().parents or not all(setup.build_tools()):
        pytest.skip('ROS is installed and brings it, or there is nothing to build it with')
    # Without it the tests of the demo and of TF would be skipped, and nobody would see.
    import tf2_msgs.msg
    assert tf2_msgs.msg.TFMessage
