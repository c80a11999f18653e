# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Build tf2_msgs, which has no wheel, and install it into a virtual environment that has ROS 2 from wheels.

    python3 scripts/build_tf2_msgs.py --venv .venv --build build/tf2_msgs

The message generators go to an environment of their own, which is removed afterwards. Needs a C++ compiler and
Python's headers; imports the standard library alone.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

REQUIREMENTS = Path(__file__).resolve().parent.parent / 'requirements' / 'tf2_msgs.txt'

PACKAGE_XML = """\
<?xml version="1.0"?>
<package format="3">
  <name>tf2_msgs</name>
  <version>0.36.0</version>
  <description>The message of /tf and /tf_static, generated where ROS 2 comes from wheels.</description>
  <maintainer email="inspatio_ros@users.noreply.github.com">The inspatio_ros authors</maintainer>
  <license>Apache-2.0</license>
  <buildtool_depend>ament_cmake</buildtool_depend>
  <buildtool_depend>rosidl_default_generators</buildtool_depend>
  <depend>geometry_msgs</depend>
  <exec_depend>rosidl_default_runtime</exec_depend>
  <member_of_group>rosidl_interface_packages</member_of_group>
  <export><build_type>ament_cmake</build_type></export>
</package>
"""

CMAKE_LISTS = """\
cmake_minimum_required(VERSION 3.20)
project(tf2_msgs)
find_package(ament_cmake REQUIRED)
find_package(geometry_msgs REQUIRED)
find_package(rosidl_default_generators REQUIRED)
rosidl_generate_interfaces(${PROJECT_NAME} msg/TFMessage.msg DEPENDENCIES geometry_msgs)
ament_package()
"""

MESSAGE = 'geometry_msgs/TransformStamped[] transforms\n'


def clean_environment() -> dict[str, str]:
    """Copy the environment without what the ROS wheels' start-up set for the Python that runs this script."""
    dropped = ('LD_LIBRARY_PATH', '_ROS_WHEELS_BOOTSTRAP_COMPLETE', 'PYTHONPATH', 'PYTHONHOME', 'VIRTUAL_ENV')
    return {name: value for name, value in os.environ.items() if name not in dropped}


def call(command: list[str | Path], **environment: str) -> None:
    """Run a command quietly; raise with the end of what it printed when it fails."""
    done = subprocess.run([str(part) for part in command], env={**clean_environment(), **environment},
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        tail = '\n'.join(done.stdout.splitlines()[-25:])
        raise RuntimeError(f'{Path(command[0]).name} failed ({done.returncode}):\n{tail}')


def ask(python: Path, expression: str) -> str:
    """Evaluate an expression in another Python."""
    code = f'import sysconfig, importlib.util, os; print({expression})'
    return subprocess.run([str(python), '-c', code], env=clean_environment(), text=True, check=True,
                          stdout=subprocess.PIPE).stdout.strip()


def write_package(source: Path) -> None:
    """Write the message package: one message, as every ROS 2 distribution has it."""
    (source / 'msg').mkdir(parents=True)
    (source / 'package.xml').write_text(PACKAGE_XML)
    (source / 'CMakeLists.txt').write_text(CMAKE_LISTS)
    (source / 'msg' / 'TFMessage.msg').write_text(MESSAGE)


def relocate(tools: Path, python: Path) -> None:
    """Point the wheels' exported cmake targets at this machine's headers instead of those of their builder."""
    headers = ask(python, "sysconfig.get_path('include')")
    numpy = ask(python, "os.path.join(os.path.dirname(importlib.util.find_spec('numpy').origin), '_core', 'include')")
    for path in tools.glob('share/*/cmake/*.cmake'):
        text = path.read_text()
        changed = re.sub(r'/opt/python/[^;"]*/site-packages/numpy/_core/include', numpy, text)
        changed = re.sub(r'/opt/python/[^;"/]*/include/python3[^;"/]*', headers, changed)
        if changed != text:
            path.write_text(changed)


def build(venv: Path, folder: Path) -> None:
    """Build the package with throw-away generators and install it into the virtual environment."""
    shutil.rmtree(folder, ignore_errors=True)
    tools, source = folder / 'tools', folder / 'source'
    write_package(source)
    call([venv / 'bin' / 'python', '-m', 'venv', tools])
    python = tools / 'bin' / 'python'
    call([python, '-m', 'pip', 'install', '--no-deps', '--disable-pip-version-check', '-r', REQUIREMENTS])
    relocate(tools, python)
    environment = {'AMENT_PREFIX_PATH': str(tools), 'CMAKE_PREFIX_PATH': str(tools),
                   'PATH': f'{tools / "bin"}:{os.environ.get("PATH", os.defpath)}'}
    # The extension is named after the site-packages of the Python it is installed for.
    call(['cmake', '-S', source, '-B', folder / 'cmake', '-G', 'Ninja', '-DCMAKE_BUILD_TYPE=Release',
          '-DBUILD_TESTING=OFF', f'-DCMAKE_INSTALL_PREFIX={venv}', f'-DPython3_EXECUTABLE={python}',
          '-DPython3_FIND_VIRTUALENV=ONLY'], **environment)
    call(['cmake', '--build', folder / 'cmake'], **environment)
    call(['cmake', '--install', folder / 'cmake'], **environment)


def check(venv: Path) -> None:
    """Load the message and its type support in the Python that will use it."""
    code = ('from rclpy.type_support import check_for_type_support\n'
            'from tf2_msgs.msg import TFMessage\ncheck_for_type_support(TFMessage)')
    call([venv / 'bin' / 'python', '-c', code])


def main() -> int:
    """Build, install, check; say in one line why it failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--venv', type=Path, required=True, help='the environment that gets tf2_msgs')
    parser.add_argument('--build', type=Path, required=True, help='a folder for what is built (replaced)')
    arguments = parser.parse_args()
    venv, folder = arguments.venv.absolute(), arguments.build.absolute()
    try:
        build(venv, folder)
        check(venv)
    except (RuntimeError, OSError, subprocess.CalledProcessError) as error:
        print(f'tf2_msgs was not built: {error}', file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(folder / 'tools', ignore_errors=True)
    return 0


if __name__ == '__main__':
    sys.exit(main())
