# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Say what works on this machine, what is missing, and the line that mends it.

Exit code 0 if the main job (`inspatio demo`) can run here, 1 if something it needs, or the folder that --weights names,
is missing.
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from inspatio_ros.errors import InspatioError

#: What the main job needs beyond torch and ROS, and the package that brings it.
LIBRARIES = {'numpy': 'numpy', 'numba': 'numba', 'cv2': 'opencv-python-headless', 'av': 'av', 'rosbags': 'rosbags',
             'safetensors': 'safetensors', 'scipy': 'scipy', 'transforms3d': 'transforms3d'}

SETUP = 'make setup'


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: whether it works, whether the main job needs it, and what mends it."""

    name: str
    works: bool
    detail: str
    mend: str = ''
    needed: bool = True

    def __str__(self) -> str:
        """Give the line, and a second one with what mends it."""
        state = 'ok' if self.works else 'MISSING' if self.needed else 'absent'
        line = f'{state:8}{self.name:14}{self.detail}'
        return line if self.works or not self.mend else f'{line}\n{"":22}mend: {self.mend}'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `inspatio doctor`."""
    parser.add_argument('--weights', metavar='DIR', help='folder of the 1.3b weights (default: INSPATIO_WEIGHTS)')


def run(args: argparse.Namespace) -> int:
    """Print every finding; 1 if the main job lacks something."""
    lacking = []
    for finding in findings(args.weights):
        print(finding, flush=True)
        if finding.needed and not finding.works:
            lacking.append(finding.name)
    print(f'What was asked for cannot run here: {", ".join(lacking)} missing.' if lacking
          else 'The main job can run here: inspatio demo')
    return 1 if lacking else 0


def findings(weights: str | None = None) -> Iterator[Finding]:
    """Look at one thing after the other, the main job's needs first."""
    yield check_python()
    yield check_torch()
    for module, package in LIBRARIES.items():
        finding = check_import(module, f'pip install {package}')
        # What works is expected and would only hide what does not.
        if not finding.works:
            yield finding
    yield check_ros()
    yield check_tf2_msgs()
    yield check_video()
    yield check_nano()
    yield check_open3d()
    # cv_bridge comes with a ROS that is installed; no wheel brings it.
    yield check_import('cv_bridge', _apt('cv-bridge') if 'ROS_DISTRO' in os.environ else '', needed=False,
                       absent='a small reader of our own reads the common image encodings')
    yield check_large_weights(weights)


def check_python() -> Finding:
    """Look at the Python that runs this."""
    version = platform.python_version()
    return Finding('python', sys.version_info >= (3, 11), f'{version} at {sys.executable}',
                   'install Python 3.11 or 3.12, remove .venv, and run make setup')


def check_torch() -> Finding:
    """Look at torch, and at the device that it sees."""
    torch, error = _try_import('torch')
    if torch is None:
        return Finding('torch', False, error, SETUP)
    if torch.cuda.is_available():
        device = f'on {torch.cuda.get_device_name(0)}'
    else:
        device = f'on the CPU, {torch.get_num_threads()} threads (no GPU seen)'
    return Finding('torch', True, f'{torch.__version__} {device}')


def check_ros() -> Finding:
    """Look at ROS 2: which one it is, and where it comes from."""
    rclpy, error = _try_import('rclpy')
    if rclpy is None:
        return Finding('ros', False, error, f'{SETUP}, or source /opt/ros/<distro>/setup.bash')
    place = Path(rclpy.__file__).resolve()
    if Path(sys.prefix).resolve() in place.parents:
        origin = f'from the wheels in {sys.prefix}'
    else:
        origin = f'sourced: {os.environ.get("ROS_DISTRO", "an unnamed distribution")} at {place.parents[1]}'
    return Finding('ros', True, f'rclpy {origin}')


def check_tf2_msgs() -> Finding:
    """Look at the message of /tf, which no wheel brings."""
    mend = _apt('tf2-msgs') if 'ROS_DISTRO' in os.environ else f'{SETUP} (it builds the message)'
    return check_import('tf2_msgs.msg', mend)


def check_video() -> Finding:
    """Look at the encoder of the videos."""
    av, error = _try_import('av')
    if av is None:
        return Finding('h264', False, error, 'pip install av')
    return Finding('h264', 'libx264' in av.codecs_available, f'libx264 of PyAV {av.__version__}', 'pip install av')


def check_nano() -> Finding:
    """Load the weights that come with the package."""
    try:
        from inspatio_ros.star.checkpoint import find_folder
        from inspatio_ros.star.pipeline import StarPipeline
        StarPipeline.load('nano')
        folder = find_folder('nano')
    except Exception as error:  # noqa: BLE001  torch may fail to load in any way, and the lines below must still come
        return Finding('nano weights', False, _said(error), 'install the package again')
    size = sum(entry.stat().st_size for entry in folder.iterdir()) / 2**20
    return Finding('nano weights', True, f'{size:.1f} MiB in {folder}')


def check_open3d() -> Finding:
    """Look at Open3D, which fuses the published map."""
    mend = 'apt-get install libusb-1.0-0' if _installed('open3d') else 'pip install open3d'
    return check_import('open3d', mend, absent='map_points and ~/save_map cannot work')


def check_large_weights(weights: str | None) -> Finding:
    """Look for the released weights, which no package brings."""
    try:
        from inspatio_ros.star.checkpoint import find_file, find_folder
        from inspatio_ros.star.pipeline import AUTOENCODER_FILES, TEXT_FILES, TRANSFORMER_FILES
        folder = find_folder('1.3b', weights)
        found = [find_file(folder, TRANSFORMER_FILES, 'transformer'),
                 find_file(folder, AUTOENCODER_FILES, 'autoencoder'),
                 find_file(folder, TEXT_FILES, 'text embedding (`inspatio caption` makes it)')]
    except Exception as error:  # noqa: BLE001  as above
        # Who names a folder needs what is in it.
        return Finding('1.3b weights', False, _said(error), needed=weights is not None)
    return Finding('1.3b weights', True, f'{", ".join(path.name for path in found)} in {folder}', needed=False)


def check_import(module: str, mend: str, needed: bool = True, absent: str = '') -> Finding:
    """Import a module and say its version."""
    loaded, error = _try_import(module)
    name = module.partition('.')[0]
    if loaded is None:
        return Finding(name, False, f'{error}; {absent}' if absent else error, mend, needed)
    return Finding(name, True, getattr(loaded, '__version__', 'imports'), needed=needed)


def _try_import(module: str) -> tuple[object | None, str]:
    try:
        return importlib.import_module(module), ''
    except Exception as error:  # noqa: BLE001  an import may fail in any way, and saying how is this command's job
        return None, f'{type(error).__name__}: {str(error).splitlines()[0] if str(error) else module}'


def _said(error: Exception) -> str:
    """Give a sentence of ours as it is, the first line of any other error with its kind."""
    if isinstance(error, InspatioError):
        return str(error)
    return f'{type(error).__name__}: {next(iter(str(error).splitlines()), "")}'


def _installed(module: str) -> bool:
    from importlib.util import find_spec
    return find_spec(module) is not None


def _apt(package: str) -> str:
    return f'apt-get install ros-{os.environ.get("ROS_DISTRO", "jazzy")}-{package}'
