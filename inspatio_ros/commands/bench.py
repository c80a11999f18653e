# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Measure speed and memory on this machine, warm, from camera poses to RGB on the host.

Each generator is timed in turn, every stage and all of it. --soak runs it for minutes and watches its memory instead;
--ros measures the node (with --soak: the node's memory while it is driven, every topic subscribed); --compare puts two
settings of speed side by side in one run, or shows two earlier results; --look-ahead does so for the render of the
coming block, made when it is due or one block ahead; --suite gpu measures all there is to know about
the large generator's speed, with random weights (docs/performance.md).
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inspatio_ros.commands import options
from inspatio_ros.errors import ConfigurationError
from inspatio_ros.generators import check_name

if TYPE_CHECKING:
    import numpy as np

    from inspatio_ros.demo.processes import Child
    from inspatio_ros.simulator import WorldSimulator

#: What describes a measurement and is no figure to compare.
SETTINGS = ('machine', 'width', 'height', 'frames', 'blocks', 'frame_rate', 'rate_hz', 'sent', 'received', 'seconds')

#: The size that the render generator is measured at unless another is asked for: the method's own.
RENDER_SIZE = (832, 480)

#: Blocks that are made without, then with, looking ahead: all but the last of a turn can have the next one rendered.
BLOCKS_OF_A_TURN = 6


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `inspatio bench`."""
    options.add_world(parser, generator=None, own_size="the generator's own; render 832x480")
    parser.add_argument('--generator', nargs='+', default=['render', 'nano'], metavar='NAME',
                        help='render, nano, 1.3b (default: render nano)')
    parser.add_argument('--frames', type=options.count, default=120, help='frames to time, at least (default: 120)')
    parser.add_argument('--json', metavar='FILE', help='write all figures to this file')
    parser.add_argument('--soak', type=options.positive, metavar='SECONDS',
                        help='run for so long at the frame rate; compare memory after a third of it and at the end')
    parser.add_argument('--ros', action='store_true',
                        help='measure the node: overhead a frame, frames lost on the way, of the render generator in '
                        'the sample whatever is named; with --soak the memory of the generators named')
    parser.add_argument('--compare', nargs=2, metavar=('A', 'B'),
                        help='two of plain, exact, compiled, fast, float8: measured in turn; or two earlier results')
    parser.add_argument('--look-ahead', action='store_true',
                        help='each generator without and with the coming block rendered ahead, in turn')
    parser.add_argument('--suite', choices=['gpu'], help='the large generator at every speed, within --seconds')
    parser.add_argument('--tiny', action='store_true', help='with --suite: a tiny size, which a CPU can take')
    parser.add_argument('--speeds', nargs='+', metavar='NAME', help='with --suite: only these')
    parser.add_argument('--seconds', type=options.positive, default=540.,
                        help='with --suite: start nothing after so long (default: 540)')


def run(args: argparse.Namespace) -> int:
    """Measure what was asked for, print it, and write it."""
    if args.json and not Path(args.json).parent.is_dir():
        # Before minutes are spent on figures that could not be kept.
        raise ConfigurationError(f'cannot write {args.json}: there is no folder {Path(args.json).parent}')
    for name in args.generator:
        check_name(name)
    if args.suite:
        return _suite(args)
    if args.compare and _are_files(args.compare):
        if args.json:
            raise ConfigurationError('--compare of two files writes no --json; leave it out')
        print(compare(*(_read(path) for path in args.compare)))
        return 0
    from inspatio_ros.evaluation.benchmark import machine
    from inspatio_ros.simulator import resolve_device
    result: dict[str, Any] = {'machine': machine(resolve_device(args.device))}
    if args.compare:
        result['speeds'] = _compare_speeds(args)
    elif args.look_ahead:
        result['look_ahead'] = [_compare_look_ahead(args, name) for name in args.generator]
    elif args.ros and not args.soak:
        result['node'] = _measure_node(args)
    else:
        kind, measure = (('generators', _measure) if not args.soak
                         else ('node_soak', _soak_node) if args.ros else ('soak', _soak))
        result[kind] = [measure(args, name) for name in args.generator]
    _write(args, result)
    return 0


def _write(args: argparse.Namespace, result: dict[str, Any]) -> None:
    if args.json:
        from inspatio_ros.evaluation.pictures import write_bytes
        write_bytes(args.json, (json.dumps(result, indent=2) + '\n').encode())


def _are_files(names: list[str]) -> bool:
    """Say whether --compare names files; names of speeds are looked up only if they are none."""
    if all(Path(name).is_file() for name in names):
        return True
    from inspatio_ros.star.speed import SPEEDS
    return not all(name in SPEEDS for name in names)


def _suite(args: argparse.Namespace) -> int:
    from inspatio_ros.demo.paths import scripted_twist
    from inspatio_ros.evaluation.benchmark import drive
    from inspatio_ros.evaluation.speed_suite import Plan, run_suite
    from inspatio_ros.reference import open_reference
    from inspatio_ros.simulator import resolve_device
    from inspatio_ros.star.speed import find_speed
    speeds = tuple(find_speed(name).name for name in args.speeds) if args.speeds else None
    plan = Plan.make(resolve_device(args.device), args.tiny, speeds, args.seconds)
    reference = open_reference(args.reference)
    result: dict[str, Any] = {}

    def keep(name: str, figures: Any) -> None:
        group, _, member = name.partition('.')
        if member:
            result.setdefault(group, {})[member] = figures
        else:
            result[group] = figures
        # After every part, so that a run that is cut short leaves what it found.
        _write(args, result)

    whole = run_suite(plan, reference, lambda rate: drive(reference, rate, lambda time: scripted_twist(time, math.inf)),
                      keep, lambda line: print(line, flush=True))
    return 0 if whole else 1


def _compare_speeds(args: argparse.Namespace) -> dict[str, Any]:
    from inspatio_ros.demo.paths import scripted_twist
    from inspatio_ros.evaluation.benchmark import drive
    from inspatio_ros.evaluation.speed_comparison import compare_speeds
    from inspatio_ros.reference import open_reference
    from inspatio_ros.simulator import WorldSimulator, resolve_device
    from inspatio_ros.star.pipeline import StarPipeline
    from inspatio_ros.star.speed import describe
    if args.compare[0] == args.compare[1]:
        raise ConfigurationError(f'--compare {args.compare[0]} with itself shows nothing; name two speeds')
    name = next((name for name in args.generator if name != 'render'), None)
    if name is None:
        raise ConfigurationError("--compare: the generator 'render' has one speed; name nano or 1.3b")
    device, (width, height) = resolve_device(args.device), args.size or (None, None)
    reference = open_reference(args.reference)
    simulators, reports = {}, {}
    for speed in args.compare:
        pipeline = StarPipeline.load(name, args.weights, device, width, height, speed=speed, texture=args.texture)
        simulators[speed] = WorldSimulator(reference, pipeline, seed=args.seed, device=device)
        reports[speed] = pipeline.speed_report
        print(f'{speed}: {describe(reports[speed])}', flush=True)
    figures = compare_speeds(simulators, lambda rate: drive(reference, rate, lambda time: scripted_twist(
        time, math.inf)), args.frames)
    print(compare(*figures.values()))
    psnr = figures[args.compare[1]]['psnr_db']
    print(f'images of {args.compare[1]}: ' + (f'{psnr:.1f} dB from those of {args.compare[0]}' if psnr
                                              else f'the same as those of {args.compare[0]}'))
    return {speed: {'report': reports[speed], **figures[speed]} for speed in args.compare}


def _compare_look_ahead(args: argparse.Namespace, generator: str) -> dict[str, Any]:
    from inspatio_ros.evaluation.speed_comparison import compare_speeds
    with _simulator(args, generator, False) as (alone, path), _simulator(args, generator, True) as (ahead, other_path):
        paths = iter((path, other_path))
        figures = compare_speeds({'alone': alone, 'ahead': ahead}, lambda _: next(paths), args.frames, BLOCKS_OF_A_TURN)
    print(f'{generator}: A renders each block when it is due, B one block ahead')
    print(compare(*figures.values()), flush=True)
    return {'generator': generator, **figures}


@contextmanager
def _simulator(args: argparse.Namespace, generator: str,
               look_ahead: bool | None = None) -> Iterator[tuple[WorldSimulator, Iterator[np.ndarray]]]:
    """Open what is to be measured, and a path through it."""
    from inspatio_ros.demo.paths import scripted_twist
    from inspatio_ros.evaluation.benchmark import drive
    from inspatio_ros.reference import open_reference
    from inspatio_ros.simulator import WorldSimulator
    width, height = args.size or (RENDER_SIZE if generator == 'render' else (None, None))
    reference = open_reference(args.reference)
    simulator = WorldSimulator(reference, generator, width, height, args.seed, args.device, weights=args.weights,
                               speed=args.speed, look_ahead=look_ahead, texture=_with_texture(args, generator))
    try:
        yield simulator, drive(reference, simulator.frame_rate, lambda time: scripted_twist(time, math.inf))
    finally:
        simulator.close()


def _measure(args: argparse.Namespace, generator: str) -> dict[str, Any]:
    from inspatio_ros.evaluation.benchmark import measure
    with _simulator(args, generator) as (simulator, path):
        figures = measure(simulator, path, args.frames)
    print(table(figures), flush=True)
    return figures


def _soak(args: argparse.Namespace, generator: str) -> dict[str, Any]:
    from inspatio_ros.evaluation.benchmark import soak
    with _simulator(args, generator) as (simulator, path):
        figures = soak(simulator, path, args.soak, _tell_memory)
    print(_growth_line(figures), flush=True)
    return figures


def _with_texture(args: argparse.Namespace, generator: str) -> bool:
    """Whether a generator gets texture: one run may measure several, and the render makes nothing up."""
    return args.texture and generator != 'render'


def _soak_node(args: argparse.Namespace, generator: str) -> dict[str, Any]:
    from inspatio_ros.demo.run import DemoOptions, drive_node
    from inspatio_ros.evaluation.benchmark import growth
    from inspatio_ros.memory import resident_mebibytes
    options = DemoOptions(args.reference, generator, args.size, args.soak, args.weights, args.seed, args.device,
                          speed=args.speed, texture=_with_texture(args, generator))
    samples = []

    def watch(elapsed: float, node: Child, _: Child) -> None:
        samples.append((elapsed, resident_mebibytes(node.pid)))
        _tell_memory(*samples[-1])

    with tempfile.TemporaryDirectory(prefix='inspatio_bench_') as scratch:
        drive_node(options, None, Path(scratch), print, watch)
    figures = {'generator': generator, **growth(samples, args.soak)}
    print(_growth_line(figures), flush=True)
    return figures


def _measure_node(args: argparse.Namespace) -> dict[str, Any]:
    from inspatio_ros.demo.run import check_ros
    check_ros()
    from inspatio_ros.ros.bench import measure_delivery, measure_overhead
    width, height = args.size or RENDER_SIZE
    overhead = measure_overhead(width, height, args.frames)
    spent = overhead['overhead_ms']
    print(f'node at {width}x{height}, every topic subscribed: {spent["median"]:.2f} ms a frame '
          f'(p95 {spent["p95"]:.2f}, CPU {spent["cpu"]:.2f})', flush=True)
    delivery = measure_delivery(width, height)
    lost = ', '.join(f'{count} {topic}' for topic, count in delivery['lost'].items())
    latency = delivery['latency_ms']
    print(f'to another process at {delivery["rate_hz"]:g} Hz for {delivery["seconds"]:g} s: lost {lost} of '
          f'{delivery["sent"]}; {latency["median"]} ms (p95 {latency["p95"]})', flush=True)
    return {'overhead': overhead, 'delivery': delivery}


def _growth_line(figures: dict[str, Any]) -> str:
    return (f'{figures["generator"]}: {figures["early_mib"]:.0f} MiB after {figures["early_s"]:.0f} s, '
            f'{figures["late_mib"]:.0f} MiB after {figures["late_s"]:.0f} s ({figures["growth_percent"]:+.2f} %)')


def _tell_memory(seconds: float, mib: float) -> None:
    print(f'{seconds:6.0f} s  {mib:8.1f} MiB', flush=True)


def table(figures: dict[str, Any]) -> str:
    """Lay out one generator's figures for people."""
    lines = [f'{figures["generator"]} on {figures["reference"]}, {figures["width"]}x{figures["height"]}, '
             f'{figures["device"]}: {figures["frames_per_second"]:.1f} frames per second '
             f'({figures["real_time_factor"]:.2f} x its {figures["frame_rate"]:g})']
    for stage, value in figures['stages_ms_per_frame'].items():
        lines.append(f'  {stage:12}{value["median"]:9.2f} ms a frame (p95 {value["p95"]:.2f})')
    first, block, peak = figures['first_frame_ms'], figures['block_ms'], figures['memory_mib']
    lines.append(f'  pose to first frame {first["median"]:.0f} ms (p95 {first["p95"]:.0f}), to the last of its block '
                 f'{block["median"]:.0f} ms (p95 {block["p95"]:.0f}), peak memory '
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
    return [pair for key, entry in items if key not in SETTINGS
            for pair in _flat(entry, f'{name}.{key}' if name else str(key))]


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
