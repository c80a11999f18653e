# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""How the commands of training end: an error, or Ctrl-C, is one sentence and an exit code."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable

from inspatio_ros.errors import InspatioError
from inspatio_ros.training.memory import keep_freed_memory

#: Exit code after Ctrl-C, as a shell gives it.
INTERRUPTED = 128 + signal.SIGINT


def run(action: Callable[[], object], stopped: str = 'stopped') -> int:
    """Do what a command is for; gives its exit code, after one sentence to stderr where it was not done.

    `stopped` is the sentence after Ctrl-C.
    """
    keep_freed_memory()
    try:
        action()
    except InspatioError as error:
        print(f'error: {error}', file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(stopped, file=sys.stderr)
        return INTERRUPTED
    return 0
