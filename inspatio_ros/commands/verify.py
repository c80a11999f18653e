# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Replay files of tensors that the released code computed, and say how far apart the two are.

Prints the worst comparison of each file against its tolerance; exit code 1 if one is beyond.
"""

from __future__ import annotations

import argparse
import sys

from inspatio_ros.errors import InspatioError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `inspatio verify`."""
    parser.add_argument('files', nargs='+', metavar='FILE', help='golden files, .safetensors or .json')
    parser.add_argument('--device', default='auto', help="'auto', 'cpu' or 'cuda' (default: auto)")
    parser.add_argument('--dtype', default='float32', help='float32, float64 or bfloat16 (default: float32)')


def run(args: argparse.Namespace) -> int:
    """Replay every file and print; 1 if an error is beyond its tolerance, or a file cannot be replayed."""
    from inspatio_ros.simulator import resolve_device
    from inspatio_ros.verify import format_table, verify_file
    device = resolve_device(args.device)
    results, failures = [], []
    for path in args.files:
        try:
            results.append(verify_file(path, device, args.dtype))
        except InspatioError as error:
            failures.append(error)
    if results:
        print(format_table(results))
        print(f'on {device}, {args.dtype}')
    for error in failures:
        print(f'inspatio: error: {error}', file=sys.stderr)
    return 1 if failures or not all(result.passed for result in results) else 0
