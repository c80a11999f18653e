# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Child processes that are watched, that end with their parent, and whose ROS graph is their own."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from inspatio_ros.errors import InspatioError

#: Ids that work on every system beside the ephemeral ports.
_DOMAINS = range(1, 102)
#: What would make a graph reach beyond this machine or its own domain.
_WIDER = ('ROS_STATIC_PEERS', 'ROS_DISCOVERY_SERVER', 'ROS_SUPER_CLIENT', 'ROS_LOCALHOST_ONLY')


class ChildError(InspatioError):
    """A process of ours ended or stayed silent when it should not have."""


class Child:
    """A Python module in its own process; what it prints goes to a file and is what it is known by."""

    def __init__(self, name: str, module: str, arguments: Sequence[str], log: Path, env: dict[str, str]) -> None:
        self.name, self._log = name, log
        with log.open('wb') as output:
            # A session of its own: Ctrl-C reaches us alone, and we end the others in their order.
            self._process = subprocess.Popen(
                [sys.executable, '-m', 'inspatio_ros.demo.child', module, *arguments], stdin=subprocess.DEVNULL,
                stdout=output, stderr=subprocess.STDOUT, env=env, start_new_session=True)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    def said(self, word: str) -> bool:
        """Say whether the process has printed a line that starts with `word`."""
        return any(line.startswith(word) for line in self._lines())

    def last_of(self, word: str) -> str:
        """Give the last line that starts with `word`, empty if there is none."""
        return next((line for line in reversed(self._lines()) if line.startswith(word)), '')

    def last(self, count: int = 1) -> str:
        """Give the last lines that the process printed."""
        return '\n'.join(self._lines()[-count:])

    def check(self) -> None:
        """Raise ChildError, with its last words, if the process has ended."""
        if not self.alive:
            raise ChildError(f'the {self.name} ended early with exit code {self._process.returncode}: '
                             f'{self.last_words()}')

    def last_words(self) -> str:
        """Give the last error that the process logged, or else its last lines."""
        errors = [line.partition(']: ')[2] for line in self._lines() if line.startswith(('[ERROR]', '[FATAL]'))]
        return errors[-1] if errors else '\n' + self.last(12)

    def wait_for(self, word: str, timeout: float, others: Sequence[Child] = ()) -> None:
        """Wait until the process prints a line that starts with `word`; `others` must stay alive meanwhile."""
        end = time.monotonic() + timeout
        while not self.said(word):
            for child in (*others, self):
                child.check()
            if time.monotonic() > end:
                silent = others[0] if others else self
                raise ChildError(f'the {self.name} did not say {word!r} within {timeout:.0f} s; '
                                 f'the last words of the {silent.name}: {silent.last_words()}')
            time.sleep(0.1)

    def stop(self, timeout: float = 20.) -> int:
        """Ask the process to end (SIGINT), insist where it does not, and give its exit code."""
        for sign, patience in ((signal.SIGINT, timeout), (signal.SIGTERM, 5.), (signal.SIGKILL, 5.)):
            if not self.alive:
                break
            self._process.send_signal(sign)
            try:
                self._process.wait(patience)
            except subprocess.TimeoutExpired:
                continue
        return self._process.wait()

    def end(self, asked: bool = True, timeout: float = 20.) -> None:
        """See the process to its end, which it is `asked` for or comes to by itself.

        Raises ChildError if it does not end in good order.
        """
        if not asked:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout)
        code = self.stop(timeout)
        if code != 0:
            raise ChildError(f'the {self.name} ended with exit code {code}: {self.last_words()}')

    def _lines(self) -> list[str]:
        return self._log.read_text(errors='replace').splitlines()


def private_ros_env(log_folder: Path, domain: int | None = None) -> dict[str, str]:
    """Give an environment whose ROS graph is on this machine only and apart from any other."""
    env = {name: value for name, value in os.environ.items() if name not in _WIDER}
    env['ROS_DOMAIN_ID'] = str(free_domain() if domain is None else domain)
    env['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
    env['ROS_LOG_DIR'] = str(log_folder)
    env['PYTHONUNBUFFERED'] = '1'
    return env


def free_domain() -> int:
    """Choose a ROS domain whose discovery port nobody on this machine listens to."""
    for domain in random.SystemRandom().sample(_DOMAINS, len(_DOMAINS)):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind(('', 7400 + 250 * domain))
            except OSError:
                continue
            return domain
    raise ChildError('every ROS domain from 1 to 101 is in use on this machine; name one with --domain')
