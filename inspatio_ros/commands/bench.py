# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Measure speed and memory on this machine, warm, from camera poses to RGB on the host.

Each generator is timed in turn, every stage and all of it. --soak runs one for minutes and watches its memory instead,
--ros measures the node around it, --compare shows two earlier results side by side.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from inspatio_ros.commands import options
from inspatio_ros.errors import ConfigurationError

#: The size that the render generator is measured at unless another is asked for: the method's own.
RENDER_SIZE = (832, 480)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `inspatio bench`."""
    options.add_world(parser, generator=None)
    parser.add_argument('--generator', nargs='+', default=['render', 'nano'], metavar='NAME',
                        help='render, nano, 1.3b (default: render nano)')
    parser.add_argument('--frames', type=options.count, default=120, help='frames to time, at least (default: 120)')
    parser.add_argument('--json', metavar='FILE', help='write all figures to this file')
    parser.add_argument('--soak', type=options.positive, metavar='SECONDS',
                        help='run for so long at the frame rate; compare memory after a third of it and at the end')
    parser.add_argument('--ros', action='store_true', help='measure the node: overhead a frame, frames lost on the way')
    parser.add_argument('--compare', nargs=2, metavar=('A', 'B'), help='show two earlier results side by side')


def run(args: argparse.Namespace) -> int:
    """Measure what was asked for, print it, and write it."""
    if args.compare:
        print(compare(*(_read(path) for path in args.compare)))
        return 0
    from inspatio_ros.evaluation.benchmark import machine
    result: dict[str, Any] = {'machine': machine()}
    if args.ros:
        result['ros'] = _measure_ros(args)
    else:
        result['soak' if args.soak else 'generators'] = [_measure(args, name) for name in args.generator]
    if args.json:
        from inspatio_ros.evaluation.pictures import write_bytes
        write_bytes(args.json, (json.dumps(result, indent=2) + '\n').encode())
    return 0


def _measure(args: argparse.Namespace, generator: str) -> dict[str, Any]:
    from inspatio_ros.demo.paths import PERIOD, scripted_twist
    from inspatio_ros.evaluation import benchmark
    from inspatio_ros.reference import open_reference
    from inspatio_ros.simulator import WorldSimulator
    width, height = args.size or (RENDER_SIZE if generator == 'render' else (None, None))
    reference = open_reference(args.reference)
    simulator = WorldSimulator(reference, generator, width, height, args.seed, args.device, weights=args.weights)
    path = benchmark.drive(reference, simulator.frame_rate, lambda time: scripted_twist(time % PERIOD, PERIOD))
    try:
        if args.soak:
            return benchmark.soak(simulator, path, args.soak, _tell_memory)
        figures = benchmark.measure(simulator, path, args.frames)
        print(table(figures), flush=True)
        return figures
    finally:
        simulator.close()


def _tell_memory(seconds: float, mib: float) -> None:
    print(f'{seconds:6.0f} s  {mib:8.1f} MiB', flush=True)


def table(figures: dict[str, Any]) -> str:
    """Lay out one generator's figures for people."""
    lines = [f'{figures["generator"]} on {figures["reference"]}, {figures["width"]}x{figures["height"]}, '
             f'{figures["device"]}: {figures["frames_per_second"]:.1f} frames per second '
             f'({figures["real_time_factor"]:.2f} x its {figures["frame_rate"]:g})']
    for stage, value in figures['stages_ms_per_frame'].items():
        lines.append(f'  {stage:12}{value["median"]:9.2f} ms a frame (p95 {value["p95"]:.2f})')
    first, peak = figures['first_frame_ms'], figures['memory_mib']
    lines.append(f'  pose to first frame {first["median"]:.0f} ms (p95 {first["p95"]:.0f}), peak memory '
                 + ', '.join(f'{value:.0f} MiB {name}' for name, value in peak.items()))
    return '\n'.join(lines)


def compare(a: dict[str, Any], b: dict[str, Any]) -> str:
    """Lay out two results side by side: every figure that both have, and how B stands to A."""
    left, right = dict(_flat(a)), dict(_flat(b))
    shared = [name for name in left if name in right]
    if not shared:
        raise ConfigurationError('the two results have no figure in common; compare results of the same generators')
    width = max(len(name) for name in shared)
    lines = [f'{"":{width}} {"A":>12} {"B":>12} {"B/A":>8}']
    for name in shared:
        ratio = f'{right[name] / left[name]:8.3f}' if left[name] else f'{"":8}'
        lines.append(f'{name:{width}} {left[name]:12.3f} {right[name]:12.3f} {ratio}')
    return '\n'.join(lines)


def _flat(value: Any, name: str = '') -> list[tuple[str, float]]:
    """List the numbers of nested JSON with dotted names; generators go by theirs."""
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return []
    if isinstance(value, (int, float)):
        return [(name, float(value))]
    items = value.items() if isinstance(value, dict) else ((_label(entry, i), entry) for i, entry in enumerate(value))
    return [pair for key, entry in items for pair in _flat(entry, f'{name}.{key}' if name else str(key))]


def _label(entry: Any, index: int) -> str:
    if isinstance(entry, dict) and 'generator' in entry:
        size = f'@{entry["width"]}x{entry["height"]}' if 'width' in entry else ''
        return f'{entry["generator"]}{size}'
    return str(index)


def _read(path: str) -> dict[str, Any]:
    try:
        content = json.loads(Path(path).read_text())
    except OSError as error:
        raise ConfigurationError(f'cannot read {path}: {error.strerror}') from error
    except ValueError as error:
        raise ConfigurationError(f'{path} is no result of inspatio bench: {error}') from error
    if not isinstance(content, dict) or 'machine' not in content:
        raise ConfigurationError(f'{path} is no result of inspatio bench')
    return content
