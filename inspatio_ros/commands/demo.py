# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Drive a robot through a recording and record what its camera sees.

Starts the node in one process, drives it with cmd_vel from a second, and records every topic from a third. Writes
bag/ (rosbag2, mcap), video.mp4, contact_sheet.png and summary.json. Exit code 0 only if the node lived, every topic
arrived, and 95 % of the frames that the rate asks for came in order.
"""

from __future__ import annotations

import argparse
from typing import Any

from inspatio_ros.commands import options

OUTPUTS = ('bag', 'video.mp4', 'contact_sheet.png', 'summary.json')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `inspatio demo`."""
    options.add_world(parser, generator='nano', own_size="the generator's own; render 320x192")
    parser.add_argument('--output', default='out/demo', metavar='DIR',
                        help='where to write; an earlier demo there is replaced (default: out/demo)')
    parser.add_argument('--duration', type=options.positive, default=15., metavar='SECONDS',
                        help='how long to drive (default: 15)')
    parser.add_argument('--domain', type=options.domain, metavar='ID',
                        help='ROS_DOMAIN_ID to run in, to watch it in RViz (default: one that is free)')


def run(args: argparse.Namespace) -> int:
    """Run the demo; 0 if all it promises holds."""
    from inspatio_ros.demo.run import DemoError, DemoOptions, run_demo
    asked = DemoOptions(args.reference, args.generator, args.size, args.duration, args.weights, args.seed, args.device,
                        args.domain, args.speed, args.texture)
    with options.output_folder(args.output, OUTPUTS, force=True) as folder:
        summary = run_demo(asked, folder, lambda line: print(line, flush=True))
    print(describe(summary, args.output))
    if not summary['passed']:
        raise DemoError('; '.join(summary['problems']))
    return 0


def describe(summary: dict[str, Any], output: str) -> str:
    """Lay out the summary for people."""
    latency, psnr = summary['latency_ms'], summary['psnr_db']
    lines = [f'{summary["frames"]} frames in {summary["driving_s"]:.1f} s ({summary["rate_hz"]:.2f} Hz of '
             f'{summary["frame_rate"]:g}), stamp to receipt {latency["p50"]} ms (p95 {latency["p95"]})']
    if psnr:
        lines.append('PSNR against the truth: ' + ', '.join(
            f'{name.replace("_", " ")} {value} dB' for name, value in psnr['all'].items()))
    return '\n'.join([*lines, f'written: {output}'])
