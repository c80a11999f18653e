# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Replay tensors that the released code computed, on this machine's device, and say how far apart the two are.

What a file holds follows from its metadata, and sizes from its metadata or its tensors, so that files of other sizes
than the ones the tests use work too. With a low-precision type the yardstick is what the released code itself loses
by it; what has no yardstick in its file is replayed in float32.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from inspatio_ros.errors import ConfigurationError, WeightsError
from inspatio_ros.golden import Golden, Item, Result
from inspatio_ros.replay import JSON_KINDS, TENSOR_KINDS

__all__ = ['DTYPES', 'Item', 'Result', 'format_table', 'verify', 'verify_file']

DTYPES = {'float32': torch.float32, 'float64': torch.float64, 'bfloat16': torch.bfloat16}


@torch.no_grad()
def verify_file(path: str | Path, device: str = 'cpu', dtype: str = 'float32') -> Result:
    """Replay one file.

    Raises:
        WeightsError: the file is missing, damaged, or lacks what a file of its kind holds.
        ConfigurationError: the file is of no kind that is known, or the type is not one of DTYPES.

    """
    path = Path(path)
    if dtype not in DTYPES:
        raise ConfigurationError(f'type {dtype!r} is unknown; choose one of {", ".join(DTYPES)}')
    if path.suffix == '.json':
        content = _read_json(path)
        kind, replay = _kind(path, content.get('what', ''), JSON_KINDS)
        try:
            return Result(path, kind, tuple(replay(content)))
        except KeyError as error:
            raise WeightsError(f'{path} lacks {error}, which a file of its kind holds') from error
    golden = Golden(path, torch.device(device), DTYPES[dtype])
    kind, replay = _kind(path, golden.metadata.get('what', ''), TENSOR_KINDS)
    # Float32 means float32: convolutions on a GPU would be rounded to ten bits otherwise.
    cudnn = torch.backends.cudnn
    with cudnn.flags(enabled=cudnn.enabled, benchmark=cudnn.benchmark, deterministic=cudnn.deterministic,
                     allow_tf32=False):
        items = tuple(replay(golden))
        if not items:
            kind, items = f'{kind} (float32)', tuple(replay(Golden(path, torch.device(device), torch.float32)))
    return Result(path, kind, items)


def verify(files: Iterable[str | Path], device: str = 'cpu', dtype: str = 'float32') -> list[Result]:
    """Replay files one after the other; see verify_file."""
    return [verify_file(path, device, dtype) for path in files]


def format_table(results: Iterable[Result]) -> str:
    """Lay the results out as a table of text: the worst comparison of each file against its tolerance."""
    rows = [('file', 'kind', 'compared', 'worst', 'error', 'tolerance', '')]
    for result in results:
        worst = result.worst
        rows.append((result.file.name, result.kind, str(len(result.items)), worst.name, f'{worst.error:.2g}',
                     f'{worst.tolerance:.2g}', 'ok' if result.passed else 'BEYOND'))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return '\n'.join('  '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
                     for row in rows)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except OSError as error:
        raise WeightsError(f'{path} cannot be read ({error.strerror}); name an existing file') from error
    except ValueError as error:
        raise WeightsError(f'{path} is truncated or not JSON ({error}); fetch it again') from error
    if not isinstance(content, dict):
        raise ConfigurationError(f'{path} is JSON, but of no kind that can be verified')
    return content


def _kind(path: Path, what: str, kinds: dict[str, tuple[str, Any]]) -> tuple[str, Any]:
    for beginning, kind in kinds.items():
        if what.startswith(beginning):
            return kind
    known = ', '.join(name for name, _ in (*TENSOR_KINDS.values(), *JSON_KINDS.values()))
    raise ConfigurationError(f'{path} is of no kind that can be verified; known are: {known}')
