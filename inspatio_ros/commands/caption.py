# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Embed the caption of your recording for the released weights, and store it beside them as text.safetensors.

Needs umT5's encoder and tokenizer in the folder of the weights (see weights/README.md) and the packages transformers,
sentencepiece and ftfy. Every later run reads what is stored, and needs none of them.
"""

from __future__ import annotations

import argparse
import os

from inspatio_ros.errors import ConfigurationError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `inspatio caption`."""
    parser.add_argument('caption', metavar='CAPTION', help="what the recording shows, such as 'an office with desks'")
    parser.add_argument('--weights', metavar='DIR', help='folder of the released weights (default: INSPATIO_WEIGHTS)')
    parser.add_argument('--force', action='store_true', help='replace the caption that is stored there')
    parser.add_argument('--device', default='auto', help="'auto', 'cpu' or 'cuda' (default: auto)")


def run(args: argparse.Namespace) -> int:
    """Embed and store; ConfigurationError where a caption is stored already, or there is none to store."""
    from inspatio_ros.simulator import resolve_device
    from inspatio_ros.star.checkpoint import find_folder
    from inspatio_ros.star.pipeline import TEXT_FILES, store_caption
    if not args.caption.strip():
        raise ConfigurationError('the caption is empty; say what the recording shows')
    folder = find_folder('1.3b', args.weights)
    stored = folder / TEXT_FILES[0]
    if stored.exists() and not args.force:
        raise ConfigurationError(f'{stored} holds a caption already; give --force to replace it')
    if not os.access(folder, os.W_OK):
        # Before minutes are spent on an embedding that could not be kept.
        raise ConfigurationError(f'{folder} cannot be written; name a folder of weights that can')
    print(f'written: {store_caption(folder, args.caption, device=resolve_device(args.device))}')
    return 0
