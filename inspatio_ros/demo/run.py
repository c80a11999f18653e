# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Run the demo: start three processes, wait, stop them in order, and report."""

from __future__ import annotations

import importlib.util
import json
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inspatio_ros.demo.processes import Child, private_ros_env
from inspatio_ros.errors import ConfigurationError, InspatioError
from inspatio_ros.memory import resident_mebibytes
from inspatio_ros.reference import SAMPLE, open_reference

NODE = 'inspatio'
#: What `render` shows unless another size is asked for: at a camera's usual size every topic together is 250 MB/s.
RENDER_SIZE = (320, 192)
#: Seconds that the node may take from its start to its first frame: weights are read and kernels compiled meanwhile.
START_TIMEOUT = 240.
#: Seconds that the processes may take beyond what they are asked to.
PATIENCE = 60.


@dataclass(frozen=True)
class DemoOptions:
    """What to show: recording, generator, size (None: the generator's own), seconds of driving."""

    reference: str = 'sample'
    generator: str = 'nano'
    size: tuple[int, int] | None = None
    duration: float = 15.
    weights: str | None = None
    seed: int = 0
    device: str = 'auto'
    domain: int | None = None
    speed: str = 'exact'
    texture: bool = False

    def node_parameters(self) -> dict[str, Any]:
        """Give the node's parameters."""
        width, height = self.size or (RENDER_SIZE if self.generator == 'render' else (0, 0))
        reference = self.reference if self.reference == SAMPLE else str(Path(self.reference).expanduser().resolve())
        weights = str(Path(self.weights).expanduser().resolve()) if self.weights else ''
        return {'reference': reference, 'generator': self.generator, 'width': width, 'height': height,
                'weights': weights, 'speed': self.speed, 'texture': self.texture, 'seed': self.seed,
                'device': self.device, 'autostart': True,
                # Every frame shall be an image, whoever listens: the frames are counted to know their scene time.
                'idle_unheard': False}


class DemoError(InspatioError):
    """The demo ran, but what it shows is not what it should be."""


def check_ros() -> None:
    """Raise ConfigurationError unless ROS and every message that the node publishes can be imported."""
    for module in ('rclpy', 'tf2_msgs', 'sensor_msgs', 'nav_msgs', 'diagnostic_msgs', 'lifecycle_msgs'):
        if importlib.util.find_spec(module) is None:
            raise ConfigurationError(f'{module} of ROS 2 cannot be imported; source ROS 2 or run make setup '
                                     '(inspatio doctor says more)')


def run_demo(options: DemoOptions, folder: Path, tell: Callable[[str], None]) -> dict[str, Any]:
    """Run the demo into a folder (bag/, video.mp4, contact_sheet.png, summary.json) and give the summary.

    Raises:
        ConfigurationError, RecordingError, WeightsError: what was asked for cannot be shown.
        ChildError: a process ended early or stayed silent.

    """
    check_ros()
    if options.reference != SAMPLE:
        # What is wrong with a recording is said before anything starts. The sample would be cast here for nothing.
        open_reference(options.reference)
    with tempfile.TemporaryDirectory(prefix='inspatio_demo_') as scratch, _ended_in_order():
        facts = _drive_and_record(options, folder, Path(scratch), tell)
    tell('writing video, contact sheet and summary')
    from inspatio_ros.demo.recording import Recording
    from inspatio_ros.demo.report import write_report
    with Recording(folder / 'bag') as recording:
        return write_report(recording, folder, open_reference(options.reference), facts)


def _drive_and_record(options: DemoOptions, folder: Path, scratch: Path,
                      tell: Callable[[str], None]) -> dict[str, Any]:
    peak = 0.

    def watch(elapsed: float, node: Child, recorder: Child) -> None:
        nonlocal peak
        peak = max(peak, resident_mebibytes(node.pid))
        tell(f'  {elapsed:4.0f} s  {recorder.last_of("frames")}')

    start_seconds = drive_node(options, folder / 'bag', scratch, tell, watch)
    return {'reference': options.reference, 'generator': options.generator, 'start_s': round(start_seconds, 2),
            'node_memory_mib': round(peak, 1)}


def drive_node(options: DemoOptions, bag: Path | None, scratch: Path, tell: Callable[[str], None],
               watch: Callable[[float, Child, Child], None]) -> float:
    """Run the three processes until the drive is over; give the seconds that the node took to become active.

    `bag`: folder to record to; None: what arrives is counted and dropped. `scratch`: folder for logs. `watch` is called
    every second of the drive with the seconds driven, the node and the recorder.
    """
    env = private_ros_env(scratch, options.domain)
    tell(f'starting the node: {options.generator} on {options.reference} (ROS_DOMAIN_ID={env["ROS_DOMAIN_ID"]})')
    begun = time.monotonic()
    with _children() as start:
        recorder = start('recorder', 'inspatio_ros.demo.recorder', ['--bag', str(bag)] if bag else [], scratch, env)
        recorder.wait_for('ready', PATIENCE)
        node = start('node', 'inspatio_ros.ros.main', _ros_arguments(options, scratch), scratch, env)
        driver = start('driver', 'inspatio_ros.demo.driver',
                       ['--node', NODE, '--duration', str(options.duration)], scratch, env)
        driver.wait_for('driving', START_TIMEOUT, others=(node, recorder))
        start_seconds = time.monotonic() - begun
        tell(f'node active after {start_seconds:.1f} s; driving for {options.duration:g} s')
        _watch_until_done(driver, node, recorder, options.duration + PATIENCE, watch)
        _await_stragglers(recorder, node)
        driver.end(asked=False)
        recorder.end()
        node.end()
    return start_seconds


def _ros_arguments(options: DemoOptions, scratch: Path) -> list[str]:
    """Give the node's command line; its parameters go through a file, where nothing in them needs quoting."""
    path = scratch / 'parameters.yaml'
    path.write_text(json.dumps({'/**': {'ros__parameters': options.node_parameters()}}))
    return ['--ros-args', '-r', f'__node:={NODE}', '--params-file', str(path)]


def _watch_until_done(driver: Child, node: Child, recorder: Child, timeout: float,
                      watch: Callable[[float, Child, Child], None]) -> None:
    start = time.monotonic()
    while not driver.said('done'):
        for child in (node, recorder):
            child.check()
        elapsed = time.monotonic() - start
        if elapsed > timeout:
            driver.check()
            raise DemoError(f'the driver was not done after {timeout:.0f} s: {driver.last_words()}')
        watch(elapsed, node, recorder)
        time.sleep(1.)


def _await_stragglers(recorder: Child, node: Child) -> None:
    """Give the topics that say something only once in a while the time to: the map takes long to fuse."""
    end = time.monotonic() + PATIENCE
    while not recorder.said('complete') and time.monotonic() < end:
        for child in (node, recorder):
            child.check()
        time.sleep(0.2)


@contextmanager
def _children() -> Iterator[Callable[..., Child]]:
    """Give a way to start children that are all stopped in the end, the last one first."""
    started: list[Child] = []

    def start(name: str, module: str, arguments: list[str], scratch: Path, env: dict[str, str]) -> Child:
        started.append(Child(name, module, arguments, scratch / f'{name}.log', env))
        return started[-1]

    try:
        yield start
    finally:
        for child in reversed(started):
            child.stop()


@contextmanager
def _ended_in_order() -> Iterator[None]:
    """Have SIGTERM and a closed terminal end us as Ctrl-C does, so that nothing is left behind."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {sign: signal.signal(sign, lambda sign, _: sys.exit(128 + sign))
              for sign in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for sign, handler in before.items():
            signal.signal(sign, handler)
