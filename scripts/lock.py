# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Write requirements/*.txt anew from requirements/*.in: what `make lock` runs.

Versions that are locked stay unless the .in file rules them out; `--upgrade` takes the newest of all.
"""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

#: Each lock, and those whose versions it has to share because they meet in one environment or in one binary interface.
LOCKS = {'runtime': (), 'ros': ('runtime',), 'test': ('runtime', 'ros'), 'tf2_msgs': ('runtime', 'ros')}

OLDEST_PYTHON = '3.11'


def main() -> None:
    """Resolve every lock for all Pythons and machines at once, with uv in an environment of its own."""
    tools = ROOT / 'build' / 'lock'
    venv.create(tools, with_pip=True)
    subprocess.run([tools / 'bin' / 'python', '-m', 'pip', 'install', '-q', 'uv'], check=True)
    for name, shared in LOCKS.items():
        constraints = [part for other in shared for part in ('-c', f'{other}.txt')]
        subprocess.run([tools / 'bin' / 'uv', 'pip', 'compile', '--universal', '--python-version', OLDEST_PYTHON, '-q',
                        '--no-annotate', '--custom-compile-command', 'make lock', *constraints, *sys.argv[1:],
                        f'{name}.in', '-o', f'{name}.txt'], cwd=ROOT / 'requirements', check=True)
        print(f'requirements/{name}.txt')


if __name__ == '__main__':
    main()
