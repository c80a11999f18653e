# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Make the checkout's `.venv`: what `make setup` runs, with nothing but a Python 3.11 or newer.

Each step leaves a stamp of what it was made from and is skipped while that is unchanged, so a second run takes no
time. Where ROS 2 is sourced it is used; elsewhere it comes as wheels.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pip_progress
import system_packages

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / '.venv'
STAMPS = VENV / 'inspatio_stamps'
REQUIREMENTS = ROOT / 'requirements'
BUILD = ROOT / 'build'
LOG = BUILD / 'setup.log'

OLDEST, NEWEST = (3, 11), (3, 13)

#: What is copied into the environment when the package is installed, and so must be installed again when it changes.
PACKAGE_SOURCES = ('setup.py', 'setup.cfg', 'pyproject.toml', 'package.xml', 'inspatio_ros/__init__.py', 'resource/*',
                   'scripts/inspatio_node', 'launch/*', 'config/**/*', 'rviz/*')


class SetupError(RuntimeError):
    """Something that stops the setup; the message says what to do."""


def clean_environment() -> dict[str, str]:
    """Copy the environment without what another environment's ROS wheels set at their start."""
    environment = dict(os.environ)
    if environment.pop('_ROS_WHEELS_BOOTSTRAP_COMPLETE', None):
        environment.pop('LD_LIBRARY_PATH', None)
    environment.pop('PYTHONHOME', None)
    return environment


def pip(*arguments: str | Path, expected: int = 0) -> None:
    """Run the environment's pip; `expected` is how many packages it will look at."""
    pip_progress.run_pip(VENV / 'bin' / 'python', arguments, expected, LOG, clean_environment())


def imports(python: str | Path, module: str) -> bool:
    """Say whether a Python can import a module."""
    return subprocess.run([str(python), '-c', f'import {module}'], env=clean_environment(), check=False,
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0


def find_ros() -> str:
    """Say where ROS 2 comes from: 'sourced NAME', 'wheels', or 'none' (no wheels for this machine)."""
    name = os.environ.get('ROS_DISTRO')
    if name and os.environ.get('AMENT_PREFIX_PATH'):
        if not imports(sys.executable, 'rclpy'):
            raise SetupError(f'ROS 2 {name} is sourced, but Python {platform.python_version()} at {sys.executable} '
                             f'cannot import its rclpy. Use the Python that {name} is made for (make setup '
                             'PYTHON=/usr/bin/python3), or a shell in which ROS is not sourced')
        return f'sourced {name}'
    return 'wheels' if platform.machine() == 'x86_64' and sys.platform == 'linux' else 'none'


def digest(values: Iterable[object], files: Iterable[Path] = ()) -> str:
    """Hash values and the content of files."""
    total = hashlib.sha256(json.dumps([str(value) for value in values]).encode())
    for path in files:
        total.update(str(path.relative_to(ROOT)).encode() + path.read_bytes())
    return total.hexdigest()


def step(name: str, title: str, made_from: str, action: Callable[[], None]) -> bool:
    """Carry out one step unless its stamp says that it was done from the very same; say whether it was."""
    stamp = STAMPS / name
    if stamp.is_file() and stamp.read_text() == made_from:
        return False
    start = time.monotonic()
    print(f'==> {title}', flush=True)
    stamp.unlink(missing_ok=True)
    action()
    STAMPS.mkdir(parents=True, exist_ok=True)
    stamp.write_text(made_from)
    print(f'    done in {time.monotonic() - start:.0f} s', flush=True)
    return True


def make_venv(ros: str, identity: str) -> None:
    """Create the virtual environment, anew if it belongs to another Python, folder or ROS."""
    stamp = STAMPS / 'venv'
    adopted = STAMPS / 'adopted'
    sourced = ros.startswith('sourced')
    if stamp.is_file() and stamp.read_text() == identity and (VENV / 'bin' / 'python').exists():
        return
    if not stamp.is_file() and _adoptable(sourced):
        print(f'==> Using the virtual environment that is there: {VENV}', flush=True)
        STAMPS.mkdir(parents=True, exist_ok=True)
        adopted.touch()
    else:
        anew = ' anew (it was made for another Python, folder or ROS 2)' if stamp.is_file() else ''
        print(f'==> Creating {VENV} with Python {platform.python_version()}{anew}', flush=True)
        # A .venv made by hand may be somebody's work; one of ours is made again at will.
        if VENV.exists() and (adopted.is_file() or not stamp.is_file()):
            raise SetupError(f'{VENV} belongs to another Python or was not made by `make setup`; move it away first')
        shutil.rmtree(VENV, ignore_errors=True)
        kind = ['--system-site-packages'] if sourced else []
        subprocess.run([sys.executable, '-m', 'venv', *kind, str(VENV)], env=clean_environment(), check=True)
    STAMPS.mkdir(parents=True, exist_ok=True)
    stamp.write_text(identity)


def _venv_settings() -> dict[str, str]:
    """Read what the virtual environment says of itself; nothing if there is none."""
    config = VENV / 'pyvenv.cfg'
    lines = config.read_text().splitlines() if config.is_file() else []
    return dict(line.split(' = ', 1) for line in lines if ' = ' in line)


def python_outside() -> str:
    """Give the Python that made our environment if this one lives in it ('' if not).

    In a shell in which .venv is active, `python3` is its own; and no Python can make anew what it runs in.
    """
    if Path(sys.prefix).resolve() != VENV.resolve():
        return ''
    return _venv_settings().get('command', '').partition(' -m venv')[0]


def _adoptable(sourced: bool) -> bool:
    """Say whether a virtual environment without our stamp is of this Python and kind."""
    settings = _venv_settings()
    minor = '.'.join(platform.python_version_tuple()[:2])
    return (settings.get('version', '').startswith(minor + '.')
            and (settings.get('include-system-site-packages') == 'true') == sourced)


def locks(ros: str) -> list[Path]:
    """Give the lock files that this machine needs, torch's apart."""
    names = ['runtime.txt', 'test.txt'] + (['ros.txt'] if ros == 'wheels' else [])
    return [REQUIREMENTS / name for name in names]


def install_dependencies(ros: str) -> None:
    """Install exactly what the lock files list, then torch, and check that everything fits together."""
    files = [part for path in locks(ros) for part in ('-r', path)]
    pinned = {line for path in locks(ros) for line in path.read_text().splitlines() if '==' in line}
    pip('install', '--no-deps', *files, expected=sum('win32' not in line for line in pinned))
    # Torch brings what its build for this machine needs (nothing for CPUs, CUDA's libraries for GPUs), in the
    # versions that it pins itself.
    pip('install', '-c', REQUIREMENTS / 'runtime.txt', '-r', REQUIREMENTS / 'torch.txt')
    if not ros.startswith('sourced'):
        # With a sourced ROS, the check would report the system's own packages.
        pip('check')


def build_tools() -> tuple[str | None, bool]:
    """Give what compiles tf2_msgs: the compiler, and whether Python's headers are there."""
    return system_packages.find_compiler(), system_packages.find_headers()


def build_tf2_msgs() -> None:
    """Build the message of /tf; without it the node works, but publishes no transforms."""
    if not all(build_tools()):
        print('    skipped: there is no C++ compiler, or no headers of this Python', flush=True)
        return
    done = subprocess.run([str(VENV / 'bin' / 'python'), str(ROOT / 'scripts' / 'build_tf2_msgs.py'), '--venv',
                           str(VENV), '--build', str(BUILD / 'tf2_msgs')], cwd=ROOT, env=clean_environment(),
                          stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        print('    it failed (see above); when it is mended: make clean-stamps setup', flush=True)


def install_package() -> None:
    """Install this package so that edits of the checkout count at once."""
    pip('install', '--no-deps', '--no-build-isolation', '--editable', ROOT)


def say_where_ros_is(ros: str) -> None:
    """Tell how to get ROS 2 on a machine for which it has no wheels."""
    if ros == 'none':
        print(f'    ROS 2 has no wheels for {platform.machine()}: `inspatio render` and `verify` work, the node and '
              '`inspatio demo` do not.\n    On Ubuntu, add the ROS 2 apt repository, then:\n'
              '      sudo apt-get install ros-jazzy-ros-base ros-jazzy-cv-bridge ros-jazzy-rviz2\n'
              '      source /opt/ros/jazzy/setup.bash && make setup', flush=True)


def package_files() -> list[Path]:
    """List what the installation of the package copies."""
    found = {path for pattern in PACKAGE_SOURCES for path in ROOT.glob(pattern)}
    return sorted(path for path in found if path.is_file() and '__pycache__' not in path.parts)


def run() -> None:
    """Carry out every step that is not done yet."""
    ros = find_ros()
    python = f'{sys.version} {sys.executable}'
    identity = digest([python, VENV, ros])
    if not (STAMPS / 'venv').is_file() or (STAMPS / 'venv').read_text() != identity:
        print(f'Setting up {ROOT.name}: Python {platform.python_version()}, {platform.machine()}, ROS 2: {ros}')
        say_where_ros_is(ros)
        print('==> Looking for system packages', flush=True)
        system_packages.provide(build_tools=ros == 'wheels')
    make_venv(ros, identity)
    dependencies = digest([identity], [*locks(ros), REQUIREMENTS / 'torch.txt', Path(__file__).resolve()])
    step('dependencies', f'Installing {", ".join(path.name for path in locks(ros))} and torch.txt of requirements/',
         dependencies, lambda: install_dependencies(ros))
    if ros == 'wheels':
        sources = [ROOT / 'scripts' / 'build_tf2_msgs.py', REQUIREMENTS / 'tf2_msgs.txt']
        step('tf2_msgs', 'Building tf2_msgs (the message of /tf; 20 s)', digest([identity, *build_tools()], sources),
             build_tf2_msgs)
        if not any(VENV.glob('lib/python3*/site-packages/tf2_msgs')):
            print('WARNING: tf2_msgs is missing, so the node publishes no TF and make demo cannot run (make doctor)',
                  flush=True)
    if not any(VENV.glob('lib/python3*/site-packages/inspatio_ros-*.dist-info')):
        # Somebody's own pip took it away.
        (STAMPS / 'package').unlink(missing_ok=True)
    step('package', 'Installing inspatio_ros into the environment', digest([dependencies], package_files()),
         install_package)


def main() -> int:
    """Set up once at a time; say in one line what failed."""
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        print(f'setup: Python {OLDEST[0]}.{OLDEST[1]} to {NEWEST[0]}.{NEWEST[1]} is needed, this is '
              f'{platform.python_version()} at {sys.executable}', file=sys.stderr)
        return 1
    outside = python_outside()
    if outside:
        os.execv(outside, [outside, *sys.argv])
    BUILD.mkdir(exist_ok=True)
    # In a colcon workspace, the sources that are generated below it are no packages of the workspace.
    (BUILD / 'COLCON_IGNORE').touch()
    with open(BUILD / 'setup.lock', 'w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            run()
        except (RuntimeError, OSError, subprocess.CalledProcessError) as error:
            print(f'setup: {error}', file=sys.stderr)
            return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
