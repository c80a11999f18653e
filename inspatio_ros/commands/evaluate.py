# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Measure a generator on a fixed suite of paths whose truth is known, beside the baselines.

Writes metrics.json and report.html (one page with plots and pictures, everything inside), and prints a table. The
suites: scenes (paths that leave the recording), memory (what only the cache knows), roam (turns, and 1000 frames round
and round), office (frames held out of the recording that --reference names).
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from inspatio_ros.commands import options
from inspatio_ros.errors import ConfigurationError

if TYPE_CHECKING:
    from inspatio_ros.evaluation.suites import Suite


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `inspatio evaluate`."""
    parser.add_argument('--suite', required=True, metavar='NAME', help='scenes, memory, roam or office')
    parser.add_argument('--generator', default='nano', metavar='NAME', help='render, nano or 1.3b (default: nano)')
    parser.add_argument('--output', default='out/evaluate', metavar='DIR',
                        help='where to write (default: out/evaluate)')
    parser.add_argument('--force', action='store_true', help='replace an earlier result in the output folder')
    parser.add_argument('--reference', metavar='DIR', help='the recording that the suite office holds frames out of')
    parser.add_argument('--weights', metavar='DIR', help='folder of the weights that are not in the package')
    parser.add_argument('--clips', type=options.count, metavar='N', help="clips to run (default: the suite's own)")
    parser.add_argument('--ablate', nargs='+', metavar='NAME',
                        help='measure the generator also with no_reference, no_history, no_cache or no_render '
                             '(default: what the suite asks for)')
    parser.add_argument('--texture', action=argparse.BooleanOptionalAction,
                        help='measure nano also with texture in what is made up (default: the suite scenes alone)')
    parser.add_argument('--inpainter', metavar='FILE', help='measure this convolutional in-painter among the baselines')
    parser.add_argument('--features', metavar='DIR',
                        help='folder of the nano weights in whose latents distances are taken (default: the package)')
    parser.add_argument('--size', type=options.size, metavar='WxH',
                        help="image size, multiples of 16 (default: the generator's own; render 192x128)")
    parser.add_argument('--seed', type=options.seed, default=0, help="seed of the generator's noise (default: 0)")
    parser.add_argument('--device', default='auto', help="'auto', 'cpu' or 'cuda' (default: auto)")


def run(args: argparse.Namespace) -> int:
    """Measure, write and print; targets that are missed are said, and are no error."""
    from inspatio_ros.evaluation.candidates import open_candidates
    from inspatio_ros.evaluation.inpainter import open_inpainter
    from inspatio_ros.evaluation.latents import open_autoencoder
    from inspatio_ros.evaluation.protocol import Setting, evaluate
    from inspatio_ros.evaluation.report import OUTPUTS, table, write_report
    from inspatio_ros.evaluation.suites import TEXTURE
    from inspatio_ros.simulator import resolve_device
    if args.texture and args.generator == 'render':
        raise ConfigurationError("the generator 'render' makes nothing up that could get texture; leave --texture out")
    suite, device = _suite(args), resolve_device(args.device)
    with options.output_folder(args.output, OUTPUTS, args.force) as folder:
        candidates = open_candidates(args.generator, _ablations(args, suite), args.weights, args.size, device,
                                     suite.texture if args.texture is None else args.texture)
        if args.texture and not any(label.endswith(TEXTURE) for label in candidates):
            raise ConfigurationError('the weights hold nothing that gives texture; leave --texture out')
        setting = Setting(args.seed, device, open_inpainter(args.inpainter, device) if args.inpainter else None,
                          open_autoencoder(args.features, device), lambda line: print(line, flush=True))
        result = evaluate(suite, candidates, setting)
        found = write_report(result, folder)
    print(table(result.figures, found))
    print(f'written: {args.output}')
    return 0


def _suite(args: argparse.Namespace) -> Suite:
    from inspatio_ros.evaluation.suites import open_suite
    from inspatio_ros.reference import open_reference
    reference = open_reference(args.reference) if args.reference else None
    return open_suite(args.suite, args.clips, reference)


def _ablations(args: argparse.Namespace, suite: Suite) -> tuple[str, ...]:
    if args.ablate is None:
        return suite.ablations if args.generator != 'render' else ()
    if len(set(args.ablate)) != len(args.ablate):
        raise ConfigurationError(f'--ablate names {" ".join(args.ablate)}; name each ablation once')
    return tuple(args.ablate)
