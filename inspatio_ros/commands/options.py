# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Options and output folders that several commands share."""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from inspatio_ros.errors import ConfigurationError
from inspatio_ros.generators import LARGEST_SEED

#: The last ROS domain that has ports: 7400 + 250 * ID, and those that follow it, lie below 65536.
LAST_DOMAIN = 232
#: What begins the name of a folder in which results are put together.
_PARTIAL = '.partial.'


def size(text: str) -> tuple[int, int]:
    """Read WIDTHxHEIGHT, for example 192x128."""
    width, cross, height = text.lower().partition('x')
    if not (cross and width.isdigit() and height.isdigit() and int(width) and int(height)):
        raise argparse.ArgumentTypeError(f'{text!r} is not WIDTHxHEIGHT, for example 192x128')
    return int(width), int(height)


def positive(text: str) -> float:
    """Read a number above zero."""
    try:
        value = float(text)
    except ValueError:
        value = 0.
    if not 0. < value < float('inf'):
        raise argparse.ArgumentTypeError(f'{text!r} is not a number above zero')
    return value


def count(text: str) -> int:
    """Read a whole number above zero."""
    if not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f'{text!r} is not a whole number above zero')
    return int(text)


def seed(text: str) -> int:
    """Read a seed, within what the node's parameter may be."""
    if not text.isdigit() or int(text) > LARGEST_SEED:
        raise argparse.ArgumentTypeError(f'{text!r} is not a whole number from 0 to {LARGEST_SEED}')
    return int(text)


def domain(text: str) -> int:
    """Read a ROS domain's number."""
    if not text.isdigit() or int(text) > LAST_DOMAIN:
        raise argparse.ArgumentTypeError(f'{text!r} is not a ROS domain, a whole number from 0 to {LAST_DOMAIN}')
    return int(text)


def add_world(parser: argparse.ArgumentParser, generator: str | None, own_size: str = "the generator's own") -> None:
    """Add the options that say which world to open: recording, generator, size, weights, seed, device."""
    parser.add_argument('--reference', default='sample', metavar='DIR',
                        help="an RGB-D recording's folder, or 'sample' for the built-in room (default: sample)")
    if generator:
        parser.add_argument('--generator', default=generator, metavar='NAME',
                            help=f'render, nano or 1.3b (default: {generator})')
    parser.add_argument('--size', type=size, metavar='WxH',
                        help=f'image size, multiples of 16 (default: {own_size})')
    parser.add_argument('--speed', default='exact', metavar='NAME',
                        help='how nano and 1.3b are made fast: plain, exact, compiled, fast, float8 (default: exact)')
    parser.add_argument('--texture', action='store_true',
                        help='texture in regions that are made up, by nano: they look more like the scene, and are '
                             'farther from it pixel by pixel')
    parser.add_argument('--weights', metavar='DIR', help='folder of the weights that are not in the package')
    parser.add_argument('--seed', type=seed, default=0,
                        help='same seed, same frames, on a GPU but for rounding (default: 0)')
    parser.add_argument('--device', default='auto', help="'auto', 'cpu' or 'cuda' (default: auto)")


@contextmanager
def output_folder(path: str | Path, known: Sequence[str], force: bool) -> Iterator[Path]:
    """Give a folder to write into, and move what it holds to `path` when the block ends well.

    It lies in `path` where that exists, for that may be a disk of its own, and beside it elsewhere.

    Args:
        path: the folder to be made; it may exist if it is empty, or with `force`.
        known: names inside it that are ours to replace.
        force: replace those of an earlier run; whatever else lies there is never touched.

    Raises:
        ConfigurationError: the folder cannot be written, or holds files already.

    """
    path = Path(path)
    _check_output(path, known, force)
    above = _missing_above(path)
    partial = None
    try:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = Path(tempfile.mkdtemp(prefix=_PARTIAL, dir=path if path.is_dir() else path.parent))
            partial.chmod(0o755)
        except OSError as error:
            raise ConfigurationError(f'cannot write the output folder {path}: {error.strerror or error}') from error
        yield partial
        try:
            _move_into(partial, path)
        except OSError as error:
            raise ConfigurationError(f'cannot write the output folder {path}: {error.strerror or error}') from error
    finally:
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)
        if not path.exists():
            _remove_empty(above)


def _missing_above(path: Path) -> list[Path]:
    """List the folders above a path that are still to be made, the innermost first."""
    return [folder for folder in path.parents if not folder.exists()]


def _remove_empty(folders: list[Path]) -> None:
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()


def _check_output(path: Path, known: Sequence[str], force: bool) -> None:
    if not path.exists():
        file = next((folder for folder in path.parents if folder.exists() and not folder.is_dir()), None)
        if file is not None:
            raise ConfigurationError(f'cannot write the output folder {path}: {file} is a file')
        return
    if not path.is_dir():
        raise ConfigurationError(f'the output {path} is a file; name a folder')
    if not os.access(path, os.W_OK):
        raise ConfigurationError(f'cannot write the output folder {path}: permission denied')
    # What a run that was killed left of its own is no result, and in nobody's way.
    there = sorted(entry.name for entry in path.iterdir() if not entry.name.startswith(_PARTIAL))
    if there and not force:
        raise ConfigurationError(f'the output folder {path} is not empty (it holds {there[0]}); '
                                 'name another one, or use --force to replace an earlier result')
    strange = [name for name in there if name not in known]
    if strange:
        raise ConfigurationError(f'the output folder {path} holds {strange[0]}, which is no earlier result of this '
                                 'command; name another folder')


def _move_into(partial: Path, path: Path) -> None:
    path.mkdir(exist_ok=True)
    for entry in sorted(partial.iterdir()):
        target = path / entry.name
        if target.is_symlink():
            target.unlink()
        elif target.is_dir():
            shutil.rmtree(target)
        os.replace(entry, target)
