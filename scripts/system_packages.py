# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Find which system packages are missing, and install them if that is allowed."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

#: Libraries that wheels expect of the system, and the Debian and Ubuntu package of each. All of them are Open3D's.
LIBRARIES = {'libEGL.so.1': 'libegl1', 'libGL.so.1': 'libgl1', 'libX11.so.6': 'libx11-6', 'libidn2.so.0': 'libidn2-0',
             'libudev.so.1': 'libudev1', 'libusb-1.0.so.0': 'libusb-1.0-0'}


@dataclass(frozen=True)
class Missing:
    """One system package that is not there; `loss` does not work without it."""

    package: str
    loss: str
    needed: bool = False


def find_missing(build_tools: bool) -> Iterator[Missing]:
    """Look for what this Python and the wheels need; `build_tools`: also for what builds tf2_msgs."""
    version = f'{sys.version_info.major}.{sys.version_info.minor}'
    if importlib.util.find_spec('ensurepip') is None or importlib.util.find_spec('venv') is None:
        yield Missing(f'python{version}-venv', 'the virtual environment, and so for everything', needed=True)
    for library, package in LIBRARIES.items():
        if not _loads(library):
            yield Missing(package, 'Open3D (map_points, ~/save_map)')
    if build_tools:
        loss = 'TF (tf2_msgs is built from source)'
        if not find_compiler():
            yield Missing('g++', loss)
        if not find_headers():
            yield Missing(f'python{version}-dev', loss)


def find_compiler() -> str | None:
    """Give the C++ compiler's path, None if there is none."""
    return shutil.which(os.environ.get('CXX', 'c++')) or shutil.which('g++')


def find_headers() -> bool:
    """Say whether this Python's headers are there."""
    return Path(sysconfig.get_path('include'), 'Python.h').is_file()


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def provide(build_tools: bool) -> None:
    """Install what is missing when root, else name it with the line that installs it.

    Raises:
        RuntimeError: something without which nothing works is missing and cannot be installed.

    """
    missing = list(find_missing(build_tools))
    if not missing:
        return
    packages = [item.package for item in missing]
    line = f'apt-get install -y --no-install-recommends {" ".join(packages)}'
    print(f'    missing system packages: {", ".join(packages)}', flush=True)
    if os.geteuid() == 0 and shutil.which('apt-get'):
        print(f'    {line}', flush=True)
        _install(packages)
        missing = list(find_missing(build_tools))
    for item in missing:
        print(f'    {item.package} is needed for {item.loss}', flush=True)
    if missing:
        print(f'    to install them: sudo apt-get update && sudo {line}', flush=True)
    if any(item.needed for item in missing):
        raise RuntimeError('a system package that everything needs is missing (see above)')


def _install(packages: list[str]) -> None:
    environment = {**os.environ, 'DEBIAN_FRONTEND': 'noninteractive'}
    quiet = {'env': environment, 'check': False, 'stdin': subprocess.DEVNULL, 'stdout': subprocess.DEVNULL}
    # A source that cannot be reached makes the update fail, though the packages may be in another one.
    subprocess.run(['apt-get', 'update', '-q'], **quiet)
    done = subprocess.run(['apt-get', 'install', '-y', '-q', '--no-install-recommends', *packages], **quiet)
    if done.returncode:
        print('    apt-get failed (see above)', flush=True)
