# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Run pip and show what it is doing in a few lines; everything it says goes to a log file."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

#: Without a terminal, one line for every so many packages, and for every download of this size on.
EVERY, LARGE_MB = 25, 50.

_COLLECTING = re.compile(r'Collecting ([\w.-]+)')
_DOWNLOADING = re.compile(r'\s+Downloading .*\(([\d.]+) (k|M|G)B\)')
_MEGABYTES = {'k': 1e-3, 'M': 1., 'G': 1e3}


class PipError(RuntimeError):
    """Pip failed; the message has the end of what it said."""


def run_pip(python: Path, arguments: Iterable[str | Path], expected: int, log: Path,
            environment: dict[str, str]) -> None:
    """Run pip; `expected` is how many packages it will look at."""
    command = [str(python), '-m', 'pip', '--disable-pip-version-check', *map(str, arguments)]
    log.parent.mkdir(parents=True, exist_ok=True)
    said = []
    with open(log, 'a') as file, subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, text=True,
                                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        show = _Progress(expected)
        for line in process.stdout:
            file.write(line)
            said.append(line)
            show.line(line)
        show.end()
    if process.returncode:
        raise PipError(f'pip failed; the whole of what it said is in {log}:\n{"".join(said[-12:])}')


class _Progress:
    def __init__(self, expected: int) -> None:
        self._expected, self._count, self._name = expected, 0, ''
        self._terminal = sys.stdout.isatty()

    def line(self, line: str) -> None:
        """Show what one line of pip's output means, if it means progress."""
        if found := _COLLECTING.match(line):
            self._count, self._name = self._count + 1, found[1]
            self._show(self._count % EVERY == 0, f'{self._count}/{max(self._expected, self._count)} {self._name}')
        elif found := _DOWNLOADING.match(line):
            size = float(found[1]) * _MEGABYTES[found[2]]
            self._show(size >= LARGE_MB, f'{self._count}/{max(self._expected, self._count)} {self._name}: '
                                         f'downloading {size:.0f} MB')
        elif line.startswith('Installing collected packages'):
            self._show(True, f'unpacking {_packages(line.count(",") + 1)}')
        elif line.startswith('Successfully installed'):
            self._show(True, f'installed {_packages(len(line.split()) - 2)}')

    def _show(self, important: bool, text: str) -> None:
        if self._terminal:
            print(f'\r\033[K    {text}', end='', flush=True)
        elif important:
            print(f'    {text}', flush=True)

    def end(self) -> None:
        """Leave the line that a terminal's progress was shown on."""
        if self._terminal:
            print()


def _packages(count: int) -> str:
    return f'{count} package' if count == 1 else f'{count} packages'
