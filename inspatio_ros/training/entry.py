# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""How the commands of training end: an error is one sentence and an exit code."""

from __future__ import annotations

import sys
from collections.abc import Callable

from inspatio_ros.errors import InspatioError
from inspatio_ros.training.memory import keep_freed_memory


def run(action: Callable[[], object]) -> int:
    """Do what a command is for; gives its exit code, after one sentence to stderr where an InspatioError ends it."""
    keep_freed_memory()
    try:
        action()
    except InspatioError as error:
        print(f'error: {error}', file=sys.stderr)
        return error.exit_code
    return 0
