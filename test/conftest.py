# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What tests of every module need: where the shared recordings and golden tensors lie."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import settings

# The same examples on every machine, however slow or busy it is.
settings.register_profile('inspatio', deadline=None, derandomize=True, database=None)
settings.load_profile('inspatio')


@pytest.fixture(autouse=True)
def _quiet_ros(tmp_path_factory, monkeypatch):
    """ROS of a test writes its logs where tests write, and is heard on this machine alone."""
    monkeypatch.setenv('ROS_LOG_DIR', str(tmp_path_factory.getbasetemp() / 'ros_log'))
    monkeypatch.setenv('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')


@pytest.fixture(autouse=True)
def _threads_of_torch():
    """What a command's --threads sets counts for its own test alone."""
    torch = sys.modules.get('torch')
    before = torch.get_num_threads() if torch else None
    yield
    torch = sys.modules.get('torch')
    if torch and before:
        torch.set_num_threads(before)


def find_shared() -> Path:
    """Give the shared folder: what INSPATIO_SHARED names, else the one beside the project."""
    named = os.environ.get('INSPATIO_SHARED')
    return Path(named) if named else Path(__file__).resolve().parents[2] / 'shared'


@pytest.fixture(scope='session')
def shared() -> Path:
    """The shared folder; without it the test is skipped."""
    folder = find_shared()
    if not folder.is_dir():
        pytest.skip(f'{folder} is not there; set INSPATIO_SHARED to the folder of recordings and golden tensors')
    return folder


@pytest.fixture(scope='session')
def shared_golden(shared: Path) -> Path:
    """The folder of golden tensors."""
    return shared / 'golden'


@pytest.fixture(scope='session')
def shared_office(shared: Path) -> Path:
    """The real RGB-D recording of an office: 250 frames of 540x360."""
    return shared / 'data' / 'hololens_office_a'
